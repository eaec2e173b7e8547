package faulttest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Clock is the wall clock of one program, which can be set; the machine's stays as it
// is, and so does the count of time that goes by (CLOCK_MONOTONIC), as when somebody sets
// a machine's clock.
type Clock struct {
	Read  atomic.Int64 // how often the program has looked
	ahead atomic.Int64 // ns
}

// Set puts the clock so far ahead of the machine's from now on, or behind it.
func (c *Clock) Set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// Start starts the program with this clock, in place of cmd.Start. Only root may. The
// test must end the program.
func (c *Clock) Start(t testing.TB, cmd *exec.Cmd) error {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Ptrace = true
	return asks(t, cmd, []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: atNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLOCK_GETTIME, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: atFirstArgument},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.CLOCK_REALTIME, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: retUserNotif},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
	}, c.tells, func() error { return withoutVDSO(cmd.Process.Pid) })
}

// tells writes the time where the program wants to have it.
func (c *Clock) tells(asked notice) answer {
	c.Read.Add(1)
	now, err := unix.TimeToTimespec(time.Now().Add(time.Duration(c.ahead.Load())))
	if err != nil {
		return answer{err: -int32(unix.EOVERFLOW)}
	}
	text := unsafe.Slice((*byte)(unsafe.Pointer(&now)), unsafe.Sizeof(now))
	local := []unix.Iovec{{Base: &text[0]}}
	local[0].SetLen(len(text))
	remote := []unix.RemoteIovec{{Base: uintptr(asked.args[1]), Len: len(text)}}
	if _, err := unix.ProcessVMWritev(int(asked.pid), local, remote, 0); err != nil {
		return answer{err: -int32(unix.EFAULT)}
	}
	return answer{}
}

// Kinds of entries in the auxiliary vector (getauxval(3)).
const (
	auxNone, auxIgnore = 0, 1
	auxVDSO            = 33 // AT_SYSINFO_EHDR
)

// withoutVDSO has a program that is stopped at its first instruction make a system call
// whenever it looks at a clock: by itself it reads the time from memory that the kernel
// shares with it (vdso(7)), where nobody can be asked. Then the program goes on.
func withoutVDSO(pid int) error {
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || !status.Stopped() {
		return fmt.Errorf("wait for the program's start: %v, %w", status, err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:])) // from field 3 of proc_pid_stat(5)
	stack, err := strconv.ParseInt(fields[28-3], 10, 64)
	if err != nil {
		return err
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close() //nolint:errcheck // what was written is read below
	if err := hide(memory, stack); err != nil {
		return err
	}
	return unix.PtraceDetach(pid)
}

// hide takes the vDSO from the auxiliary vector. The stack begins with argc, arguments,
// a zero, environment, a zero; then come pairs of words.
func hide(memory *os.File, stack int64) error {
	const word = 8
	at := func(off int64) (uint64, error) {
		var w [word]byte
		_, err := memory.ReadAt(w[:], off)
		return binary.NativeEndian.Uint64(w[:]), err
	}
	argc, err := at(stack)
	if err != nil {
		return err
	}
	off := stack + int64(argc+2)*word
	for w := uint64(1); w != 0; off += word {
		if w, err = at(off); err != nil {
			return err
		}
	}
	for ; ; off += 2 * word {
		kind, err := at(off)
		switch {
		case err != nil:
			return err
		case kind == auxNone:
			return errors.New("the program has no vDSO")
		case kind == auxVDSO:
			_, err := memory.WriteAt(binary.NativeEndian.AppendUint64(nil, auxIgnore), off)
			return err
		}
	}
}
