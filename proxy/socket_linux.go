package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A socket has left Go's poller. While a loop has it, Read takes from what the loop
// has read and Write collects for the loop to send, both without waiting, so that
// crypto/tls runs on it. Afterwards its owner writes and closes it as ever; where it
// has to wait, the socket goes back to Go's poller.
type socket struct {
	local, remote net.Addr

	// The loop's while it has the socket, then the owner's.
	looped    bool
	feed      []byte // read and not taken yet
	readErr   error  // what comes behind feed, errAgain included
	out       []byte // collected, or refused by the kernel
	half      bool   // the write side ends behind out
	readUntil time.Time
	sendUntil time.Time

	// mu guards the descriptor: it is never used after it was closed, when another
	// file may have its number. The loop needs no lock: while it has the socket the
	// descriptor stays open.
	mu     sync.Mutex
	fd     int
	lent   bool // to the loop
	shut   bool // by sever, or by Close while it was lent
	closed bool
	back   net.Conn // in Go's poller again
}

// leave takes c's socket out of Go's poller and lends it to a loop.
func (c *Conn) leave() (*socket, error) {
	c.closing.Lock()
	defer c.closing.Unlock()
	s := &socket{local: c.Conn.LocalAddr(), remote: c.Conn.RemoteAddr(), fd: -1, looped: true, lent: true, readErr: errAgain}
	var err error
	failed := c.raw.Control(func(fd uintptr) { s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(failed, err); err != nil {
		return nil, fmt.Errorf("take a socket: %w", err)
	}
	_ = c.Conn.Close() // the duplicate stays open
	c.Conn, c.raw = s, nil
	return s, nil
}

// release ends the loop's use.
func (s *socket) release() {
	s.looped, s.feed, s.out = false, nil, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lent = false
	if s.closed {
		_ = unix.Close(s.fd) // nothing is left to be lost
	}
}

// fill reads once into p, for Read.
func (s *socket) fill(p []byte) {
	for {
		n, errno := rawRead(s.fd, p)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			s.readErr = errAgain
		case errno != 0:
			s.readErr = errno
		case n == 0 && s.cut():
			s.readErr = net.ErrClosed
		case n == 0:
			s.readErr = io.EOF
		default:
			s.feed, s.readErr = p[:n], errAgain
		}
		return
	}
}

// flush sends what was collected, as far as the kernel takes it.
func (s *socket) flush() error {
	for len(s.out) > 0 {
		n, errno := rawWrite(s.fd, s.out)
		switch errno {
		case 0:
			s.out = s.out[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return nil
		default:
			return errno
		}
	}
	s.out = nil
	if s.half {
		s.half = false
		if err := unix.Shutdown(s.fd, unix.SHUT_WR); err != nil {
			return err
		}
	}
	return nil
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	if s.looped {
		if len(s.feed) == 0 {
			return 0, s.readErr
		}
		n := copy(p, s.feed)
		s.feed = s.feed[n:]
		return n, nil
	}
	conn, err := s.wait()
	if err != nil {
		return 0, err
	}
	return conn.Read(p)
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	if s.looped {
		s.out = append(s.out, p...)
		return len(p), nil
	}
	n, err := s.try(p)
	if err != nil || n == len(p) {
		return n, err
	}
	conn, err := s.wait()
	if err != nil {
		return n, err
	}
	m, err := conn.Write(p[n:])
	return n + m, err
}

// try writes what the kernel takes at once.
func (s *socket) try(p []byte) (n int, err error) {
	if !s.sendUntil.IsZero() && !time.Now().Before(s.sendUntil) {
		return 0, os.ErrDeadlineExceeded
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	if s.back != nil {
		return 0, nil
	}
	for n < len(p) {
		m, errno := rawWrite(s.fd, p[n:])
		switch errno {
		case 0:
			n += m
		case unix.EINTR:
		case unix.EAGAIN:
			return n, nil
		default:
			return n, errno
		}
	}
	return n, nil
}

// wait puts the socket into Go's poller, where its owner can wait.
func (s *socket) wait() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, net.ErrClosed
	case s.back != nil:
		return s.back, nil
	}
	file := os.NewFile(uintptr(s.fd), "socket")
	conn, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		s.closed = true
		return nil, fmt.Errorf("wait on a socket: %w", err)
	}
	s.back, s.fd = conn, -1
	return conn, errors.Join(conn.SetReadDeadline(s.readUntil), conn.SetWriteDeadline(s.sendUntil))
}

// Close implements net.Conn. Where a loop has the socket it meets its end.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	switch {
	case s.lent:
		s.shut = true
		return unix.Shutdown(s.fd, unix.SHUT_RDWR)
	case s.back != nil:
		return s.back.Close()
	}
	return unix.Close(s.fd)
}

// sever ends both directions under the loop's hands, where it does not act itself.
func (s *socket) sever() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lent {
		s.shut = true
		_ = unix.Shutdown(s.fd, unix.SHUT_RDWR) // fails where the other side has gone
	}
}

// cut reports that we ended it, and not the other side.
func (s *socket) cut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shut
}

// CloseWrite ends the write side.
func (s *socket) CloseWrite() error {
	if s.looped {
		s.half = true
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.back != nil:
		return closeWrite(s.back)
	}
	return unix.Shutdown(s.fd, unix.SHUT_WR)
}

// SetLinger is (*net.TCPConn).SetLinger.
func (s *socket) SetLinger(sec int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return net.ErrClosed
	case s.back != nil:
		if l, ok := s.back.(interface{ SetLinger(sec int) error }); ok {
			return l.SetLinger(sec)
		}
		return nil
	}
	return unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: int32(sec)})
}

// LocalAddr implements net.Conn.
func (s *socket) LocalAddr() net.Addr { return s.local }

// RemoteAddr implements net.Conn.
func (s *socket) RemoteAddr() net.Addr { return s.remote }

// SetDeadline implements net.Conn. A loop knows no deadlines.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (s *socket) SetReadDeadline(t time.Time) error {
	s.readUntil = t
	if s.back != nil {
		return s.back.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.sendUntil = t
	if s.back != nil {
		return s.back.SetWriteDeadline(t)
	}
	return nil
}

// Calls on descriptors that do not wait need not tell Go's scheduler, which would
// give their processor away and take part in every one of them.

func rawRead(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

func rawWrite(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

// rawWait is epoll_wait(2) without waiting.
func rawWait(epoll int, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}
