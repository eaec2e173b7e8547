package faulttest

import (
	"errors"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A SlowDisk makes every fsync and fdatasync of a program take time, whatever library
// calls them: the kernel asks here before it lets one through (seccomp_unotify(2)).
type SlowDisk struct {
	Synced   atomic.Int64 // how many there were
	takes    atomic.Int64 // ns
	listener int
	ended    sync.WaitGroup
}

// Takes sets how long each one takes that begins from now on.
func (d *SlowDisk) Takes(long time.Duration) { d.takes.Store(int64(long)) }

// notice is struct seccomp_notif of linux/seccomp.h.
type notice struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

// answer is struct seccomp_notif_resp.
type answer struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// What golang.org/x/sys/unix does not have of linux/seccomp.h.
const (
	retUserNotif = 0x7fc00000 // SECCOMP_RET_USER_NOTIF
	retAllow     = 0x7fff0000 // SECCOMP_RET_ALLOW
	letThrough   = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

// Start starts the program on such a disk, in place of cmd.Start. Only root may. The test
// must end the program.
func (d *SlowDisk) Start(t testing.TB, cmd *exec.Cmd) error {
	t.Helper()
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the filter stays with the thread, and what it starts inherits it
		err := d.filter()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	if err := <-started; err != nil {
		return err
	}
	var failed error
	d.ended.Go(func() { failed = d.answers() })
	t.Cleanup(func() {
		d.ended.Wait()
		_ = unix.Close(d.listener)
		if failed != nil {
			t.Error(failed)
		}
	})
	return nil
}

// filter has the thread's own fsyncs, and those of what it starts, ask here.
func (d *SlowDisk) filter() error {
	number := uint32(0) // offset of nr in struct seccomp_data
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FSYNC, Jt: 2},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FDATASYNC, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
		{Code: unix.BPF_RET | unix.BPF_K, K: retUserNotif},
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errors.Join(errors.New("hold up the program's fsync (this test runs as root)"), errno)
	}
	d.listener = int(fd)
	return nil
}

// answers lets each one through after its time, until nobody is left who could ask.
func (d *SlowDisk) answers() error {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for {
		poll := []unix.PollFd{{Fd: int32(d.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if poll[0].Revents&unix.POLLIN == 0 {
			if poll[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 {
				return nil
			}
			continue
		}
		var asked notice
		if err := d.control(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&asked)); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) {
			continue // its thread has ended
		} else if err != nil {
			return err
		}
		d.Synced.Add(1)
		waiting.Go(func() {
			<-time.After(time.Duration(d.takes.Load()))
			// An error is of a thread that has ended.
			_ = d.control(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&answer{id: asked.id, flags: letThrough}))
		})
	}
}

func (d *SlowDisk) control(request uintptr, with unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.listener), request, uintptr(with)); errno != 0 {
		return errno
	}
	return nil
}
