package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// A Conn is a socket that can be waited on without a buffer, also through a
// tls.Conn on top of it, and whose first byte can be looked at. The server hands
// one to every handler; a protocol wraps the target's connection with TargetConn
// before it puts TLS on it. One goroutine reads at a time.
type Conn struct {
	net.Conn
	raw    syscall.RawConn // nil where the connection is no socket
	peeked []byte
	loops  *loops // of the server that accepted it; nil: it is relayed by goroutines

	closing sync.Mutex // held while the loop takes the socket, and by Close

	// Reader's, while it tries once instead of waiting.
	trying bool
	fd     int
}

// NewConn wraps c, once: a *Conn comes back as it is.
func NewConn(c net.Conn) *Conn {
	if c, ok := c.(*Conn); ok {
		return c
	}
	conn := &Conn{Conn: c}
	if s, ok := c.(syscall.Conn); ok {
		conn.raw, _ = s.SyscallConn()
	}
	return conn
}

// Peek waits for the next byte and leaves it to be read.
func (c *Conn) Peek() (byte, error) {
	if len(c.peeked) == 0 {
		var b [1]byte
		if _, err := io.ReadFull(c.Conn, b[:]); err != nil {
			return 0, err
		}
		c.peeked = b[:]
	}
	return c.peeked[0], nil
}

// Read reads what Peek left, then from the socket.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.peeked) > 0 {
		n := copy(p, c.peeked)
		c.peeked = c.peeked[n:]
		return n, nil
	}
	if !c.trying {
		return c.Conn.Read(p)
	}
	for {
		n, err := syscall.Read(c.fd, p)
		switch {
		case err == nil && n == 0 && len(p) > 0:
			return 0, io.EOF
		case err == nil:
			return n, nil
		case errors.Is(err, syscall.EAGAIN):
			return 0, errAgain
		case !errors.Is(err, syscall.EINTR):
			return 0, err
		}
	}
}

// Close may be called by anybody, at any time.
func (c *Conn) Close() error {
	c.closing.Lock()
	conn := c.Conn
	c.closing.Unlock()
	return conn.Close()
}

// CloseWrite tells the other side that nothing more comes.
func (c *Conn) CloseWrite() error { return closeWrite(c.Conn) }

// Reset closes c so that the other side sees an error, not an orderly end: what it
// got so far is not the whole.
func Reset(c net.Conn) error {
	base := baseOf(c)
	if base == nil {
		return c.Close()
	}
	if l, ok := base.Conn.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // where it fails the close is orderly, which is the lesser harm
	}
	return base.Conn.Close()
}

// CloseWrite ends the write side of c, and of the socket under its TLS.
func CloseWrite(c net.Conn) error {
	err := closeWrite(c)
	if base := baseOf(c); base != nil && base != c {
		err = errors.Join(err, base.CloseWrite())
	}
	return err
}

// closeWrite half-closes where the connection can.
func closeWrite(c net.Conn) error {
	if c, ok := c.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// baseOf finds the Conn under TLS; nil where there is none.
func baseOf(c net.Conn) *Conn {
	for {
		switch v := c.(type) {
		case *Conn:
			return v
		case interface{ NetConn() net.Conn }:
			c = v.NetConn()
		default:
			return nil
		}
	}
}

// again says that nothing is there to read. It is temporary, so that crypto/tls
// keeps the part of a record that it has and goes on later.
type again struct{}

var errAgain error = again{}

func (again) Error() string   { return "nothing to read yet" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }
