package http

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/protocols/http/record"
	"github.com/sallyport/sallyport/session"
)

// endKept is how long it is remembered, for the next navigation, why a session ended.
const endKept = 10 * time.Minute

// ending is why a session was cut.
type ending struct {
	why error
	at  time.Time
}

// live is a running session, which many requests use. Its goroutine is inside
// Session.Run, so the gate waits for it.
type live struct {
	h     *handler
	site  *site
	key   key
	ready chan struct{} // closed once it runs or has failed
	gone  chan struct{} // closed once its end is written down
	err   error         // why it does not run; set before ready

	// Set before ready.
	user     identity.User
	role     string
	id       string
	claims   []byte    // what targets are told of the user, see claims.begin
	starts   time.Time // of the grant
	ends     time.Time
	proves   func() bool // what the client shows is still good
	scope    policy.Scope
	recorder *audit.Recorder
	rules    *record.Rules // what is recorded beside the request lines
	up       *session.Upstream
	to       *upstream
	proxy    *httputil.ReverseProxy
	done     <-chan struct{}
	cause    func() error
	after    func(func()) (stop func() bool) // once done

	signing sync.Mutex // guards token and signed
	token   string     // the JWT that is kept
	signed  time.Time

	retired  chan struct{} // closed once a session under a newer grant takes its place
	retiring sync.Once
	n        atomic.Int64 // requests so far
	told     sync.Once
	requests sync.WaitGroup

	mu    sync.Mutex
	busy  int
	since time.Time // when it became idle
	over  bool
}

// running is the session of the key, entered; nil where none runs.
func (h *handler) running(k key) *live {
	h.mu.Lock()
	l := h.lives[k]
	h.mu.Unlock()
	if l == nil || !l.enter() {
		return nil
	}
	return l
}

// enter counts a request in; false: the session does not run, or no longer.
func (l *live) enter() bool {
	select {
	case <-l.ready:
	default:
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.over {
		return false
	}
	l.busy++
	l.requests.Add(1)
	return true
}

// leave counts a request out.
func (l *live) leave() {
	l.mu.Lock()
	if l.busy--; l.busy == 0 {
		l.since = time.Now()
	}
	l.mu.Unlock()
	l.requests.Done()
}

// room counts a request of a person in, whatever sessions and connections they have;
// done counts it out again. false: as many are under way as one person may have.
func (h *handler) room(user string) (done func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy[user] >= h.perUser {
		return nil, false
	}
	h.busy[user]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.busy[user]--; h.busy[user] == 0 {
			delete(h.busy, user)
		}
	}, true
}

// ending says once why the last session of the key was cut; told is false for what
// nobody reads, which does not use it up.
func (h *handler) ending(k key, told bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, ok := h.ends[k]
	if !ok || time.Since(e.at) > endKept {
		delete(h.ends, k)
		return nil
	}
	if told {
		delete(h.ends, k)
	}
	return e.why
}

// open asks the gate and has the session run, or joins the one that runs already.
func (h *handler) open(ctx context.Context, s *site, k key, ask session.Ask, notice func(string) error) (*live, error) {
	sess, err := h.config.Gate.Open(ctx, ask, notice)
	if err != nil {
		return nil, err
	}
	for {
		h.mu.Lock()
		l := h.lives[k]
		mine := l == nil
		if mine {
			l = &live{
				h: h, site: s, key: k, ready: make(chan struct{}), gone: make(chan struct{}), retired: make(chan struct{}),
				role: ask.Role, starts: sess.Grant().Starts, ends: sess.Ends(), proves: sess.Proves,
			}
			h.lives[k] = l
		}
		h.mu.Unlock()
		if mine {
			go l.run(context.WithoutCancel(ctx), sess)
		}
		select {
		case <-l.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if l.enter() {
			return l, nil
		}
		if mine && l.err != nil {
			return nil, l.err
		}
		select { // it ended in between; sess is still unused
		case <-l.gone:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if mine {
			return nil, l.cause()
		}
	}
}

// run lives the session.
func (l *live) run(ctx context.Context, sess *session.Session) {
	started := false
	err := sess.Run(ctx, func(ctx context.Context, up *session.Upstream) error {
		l.user, l.id = sess.User(), sess.ID()
		if err := l.setUp(ctx, up); err != nil {
			return err
		}
		started = true
		close(l.ready)
		return l.wait(ctx, up)
	})
	l.h.drop(l)
	if !started {
		l.err = err
		if err == nil {
			l.err = session.ErrNotFound
		}
		close(l.ready)
	}
	close(l.gone)
}

// drop takes a session out of those that requests find.
func (h *handler) drop(l *live) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lives[l.key] == l {
		delete(h.lives, l.key)
	}
}

// retire lets nothing new in; the session ends once nothing of it is under way.
func (l *live) retire() {
	l.h.drop(l)
	l.retiring.Do(func() { close(l.retired) })
}

// cut keeps why the session was cut, before any of its requests is: the next one is told.
func (l *live) cut() {
	var ended *session.Ended
	if why := l.cause(); errors.As(why, &ended) && !errors.Is(why, session.ErrStopping) {
		l.told.Do(func() { l.h.remember(l.key, ended) })
	}
}

func (h *handler) remember(k key, why error) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ends) >= maxCodes {
		for old, e := range h.ends {
			if now.Sub(e.at) > endKept || len(h.ends) >= maxCodes {
				delete(h.ends, old)
			}
		}
	}
	h.ends[k] = ending{why, now}
}

func (l *live) setUp(ctx context.Context, up *session.Upstream) (err error) {
	l.up, l.scope, l.recorder, l.rules = up, up.Scope(), up.Recorder(), record.New(l.site.Record)
	l.done, l.cause = ctx.Done(), func() error { return context.Cause(ctx) }
	l.after = func(f func()) func() bool { return context.AfterFunc(ctx, f) }
	l.claims = claims{
		Issuer: l.h.config.URL, Audience: l.site.target, Subject: l.user.ID(),
		Email: l.user.Email, Name: l.user.Name, Groups: l.user.Groups, Role: l.role, Session: l.id,
	}.begin()
	if l.to, err = newUpstream(ctx, up, l.site); err != nil {
		return err
	}
	l.proxy = l.reverse()
	l.since = time.Now()
	return nil
}

// wait returns when nothing was asked for too long, or with the cause of the cut, once
// no request is under way any more.
func (l *live) wait(ctx context.Context, up *session.Upstream) error {
	timer := time.NewTimer(l.h.idle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.cut()
			l.close()
			return context.Cause(ctx)
		case <-l.retired:
			l.close()
			return nil
		case line := <-up.Warnings():
			if err := l.recorder.Write(&audit.Note{Text: line}); err != nil {
				return err
			}
		case <-timer.C:
			left := l.idleLeft()
			if left <= 0 {
				l.close()
				return nil
			}
			timer.Reset(left)
		}
	}
}

// idleLeft is how long the session may still be idle; at the end of that it is over.
func (l *live) idleLeft() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy > 0 {
		return l.h.idle
	}
	left := l.h.idle - time.Since(l.since)
	l.over = left <= 0
	return left
}

// close lets nothing new in and waits for what is under way.
func (l *live) close() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.requests.Wait()
	l.to.transport.CloseIdleConnections()
}

// failed is the answer where the record cannot be written: the session ends, and says so.
func (l *live) failed() error {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-l.done:
		return l.cause()
	case <-timer.C:
		return &session.Ended{Cause: session.ErrRecorder.Cause, Say: session.ErrRecorder.Say, At: time.Now()}
	}
}

var _ http.Handler = (*conn)(nil)
