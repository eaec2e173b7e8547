package http

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/contain"
	"github.com/sallyport/sallyport/protocols/http/record"
)

// A passage is one request on its way through ReverseProxy, and what is recorded of it
// beside its line.
type passage struct {
	up   *upload
	done *audit.RequestDone
	tape *record.Tape // of the request's body; nil: it is not asked for
}

type passageKey struct{}

// passageOf is the passage of a request that forward has begun.
func passageOf(r *http.Request) *passage {
	return r.Context().Value(passageKey{}).(*passage) //nolint:forcetypeassert // no other request gets here
}

// begin is the body that goes on. What is asked for of it is written down before.
func (x *passage) begin(l *live, r *http.Request) (io.ReadCloser, error) {
	if isCall(r.Header) {
		return contained{x.up, x.up}, nil
	}
	var err error
	if x.tape, err = l.rules.Tape(x.done.N, "up", r.Header); err == nil && x.tape == nil {
		return contained{x.up, x.up}, nil
	}
	var rest io.Reader
	if err == nil {
		rest, err = x.tape.Begin(l.recorder, x.up)
	}
	var size *http.MaxBytesError
	switch {
	case err == nil:
		return contained{rest, x.up}, nil
	case errors.Is(err, record.ErrEncoding):
		return nil, &refusal{status: http.StatusUnsupportedMediaType, say: "this target's bodies are recorded; send them as they are, or with gzip or deflate"}
	case errors.Is(err, record.ErrForm):
		return nil, bad(record.ErrForm.Error())
	case errors.As(err, &size), x.up.ctx.Err() != nil:
		return nil, l.whyNot(x.up.ctx, err)
	case errors.Is(err, audit.ErrRecorder):
		return nil, l.failed()
	}
	return nil, bad("the body does not come to its end")
}

// contained is read by a goroutine of net/http's own, which contains no panic.
type contained struct {
	io.Reader
	io.Closer
}

// Read gives a panic as its error.
func (c contained) Read(p []byte) (n int, err error) {
	defer contain.Panic(&err)
	return c.Reader.Read(p)
}

// answered has the answer recorded.
func (x *passage) answered(l *live, res *http.Response) error {
	x.done.Headers = l.rules.Headers(res.Header)
	tape, err := l.rules.Tape(x.done.N, "down", res.Header)
	if err == nil && tape != nil {
		res.Body = tape.Answer(l.recorder, res.Body)
	}
	return err
}

// end writes down what is known at the end of a long body.
func (x *passage) end(to *audit.Recorder) {
	if x.tape != nil {
		_ = x.tape.End(to, false) // where it fails the session ends by itself
	}
}

// readable asks the target for no encoding that could not be recorded.
func readable(h http.Header) {
	asked := h.Values("Accept-Encoding")
	if len(asked) == 0 {
		return
	}
	var kept []string
	for _, word := range strings.Split(strings.Join(asked, ","), ",") {
		name, _, _ := strings.Cut(word, ";")
		if slices.Contains([]string{"gzip", "x-gzip", "deflate", "identity"}, strings.ToLower(strings.TrimSpace(name))) {
			kept = append(kept, strings.TrimSpace(word))
		}
	}
	if h.Del("Accept-Encoding"); len(kept) > 0 {
		h.Set("Accept-Encoding", strings.Join(kept, ", "))
	}
}
