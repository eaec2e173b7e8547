package faulttest

import (
	"os/exec"
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
	return asks(t, cmd, []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: atNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FSYNC, Jt: 2},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FDATASYNC, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
		{Code: unix.BPF_RET | unix.BPF_K, K: retUserNotif},
	}, func(notice) answer {
		d.Synced.Add(1)
		<-time.After(time.Duration(d.takes.Load()))
		return answer{flags: letThrough}
	}, nil)
}
