package http

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/protocols/http/record"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// forward sends one request on, and leaves its session. Its line is in the record before
// it goes. lingers: the cut came in the middle of an upload, whose client still sends.
func (c *conn) forward(w http.ResponseWriter, r *http.Request, l *live) (lingers bool) {
	line := audit.Request{N: l.n.Add(1), Method: r.Method, Host: r.Host, Path: l.rules.Path(r.URL), Headers: l.rules.Headers(r.Header)}
	if err := l.recorder.Write(&line); err != nil {
		defer l.leave()
		c.refuse(w, r, l.site, l.failed())
		return false
	}
	begun := time.Now()
	a := &answer{ResponseWriter: w, rc: http.NewResponseController(w), conn: c, two: r.ProtoMajor == 2, call: isCall(r.Header)}
	body := &upload{a: a}
	done := audit.RequestDone{N: line.N, Cut: true} // unless it comes to its end
	x := &passage{up: body, done: &done}
	end := l.leave
	defer func() {
		if end == nil {
			return // a websocket goes on
		}
		x.end(l.recorder)
		cut := a.finish()
		done.Status, done.Call, done.Cut = a.code(), callOf(w.Header()), done.Cut || cut
		done.Sent, done.Bytes, done.Took = body.n.Load(), a.bytes.Load(), time.Since(begun)
		_ = l.recorder.Write(&done) // where it fails the session ends by itself
		end()
	}()
	leave, err := l.admits(r)
	if err != nil {
		done.Cut = false
		c.refuse(a, r, l.site, err)
		return false
	}
	end = func() { leave(); l.leave() }
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	a.abort = cancel
	if r.Body != nil && r.Body != http.NoBody {
		body.ReadCloser, body.from, body.ctx = r.Body, r, ctx
		if a.call { // its client may listen for hours and say nothing
			_ = a.rc.SetReadDeadline(time.Time{})
		}
		if l.site.MaxBody > 0 {
			body.ReadCloser = http.MaxBytesReader(w, r.Body, l.site.MaxBody)
		}
	}
	stop := l.after(func() {
		l.cut()
		a.cut()
		cancel(l.cause())
		body.stop()
	})
	defer stop()
	if isWebsocket(r) {
		done.Cut = false
		if talks := l.websocket(ctx, c, a, r, &done); talks != nil {
			talks.done, talks.begun, talks.end = done, begun, end
			end = nil
			c.taken <- talks
		}
		return false
	}
	in := r.WithContext(context.WithValue(ctx, passageKey{}, x))
	if body.from != nil {
		if in.Body, err = x.begin(l, r); err != nil {
			done.Cut = false
			c.refuse(a, r, l.site, err)
			return body.stopped.Load() && !a.two
		}
	}
	l.proxy.ServeHTTP(a, in) // panics where the answer breaks off
	done.Cut = a.code() == 0
	return body.stopped.Load() && !a.two
}

// admits holds a request to the grant's scope, and to its person's part of the gate,
// which leave gives back.
func (l *live) admits(r *http.Request) (leave func(), err error) {
	if err := within(l.scope, r); err != nil {
		return nil, err
	}
	if l.site.MaxBody > 0 && r.ContentLength > l.site.MaxBody {
		return nil, errLong // before a client that asks first sends any of it
	}
	leave, ok := l.h.room(l.user.ID())
	if !ok {
		return nil, errCrowded
	}
	return leave, nil
}

