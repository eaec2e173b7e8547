package descriptors

import (
	"math"

	"golang.org/x/sys/unix"
)

// state is the soft limit (RLIMIT_NOFILE) and how many descriptors are open, at the least.
// Linux says the number as the size of /proc/self/fd from 6.2 on (proc(5)). Before, it is the
// number that the next descriptor gets: the lowest that is free, so that all below it are open.
func state() (limit, open int) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return unlimited()
	}
	limit = int(min(l.Cur, math.MaxInt32))
	var info unix.Stat_t
	if err := unix.Stat("/proc/self/fd", &info); err == nil && info.Size > 0 {
		return limit, int(info.Size)
	}
	next, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil { // there is none left
		return limit, limit
	}
	_ = unix.Close(next) // nothing was written to it
	return limit, next
}
