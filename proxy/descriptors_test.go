//go:build linux

package proxy

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Before the process has no descriptor left, what is new is turned away.
func TestConnectionsLeaveDescriptors(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	set := func(to uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: to, Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { set(limit.Cur) })
	addr := serve(t, &Server{}, handlerFunc(echo))
	if err := third(addr); err != nil {
		t.Fatalf("while there are enough: %v", err)
	}
	for range 100 { // of which an eighth is more than a connection takes
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
	}
	used, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	set(uint64(len(used)) + 8)
	if err := third(addr); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("while there are few: %v", err)
	}
	set(limit.Cur)
	if err := third(addr); err != nil {
		t.Errorf("when there are enough again: %v", err)
	}
}
