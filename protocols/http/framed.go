package http

import (
	"bufio"
	"bytes"
	"net"
	"strconv"
	"sync/atomic"

	"github.com/sallyport/sallyport/internal/contain"
)

// framed looks at the heads of HTTP/1 requests as they came. net/http takes what
// others refuse or read differently (a Content-Length beside chunked, folded lines,
// bare line feeds) and does not tell its handlers, so this does: after such a head
// bad is set. What is read is passed on as it is. One goroutine reads at a time.
type framed struct {
	net.Conn
	in   *bufio.Reader
	buf  []byte // was looked at: buf[read:ready] is passed on next, and behind it is what has no end yet
	read int
	// ready is up to where buf is judged, at where the line begins that is read now.
	ready, at int
	next      func(*framed) error
	left      int64 // of a body, or of a chunk with its line end
	bad       atomic.Bool
}

const (
	maxLine  = maxHead + 8<<10 // beyond it net/http has answered 431
	keptHead = 2 << 10         // a longer buffer is not kept for the next head
)

func newFramed(c net.Conn) *framed {
	return &framed{Conn: c, in: bufio.NewReader(c), next: (*framed).head}
}

// Read gives a head once it is whole, and bodies as they come. A goroutine of net/http's
// own reads too, which contains no panic.
func (f *framed) Read(p []byte) (n int, err error) {
	defer contain.Panic(&err)
	if f.in == nil {
		return 0, net.ErrClosed // somebody took the connection over
	}
	for f.read == f.ready {
		if f.left > 0 {
			n, err = f.in.Read(p[:min(int64(len(p)), f.left)])
			f.left -= int64(n)
			return n, err
		}
		if f.next == nil {
			return f.in.Read(p)
		}
		if err := f.next(f); err != nil {
			return 0, err
		}
	}
	n = copy(p, f.buf[f.read:f.ready])
	if f.read += n; f.read == len(f.buf) {
		f.read, f.ready, f.at, f.buf = 0, 0, 0, f.buf[:0]
		if cap(f.buf) > keptHead {
			f.buf = nil
		}
	}
	return n, nil
}

// rest ends the looking: what was read already, and the connection under it.
func (f *framed) rest() ([]byte, net.Conn) {
	buffered, _ := f.in.Peek(f.in.Buffered())
	rest := bytes.Join([][]byte{f.buf[f.read:], buffered}, nil)
	f.buf, f.in = nil, nil
	return rest, f.Conn
}

// whole reads to the end of a line; false: what there is was given up on. The line is good
// until the next call.
func (f *framed) whole() (line []byte, ok bool, err error) {
	for {
		part, err := f.in.ReadSlice('\n')
		f.buf = append(f.buf, part...)
		switch {
		case len(f.buf)-f.ready > maxLine:
			f.surrender()
			return nil, false, nil
		case err == bufio.ErrBufferFull: //nolint:errorlint // ReadSlice returns exactly this
		case err != nil:
			return nil, false, err
		default:
			line, f.at = f.buf[f.at:], len(f.buf)
			return line, true, nil
		}
	}
}

// pass lets go on what was read so far.
func (f *framed) pass() { f.ready, f.at = len(f.buf), len(f.buf) }

// surrender passes all on unseen; net/http closes the connection after a bad request.
func (f *framed) surrender() {
	f.bad.Store(true)
	f.pass()
	f.next = nil
}

// head reads one request's head.
func (f *framed) head() error {
	line, ok, err := f.whole()
	if err != nil || !ok {
		return err
	}
	head, empty := f.buf[f.ready:], len(bytes.TrimRight(line, "\r\n")) == 0
	switch {
	case !empty:
	case len(head) == len(line): // empty lines before a head are skipped
		f.pass()
	default:
		f.judge(head)
		f.pass()
	}
	return nil
}

// judge reads how long the body is, and refuses what can be read in two ways
// (RFC 9112, sections 2.2, 5.2, 6.3). head ends with its empty line.
func (f *framed) judge(head []byte) {
	lengths, codings, length := 0, 0, int64(0)
	upgrades, old := false, false
	for at := 0; at < len(head); {
		line, _, _ := bytes.Cut(head[at:], []byte("\n"))
		text, crlf := bytes.CutSuffix(line, []byte("\r"))
		folded := at > 0 && len(text) > 0 && (text[0] == ' ' || text[0] == '\t')
		old = old || at == 0 && bytes.Contains(text, []byte("HTTP/1.0"))
		at += len(line) + 1
		if !crlf || folded || bytes.ContainsAny(text, "\r\x00") {
			f.bad.Store(true)
		}
		name, value, _ := bytes.Cut(text, []byte(":"))
		name, value = bytes.TrimSpace(name), bytes.Trim(value, " \t")
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			n, err := strconv.ParseUint(string(value), 10, 63)
			if lengths++; err != nil {
				lengths = 2
			}
			length = int64(n)
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			if codings++; !bytes.EqualFold(value, []byte("chunked")) {
				codings = 2
			}
		case bytes.EqualFold(name, []byte("upgrade")):
			upgrades = true
		}
	}
	if lengths+codings > 1 || codings > 0 && old {
		f.bad.Store(true)
	}
	switch {
	case upgrades || f.bad.Load():
		f.next = nil
	case codings > 0:
		f.next = (*framed).chunk
	default:
		f.left = length
	}
}

// chunk reads a chunk's size (RFC 9112, section 7.1).
func (f *framed) chunk() error {
	line, ok, err := f.whole()
	if err != nil || !ok {
		return err
	}
	size, _, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(";"))
	n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 62)
	f.pass()
	switch {
	case err != nil:
		f.surrender() // net/http refuses it too
	case n == 0:
		f.next = (*framed).trailer
	default:
		f.left = int64(n) + 2 // and its line end; then the next chunk
	}
	return nil
}

// trailer reads to the empty line after the last chunk.
func (f *framed) trailer() error {
	line, ok, err := f.whole()
	if err != nil || !ok {
		return err
	}
	f.pass()
	if len(bytes.TrimRight(line, "\r\n")) == 0 {
		f.next = (*framed).head
	}
	return nil
}
