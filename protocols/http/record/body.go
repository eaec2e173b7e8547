package record

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

// ErrEncoding says that a body is in an encoding that is not read here.
var ErrEncoding = errors.New("a body in another encoding than gzip and deflate cannot be recorded")

// ErrForm says that a body is not what its Content-Type says.
var ErrForm = errors.New("the body is not of the form that its Content-Type says, and this target's bodies are recorded")

// A Tape keeps the beginning of one body, and size and hash of all of it. One goroutine
// at a time uses it.
type Tape struct {
	rules *Rules
	line  audit.Body
	kind  string
	begin []byte // as it was sent
	size  int64
	sum   hash.Hash
}

// Tape is where the body that comes with these headers is recorded; nil: it is not asked
// for. direction is "up" or "down". ErrEncoding: it could not be read.
func (r *Rules) Tape(n int64, direction string, h http.Header) (*Tape, error) {
	if r.Bodies() && len(h.Values("Content-Type")) > 1 { // a target may take the other one
		return nil, ErrForm
	}
	kind, wanted := r.wants(h)
	if !wanted {
		return nil, nil //nolint:nilnil // nothing is asked for
	}
	t := &Tape{rules: r, kind: kind, sum: sha256.New()}
	t.line = audit.Body{N: n, Direction: direction, Type: h.Get("Content-Type")}
	switch encoding := strings.ToLower(strings.Join(h.Values("Content-Encoding"), ",")); encoding {
	case "", "identity":
	case "gzip", "x-gzip", "deflate":
		t.line.Encoding = strings.TrimPrefix(encoding, "x-")
	default:
		return nil, ErrEncoding
	}
	return t, nil
}

// Write shows the tape a part of the body. It never fails.
func (t *Tape) Write(p []byte) (int, error) {
	t.size += int64(len(p))
	t.sum.Write(p)
	if room := t.rules.o.Largest - len(t.begin); room > 0 {
		t.begin = append(t.begin, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// Begin reads what is kept of a request's body, and writes it down before anything of it
// goes on; rest is then the whole body. ErrForm: it cannot be read as what it says it is.
func (t *Tape) Begin(to *audit.Recorder, body io.Reader) (rest io.Reader, err error) {
	begin := make([]byte, 0, min(t.rules.o.Largest, 4<<10))
	for {
		if len(begin) == cap(begin) {
			begin = append(begin, 0)[:len(begin)]
		}
		n, err := body.Read(begin[len(begin):min(cap(begin), t.rules.o.Largest+1)])
		begin = begin[:len(begin)+n]
		whole := errors.Is(err, io.EOF)
		if err != nil && !whole {
			return nil, err
		}
		if !whole && len(begin) <= t.rules.o.Largest {
			continue
		}
		if len(begin) == 0 {
			return bytes.NewReader(nil), nil
		}
		if whole {
			_, _ = t.Write(begin)
			return bytes.NewReader(begin), t.write(to, true)
		}
		t.begin = begin[:t.rules.o.Largest:t.rules.o.Largest]
		if err := t.write(to, false); err != nil {
			return nil, err
		}
		// What was kept is written; size and hash come at the end, in a line of their own.
		t.begin = nil
		return io.TeeReader(io.MultiReader(bytes.NewReader(begin), body), tally{t}), nil
	}
}

// tally counts and hashes alone.
type tally struct{ t *Tape }

func (c tally) Write(p []byte) (int, error) {
	c.t.size += int64(len(p))
	c.t.sum.Write(p)
	return len(p), nil
}

// End writes down size and hash of a body that was longer than what is kept, or of an
// answer all that there is to say.
func (t *Tape) End(to *audit.Recorder, whole bool) error {
	if t.size == 0 || t.line.Direction == "up" && t.line.SHA256 != "" {
		return nil
	}
	if t.line.Direction == "up" {
		line := audit.Body{N: t.line.N, Direction: "up", Size: t.size, SHA256: hex.EncodeToString(t.sum.Sum(nil)), Cut: true}
		return to.Write(&line)
	}
	err := t.write(to, whole)
	if errors.Is(err, ErrForm) { // it has gone to the client; what could not be read is left out
		return nil
	}
	return err
}

// write writes what is kept; whole: the body has come to its end.
func (t *Tape) write(to *audit.Recorder, whole bool) error {
	kept := whole && t.size == int64(len(t.begin))
	text, all, err := t.plain(kept)
	if err == nil {
		t.line.Text, t.line.Hidden, err = t.rules.redact(t.kind, t.line.Type, text, all)
	}
	if t.line.Cut = !all || err != nil; whole {
		t.line.Size, t.line.SHA256 = t.size, hex.EncodeToString(t.sum.Sum(nil))
	}
	if err != nil && t.line.Direction == "up" {
		return fmt.Errorf("%w: %w", ErrForm, err)
	}
	if errWrite := to.Write(&t.line); errWrite != nil {
		return errWrite
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForm, err)
	}
	return nil
}

// plain is what is kept, without its encoding; all: it is the whole body. What unpacks
// to more than is kept is cut.
func (t *Tape) plain(kept bool) (text []byte, all bool, err error) {
	if t.line.Encoding == "" {
		return t.begin, kept, nil
	}
	var in io.Reader
	if t.line.Encoding == "gzip" {
		in, err = gzip.NewReader(bytes.NewReader(t.begin))
	} else {
		in, err = zlib.NewReader(bytes.NewReader(t.begin)) // RFC 9110, section 8.4.1.2
	}
	if err != nil {
		return nil, false, err
	}
	text, err = io.ReadAll(io.LimitReader(in, int64(t.rules.o.Largest)+1))
	switch {
	case len(text) > t.rules.o.Largest:
		return text[:t.rules.o.Largest], false, nil
	case errors.Is(err, io.ErrUnexpectedEOF) && !kept:
		return text, false, nil
	}
	return text, kept, err
}

// Answer shows a tape what is read of an answer's body, and writes it down at its end.
// Where it cannot be written the body ends with an error.
func (t *Tape) Answer(to *audit.Recorder, body io.ReadCloser) io.ReadCloser {
	return &taped{ReadCloser: body, t: t, to: to}
}

type taped struct {
	io.ReadCloser
	t    *Tape
	to   *audit.Recorder
	done bool
}

// Read reads on, and records what is read.
func (b *taped) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	_, _ = b.t.Write(p[:n])
	if err != nil {
		if errEnd := b.end(errors.Is(err, io.EOF)); errEnd != nil {
			return n, errEnd
		}
	}
	return n, err
}

// Close closes the body, and writes down what was read of it.
func (b *taped) Close() error { return errors.Join(b.end(false), b.ReadCloser.Close()) }

func (b *taped) end(whole bool) error {
	if b.done {
		return nil
	}
	b.done = true
	return b.t.End(b.to, whole)
}
