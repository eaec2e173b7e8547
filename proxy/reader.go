package proxy

import (
	"errors"
	"fmt"
	"net"
	"sync"
)

// bufferSize is one read: two TLS records.
const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// reader reads runs of bytes into a buffer that it has only while there are bytes.
type reader struct {
	conn net.Conn
	base *Conn // the socket under conn; nil where there is none to wait on
	buf  *[bufferSize]byte
	held int // bytes at the front of buf that are shown again
	try  func(fd uintptr) bool

	// The result of the last try.
	n   int
	err error
}

func newReader(conn net.Conn) *reader {
	r := &reader{conn: conn, base: baseOf(conn)}
	if r.base != nil && r.base.raw == nil {
		r.base = nil
	}
	r.try = r.tryOnce
	return r
}

// read waits for bytes and returns them, after those that were kept. They are valid
// until the next call.
func (r *reader) read() ([]byte, error) {
	if r.base == nil {
		r.take()
		r.n, r.err = r.conn.Read(r.buf[r.held:])
	} else if err := r.base.raw.Read(r.try); err != nil {
		return nil, err // closed, or past the deadline
	}
	if r.n == 0 && r.err != nil {
		return nil, r.err
	}
	n := r.held + r.n
	return r.buf[:n], nil
}

// tryOnce is called by the runtime's poller when there may be bytes; false waits on.
func (r *reader) tryOnce(fd uintptr) bool {
	r.take()
	r.base.trying, r.base.fd = true, int(fd)
	r.n, r.err = r.conn.Read(r.buf[r.held:])
	r.base.trying = false
	if r.n == 0 && errors.Is(r.err, errAgain) {
		r.give()
		return false
	}
	return true
}

// keep leaves the last n bytes for the next read.
func (r *reader) keep(n int) error {
	if n > MaxHold {
		return errHolds(n)
	}
	end := r.held + r.n
	copy(r.buf[:], r.buf[end-n:end])
	r.held = n
	r.give()
	return nil
}

func errHolds(n int) error {
	return fmt.Errorf("an observer holds %d bytes back, more than %d", n, MaxHold)
}

func (r *reader) take() {
	if r.buf == nil {
		r.buf = buffers.Get().(*[bufferSize]byte) //nolint:forcetypeassert // the pool has nothing else
	}
}

func (r *reader) give() {
	if r.held == 0 {
		r.release()
	}
}

func (r *reader) release() {
	if r.buf != nil {
		buffers.Put(r.buf)
		r.buf = nil
	}
}
