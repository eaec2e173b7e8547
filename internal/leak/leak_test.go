package leak

import (
	"strings"
	"testing"
	"time"
)

func TestFinds(t *testing.T) {
	before := goroutines()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { defer close(done); wait(stop) }()
	found := left(before, 50*time.Millisecond)
	if len(found) != 1 || !strings.Contains(found[0], "leak.wait(") {
		t.Errorf("found %q", found)
	}
	close(stop)
	<-done
	if found := left(before, Patience); len(found) != 0 {
		t.Errorf("found %q when it was over", found)
	}
}

func TestWaits(t *testing.T) {
	Check(t)
	stop := make(chan struct{})
	go wait(stop)
	t.Cleanup(func() { close(stop) })
}

func wait(c chan struct{}) { <-c }
