package faulttest

import (
	"errors"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notice is struct seccomp_notif of linux/seccomp.h: a system call that asks.
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

// What golang.org/x/sys/unix does not have of linux/seccomp.h, and the places in struct
// seccomp_data.
const (
	retUserNotif = 0x7fc00000 // SECCOMP_RET_USER_NOTIF
	retAllow     = 0x7fff0000 // SECCOMP_RET_ALLOW
	letThrough   = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE

	atNumber, atFirstArgument = 0, 16
)

// asks starts the program so that the system calls for which filter returns retUserNotif
// are answered here, whatever library makes them (seccomp_unotify(2)). started is called
// on the thread that started it. Only root may. The test must end the program.
func asks(t testing.TB, cmd *exec.Cmd, filter []unix.SockFilter, answers func(notice) answer, started func() error) error {
	t.Helper()
	listener, begun := 0, make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the filter stays with the thread, and what it starts inherits it
		var err error
		if listener, err = install(filter); err == nil {
			err = cmd.Start()
		}
		if err == nil && started != nil {
			err = started()
		}
		begun <- err
	}()
	if err := <-begun; err != nil {
		return err
	}
	var serving sync.WaitGroup
	var failed error
	over := make(chan struct{})
	serving.Go(func() { failed = serve(listener, answers, over) })
	t.Cleanup(func() {
		close(over)
		serving.Wait()
		_ = unix.Close(listener)
		if failed != nil {
			t.Error(failed)
		}
	})
	return nil
}

func install(filter []unix.SockFilter) (listener int, err error) {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return 0, errors.Join(errors.New("have system calls ask (this test runs as root)"), errno)
	}
	return int(fd), nil
}

// serve answers, each in a goroutine, until the program has ended.
func serve(listener int, answers func(notice) answer, over <-chan struct{}) error {
	var answering sync.WaitGroup
	defer answering.Wait()
	for {
		select {
		case <-over:
			return nil
		default:
		}
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 100); err != nil && !errors.Is(err, unix.EINTR) { // ms
			return err
		} else if n <= 0 || poll[0].Revents&unix.POLLIN == 0 {
			if n > 0 { // nobody is left who could ask
				return nil
			}
			continue
		}
		var asked notice
		if err := control(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&asked)); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) {
			continue // its thread has ended
		} else if err != nil {
			return err
		}
		answering.Go(func() {
			a := answers(asked)
			a.id = asked.id
			_ = control(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&a)) // an error is of a thread that has ended
		})
	}
}

func control(listener int, request uintptr, with unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), request, uintptr(with)); errno != 0 {
		return errno
	}
	return nil
}
