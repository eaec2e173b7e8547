//go:build linux

package descriptors

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLeft(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
	_, open := state()
	few := was
	few.Cur = uint64(open) + 60 //nolint:gosec // a descriptor is not negative
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	for due := -1; ; due-- {
		left, spare := Left()
		if want := int(few.Cur) / 8; spare != want { //nolint:gosec // a small number
			t.Fatalf("%d are to be kept, not %d", spare, want)
		}
		if due < 0 && left < spare {
			due = left // all below the next one are in use: what is said is so
		}
		f, err := os.Open("/dev/null")
		if err == nil {
			t.Cleanup(func() { _ = f.Close() })
			continue
		}
		if left > 1 || due < 0 || due > 1 { // the poller's own come with the first file
			t.Errorf("%d are said to be left where there is none, %d of those that were to be kept", left, due)
		}
		return
	}
}
