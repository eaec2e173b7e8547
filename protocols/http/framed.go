package http

import (
	"bufio"
	"bytes"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
)

// framed looks at the heads of HTTP/1 requests as they came. net/http takes what
// others refuse or read differently (a Content-Length beside chunked, folded lines,
// bare line feeds) and does not tell its handlers, so this does: after such a head
// bad is set. What is read is passed on as it is. One goroutine reads at a time.
type framed struct {
	net.Conn
	in    *bufio.Reader
	out   []byte // was looked at, and not read yet
	line  []byte // a part of a line, kept over a deadline
	heads []byte // the head so far
	next  func(*framed) error
	left  int64 // of a body, or of a chunk with its line end
	bad   atomic.Bool
}

const maxLine = maxHead + 8<<10 // beyond it net/http has answered 431

func newFramed(c net.Conn) *framed {
	return &framed{Conn: c, in: bufio.NewReader(c), next: (*framed).head}
}

// Read gives a head once it is whole, and bodies as they come.
func (f *framed) Read(p []byte) (int, error) {
	for len(f.out) == 0 {
		if f.left > 0 {
			n, err := f.in.Read(p[:min(int64(len(p)), f.left)])
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
	n := copy(p, f.out)
	if f.out = f.out[n:]; len(f.out) == 0 {
		f.out = nil
	}
	return n, nil
}

// rest ends the looking: what was read already, and the connection under it.
func (f *framed) rest() ([]byte, net.Conn) {
	buffered, _ := f.in.Peek(f.in.Buffered())
	return bytes.Join([][]byte{f.out, f.heads, f.line, buffered}, nil), f.Conn
}

// whole reads to the end of a line; false: what there is was given up on.
func (f *framed) whole() (line []byte, ok bool, err error) {
	part, err := f.in.ReadSlice('\n')
	f.line = append(f.line, part...)
	if len(f.line)+len(f.heads) > maxLine {
		f.surrender()
		return nil, false, nil
	}
	if err == bufio.ErrBufferFull { //nolint:errorlint // ReadSlice returns exactly this
		return f.whole()
	}
	if err != nil {
		return nil, false, err
	}
	line, f.line = f.line, nil
	return line, true, nil
}

// surrender passes all on unseen; net/http closes the connection after a bad request.
func (f *framed) surrender() {
	f.bad.Store(true)
	f.out = append(append(f.out, f.heads...), f.line...)
	f.heads, f.line, f.next = nil, nil, nil
}

// head reads one request's head.
func (f *framed) head() error {
	line, ok, err := f.whole()
	if err != nil || !ok {
		return err
	}
	f.heads = append(f.heads, line...)
	if len(bytes.TrimRight(line, "\r\n")) > 0 || len(f.heads) == len(line) { // empty lines before a head are skipped
		if len(bytes.TrimRight(f.heads, "\r\n")) == 0 {
			f.out, f.heads = append(f.out, f.heads...), nil
		}
		return nil
	}
	f.judge(f.heads)
	f.out, f.heads = append(f.out, f.heads...), nil
	return nil
}

// judge reads how long the body is, and refuses what can be read in two ways
// (RFC 9112, sections 2.2, 5.2, 6.3).
func (f *framed) judge(head []byte) {
	lines := strings.Split(string(head), "\n")
	lengths, codings, length := 0, 0, int64(0)
	upgrades := false
	for i, line := range lines[:len(lines)-1] {
		text, crlf := strings.CutSuffix(line, "\r")
		folded := i > 0 && (strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\t"))
		if !crlf || folded || strings.ContainsAny(text, "\r\x00") {
			f.bad.Store(true)
		}
		name, value, _ := strings.Cut(text, ":")
		value = strings.Trim(value, " \t")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "content-length":
			n, err := strconv.ParseUint(value, 10, 63)
			if lengths++; err != nil {
				lengths = 2
			}
			length = int64(n)
		case "transfer-encoding":
			if codings++; !strings.EqualFold(value, "chunked") {
				codings = 2
			}
		case "upgrade":
			upgrades = true
		}
	}
	if lengths+codings > 1 || codings > 0 && strings.Contains(lines[0], "HTTP/1.0") {
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
	f.out = append(f.out, line...)
	size, _, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), ";")
	n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 62)
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
	f.out = append(f.out, line...)
	if len(bytes.TrimRight(line, "\r\n")) == 0 {
		f.next = (*framed).head
	}
	return nil
}
