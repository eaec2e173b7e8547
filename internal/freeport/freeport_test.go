package freeport

import (
	"net"
	"testing"
)

func TestPick(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		port, err := Pick()
		if err != nil || port < first || port > last {
			t.Fatalf("%d, %v", port, err)
		}
		seen[port] = true
	}
	if len(seen) < 45 {
		t.Errorf("%d ports in 50 tries", len(seen))
	}
}

func TestFree(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if Free(l.Addr().(*net.TCPAddr).Port) {
		t.Error("a port that is listened on counts as free")
	}
}