// reverse makes the session's ReverseProxy.
func (l *live) reverse() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: l.to.transport, BufferPool: buffers, ErrorLog: slog.NewLogLogger(l.h.log.Handler(), slog.LevelDebug),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = l.to.scheme, l.to.address
			pr.Out.URL.RawQuery = pr.In.URL.RawQuery // ReverseProxy leaves parts out
			l.dress(pr.Out)
			pr.SetXForwarded()
			pr.Out.Header.Set("X-Forwarded-Proto", "https")
			if l.rules.Bodies() {
				readable(pr.Out.Header)
			}
			pr.Out.Trailer = nil
			if x := passageOf(pr.In); x.up.from != nil && len(pr.In.Trailer) > 0 {
				pr.Out.Trailer = pr.In.Trailer.Clone()
				clean(pr.Out.Trailer, l.site.Headers)
				x.up.trailer = pr.Out.Trailer
				x.up.trail()
			}
		},
		ModifyResponse: func(res *http.Response) error {
			cleanAnswer(res.Header)
			if isCall(res.Header) {
				res.Body = &call{ReadCloser: res.Body, res: res, cause: l.cause}
				return nil
			}
			return passageOf(res.Request).answered(l, res)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			a, _ := w.(*answer)
			if a == nil || errors.Is(context.Cause(r.Context()), context.Canceled) {
				return // the client has gone
			}
			a.conn.refuse(a, r, l.site, l.whyNot(r.Context(), err))
		},
	}
}

// dress makes a client's request one of the gate's: nothing of the client's proof goes
// on, and who asks is said by the gate alone.
func (l *live) dress(out *http.Request) {
	clean(out.Header, l.site.Headers)
	dropCookies(out.Header)
	var kept []string
	for _, value := range out.Header["Authorization"] {
		if l.h.ourToken(value) == "" {
			kept = append(kept, value)
		}
	}
	if out.Header.Del("Authorization"); len(kept) > 0 {
		out.Header["Authorization"] = kept
	}
	for name, fact := range l.site.Headers {
		out.Header.Set(name, headerText(say(l.user, l.role, fact)))
	}
	token, err := l.identity()
	if err == nil { // without it the target sees nobody
		out.Header.Set(identityHeader, token)
	}
	if l.to.header != "" {
		for name := range out.Header {
			if alike(name, l.to.header) {
				delete(out.Header, name)
			}
		}
		out.Header.Set(l.to.header, l.to.value)
	}
}

// headerText keeps a name with a line break from becoming two headers.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// whyNot makes the user's sentence from what went wrong at the target.
func (l *live) whyNot(ctx context.Context, err error) error {
	var ended *session.Ended
	if errors.As(context.Cause(ctx), &ended) {
		return ended
	}
	if errors.Is(err, record.ErrEncoding) {
		return &session.Failed{Say: "the target " + l.site.target + " answers in an encoding that cannot be recorded; ask the platform team", Err: err}
	}
	var stranger *tls.CertificateVerificationError
	if errors.As(err, &stranger) {
		return &session.Failed{Say: "the target " + l.site.target + " does not show the certificate that the policy asks for; ask the platform team", Err: err}
	}
	var size *http.MaxBytesError
	if errors.As(err, &size) {
		return errLong
	}
	if _, ours := session.Message(err); ours && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &session.Failed{Say: "the target " + l.site.target + " does not answer as it should; try again, or ask the platform team", Err: err}
}

// answer is the client's side of one request: it counts, and it can be cut.
type answer struct {
	http.ResponseWriter
	rc    *http.ResponseController
	conn  *conn
	two   bool // HTTP/2
	call  bool // of gRPC
	bytes atomic.Int64
	abort func(error)
	hints int // 1xx answers so far

	mu      sync.Mutex
	status  int
	begun   bool // the head of the last answer has gone
	cutting bool
	taken   bool // hijacked: whoever took it says the last words
	over    bool // net/http has it back
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) code() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// maxHints is how many 1xx answers one request may get: net/http counts them no longer
// once somebody passes them on.
const maxHints = 32

var errHints = errors.New("the target sends 1xx answers without end")

// WriteHeader passes on a head.
func (a *answer) WriteHeader(code int) {
	if code >= 100 && code < 200 {
		if a.hints++; a.hints > maxHints {
			a.abort(errHints)
			return
		}
		cleanAnswer(a.Header())
		a.ResponseWriter.WriteHeader(code)
		return
	}
	a.mu.Lock()
	if !a.begun {
		a.begun, a.status = true, code
	}
	a.mu.Unlock()
	a.ResponseWriter.WriteHeader(code)
}

