package faulttest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A SlowDisk makes every fsync and fdatasync of a program take time.
type SlowDisk struct {
	Synced atomic.Int64 // how many there were
	takes  atomic.Int64 // ns
}

// Takes sets how long each one takes that begins from now on.
func (d *SlowDisk) Takes(long time.Duration) { d.takes.Store(int64(long)) }

// Start starts the program on such a disk, in place of cmd.Start. Only root may. The test
// must end the program.
func (d *SlowDisk) Start(t testing.TB, cmd *exec.Cmd) error {
	t.Helper()
	return asks(t, cmd, syncs, func(notice) answer {
		d.Synced.Add(1)
		<-time.After(time.Duration(d.takes.Load()))
		return answer{flags: letThrough}
	}, nil)
}

// syncs asks at every fsync and fdatasync.
var syncs = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: atNumber},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FSYNC, Jt: 2},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FDATASYNC, Jt: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
	{Code: unix.BPF_RET | unix.BPF_K, K: retUserNotif},
}

// A FailingDisk answers a program's fsyncs of some of its files by EIO, as the kernel does
// once it could not write what it had taken.
type FailingDisk struct {
	Failed atomic.Int64 // how many there were
	files  atomic.Pointer[string]
}

// Break has every fsync fail, from now on, of what has a path that begins so.
func (d *FailingDisk) Break(files string) { d.files.Store(&files) }

// Repair lets every fsync through again.
func (d *FailingDisk) Repair() { d.files.Store(nil) }

// Start starts the program on such a disk, in place of cmd.Start. Only root may. The test
// must end the program.
func (d *FailingDisk) Start(t testing.TB, cmd *exec.Cmd) error {
	t.Helper()
	return asks(t, cmd, syncs, func(n notice) answer {
		file, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", n.pid, n.args[0]))
		if files := d.files.Load(); err == nil && files != nil && strings.HasPrefix(file, *files) {
			d.Failed.Add(1)
			return answer{err: -int32(unix.EIO)}
		}
		return answer{flags: letThrough}
	}, nil)
}