// Write passes on a part of the body.
func (a *answer) Write(p []byte) (int, error) {
	a.mu.Lock()
	if !a.begun {
		a.begun, a.status = true, http.StatusOK
	}
	a.mu.Unlock()
	_ = a.rc.SetWriteDeadline(time.Now().Add(a.conn.h.limits.stall))
	n, err := a.ResponseWriter.Write(p)
	_ = a.rc.SetWriteDeadline(time.Time{})
	a.bytes.Add(int64(n))
	return n, err
}

// FlushError sends what is buffered; http.ResponseController looks for it.
func (a *answer) FlushError() error {
	_ = a.rc.SetWriteDeadline(time.Now().Add(a.conn.h.limits.stall))
	err := a.rc.Flush()
	_ = a.rc.SetWriteDeadline(time.Time{})
	return err
}

// cut ends an answer that has begun, so that its client sees that it is not the
// whole; one that has not begun is still to say why.
func (a *answer) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.begun || a.taken || a.over {
		return
	}
	if a.call {
		// It may take as long as any client to end with a status.
		time.AfterFunc(proxy.CutWait, func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.end()
		})
		return
	}
	a.end()
}

// finish says that net/http has the answer back, and whether it was cut.
func (a *answer) finish() (cut bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	return a.cutting
}

// end drops what the client has not taken yet; the caller holds mu.
func (a *answer) end() {
	a.cutting = true
	if a.over {
		return
	}
	if a.two {
		_ = a.rc.SetWriteDeadline(time.Now().Add(-time.Hour)) // resets the stream
		return
	}
	_ = proxy.Reset(a.conn.base)
}

// upload is a request's body: counted, never standing still, its trailers cleaned.
type upload struct {
	io.ReadCloser
	a       *answer
	from    *http.Request
	trailer http.Header     // of the request that goes on; nil: none
	ctx     context.Context //nolint:containedctx // of the request, which outlives no request
	ended   atomic.Bool
	stopped atomic.Bool
	n       atomic.Int64
}

// Read reads a part of the body.
func (u *upload) Read(p []byte) (int, error) {
	if !u.a.call {
		u.within(time.Now().Add(u.a.conn.h.limits.stall))
	}
	if u.stopped.Load() {
		u.stop() // the deadline above undid it, and net/http would read on before it lets the answer go
		return 0, errCut
	}
	n, err := u.ReadCloser.Read(p)
	u.n.Add(int64(n))
	if errors.Is(err, io.EOF) { // else net/http reads what is left, and must not wait for ever either
		u.within(time.Time{})
		u.ended.Store(true)
		u.trail()
	}
	return n, err
}

// within sets the end of reads, zero for none, as long as the request lasts. Who sends the
// body on may read for a moment longer, and net/http's writer for HTTP/2 must not be asked
// then: it panics.
func (u *upload) within(end time.Time) {
	u.a.mu.Lock()
	defer u.a.mu.Unlock()
	if !u.a.over {
		_ = u.a.rc.SetReadDeadline(end) // fails only on a closed connection
	}
}

// stop ends a read that waits for the client: whatever sends the body on holds it until
// then, and sees no cut before.
func (u *upload) stop() {
	u.a.mu.Lock()
	defer u.a.mu.Unlock()
	if u.from == nil || u.ended.Load() || u.a.over { // net/http's own reads are none of this
		return
	}
	u.stopped.Store(true)
	_ = u.a.rc.SetReadDeadline(time.Now().Add(-time.Hour))
}

// trail passes on, at the body's end, the trailers that were announced and not taken out.
func (u *upload) trail() {
	for name := range u.trailer {
		if u.ended.Load() {
			u.trailer[name] = u.from.Trailer[name]
		}
	}
}
