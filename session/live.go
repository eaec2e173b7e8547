package session

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/contain"
	"github.com/sallyport/sallyport/internal/descriptors"
	"github.com/sallyport/sallyport/internal/spell"
)

// A Session is one live use of a grant. It is made by Gate.Open and used once, by Run.
type Session struct {
	g     *Gate
	id    string
	ask   Ask
	who   caller
	grant Grant // as it was at Open, but for Times, which mu guards

	mu     sync.Mutex
	ends   time.Time     // of now
	timers []*time.Timer // nil before arm and after the end

	cancel   context.CancelCauseFunc       // set by Run before the session is registered
	warnings chan string                   // capacity for all that one session is ever told
	endedBy  atomic.Pointer[identity.User] // who killed it
	over     chan struct{}                 // closed once its end is written down
}

func (g *Gate) session(ask *Ask, who *caller, gr *Grant) *Session {
	return &Session{g: g, id: identity.NewID(), ask: *ask, who: *who, grant: *gr, ends: gr.Ends, warnings: make(chan string, 8), over: make(chan struct{})}
}

// ID is the session's identifier, in entries, recordings and lists.
func (s *Session) ID() string { return s.id }

// Ask is what was asked for, with what the person added while it was held.
func (s *Session) Ask() Ask { return s.ask }

// User is who the session belongs to.
func (s *Session) User() identity.User { return s.who.user }

// Grant is the permission that the session uses.
func (s *Session) Grant() Grant { return s.grant }

// Ends is when the session is cut.
func (s *Session) Ends() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends
}

// Proves reports that the proof by which the session was opened still is one. Protocols
// that are shown it again with each request ask; elsewhere a connection was let in once.
func (s *Session) Proves() bool { return s.who.proved.IsZero() || time.Now().Before(s.who.proved) }

// Said is the line that tells of the grant.
func (s *Session) Said() string { return said(&s.grant) }

// warn tells the user something between two messages of the protocol. It never blocks.
func (s *Session) warn(line string) {
	select {
	case s.warnings <- line:
	default:
	}
}

// Run lives the session: it writes the start down, opens the recorder, and calls use
// with what it needs to reach the target. use's context ends, with an *Ended as its
// cause, when the grant ends or the session is cut for another reason; use then says
// the cause to its client and returns. Run seals the recording, writes the end down,
// and returns the cause, or use's own error.
func (s *Session) Run(ctx context.Context, use func(context.Context, *Upstream) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.cancel = cancel
	if err := s.g.enter(s); err != nil {
		return err
	}
	defer s.g.leave(s)
	record, recorder, err := s.start(ctx)
	if err != nil {
		return err
	}
	stop := s.arm(recorder)
	err = s.used(ctx, recorder, use)
	stop()
	return s.finish(ctx, record, recorder, err)
}

// start writes the start down and opens the recorder; where that fails, the end too.
func (s *Session) start(ctx context.Context) (*Record, *audit.Recorder, error) {
	if left, spare := descriptors.Left(); left < spare/2 { // a recording and a target would take the last
		return nil, nil, &Failed{Say: "the gate has too many open files now; try again in a moment, or ask the platform team", Err: descriptors.ErrFew}
	}
	record, err := s.begun(ctx)
	if err != nil {
		return nil, nil, err
	}
	recorder, err := s.g.c.Recordings.Start(ctx, s.meta())
	if err != nil {
		if ended := cutBy(ctx); ended != nil { // before it began, which is no fault of the recorder
			err = ended
		} else {
			err = s.noRecorder(err)
		}
		s.end(*record, err, audit.Summary{})
		return nil, nil, err
	}
	return record, recorder, nil
}

// finish seals the recording and writes the end down, and why.
func (s *Session) finish(ctx context.Context, record *Record, recorder *audit.Recorder, err error) error {
	if ended := cutBy(ctx); ended != nil {
		err = ended
	}
	summary, sealed := recorder.Seal(context.WithoutCancel(ctx), causeOf(err))
	if sealed != nil && !errors.Is(err, ErrRecorder) {
		s.g.c.Logger.Error("recording not sealed", "session", s.id, "err", sealed)
		err = s.noRecorder(sealed)
	}
	s.end(*record, err, summary)
	return err
}

// cutBy is why the session was cut; nil where it was not.
func cutBy(ctx context.Context) (ended *Ended) {
	errors.As(context.Cause(ctx), &ended)
	return ended
}

// used keeps a panic to the session, so that its record and its end are written.
func (s *Session) used(ctx context.Context, recorder *audit.Recorder, use func(context.Context, *Upstream) error) (err error) {
	defer contain.Panic(&err)
	return use(ctx, &Upstream{s: s, recorder: recorder})
}

func (s *Session) noRecorder(err error) error {
	s.g.c.Logger.Error("no recorder, no session", "session", s.id, "err", err)
	return &Ended{Cause: ErrRecorder.Cause, Say: "this session cannot be recorded, so it is ended; ask the platform team", At: time.Now()}
}

// enter registers the session, so that whatever cuts its grant finds it. A grant
// that was cut between Open and here is refused.
func (g *Gate) enter(s *Session) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing != nil {
		return g.closing
	}
	if why := g.cut[s.grant.ID]; why != nil {
		return why
	}
	if why := g.cut[s.who.signIn]; why != nil && s.who.proof == identity.ByBrowser {
		return why
	}
	g.live[s.id] = s
	g.busy.Add(1)
	return nil
}

func (g *Gate) leave(s *Session) {
	g.mu.Lock()
	delete(g.live, s.id)
	g.mu.Unlock()
	close(s.over)
	g.busy.Done()
}

// begun writes the start down; it returns once that is durable.
func (s *Session) begun(ctx context.Context) (*Record, error) {
	gr := s.grant
	r := &Record{
		ID: s.id, Live: true, Grant: gr.ID, Request: gr.Request, Key: gr.Key, User: s.who.user, Proof: s.who.proof,
		Client: s.ask.Client, Node: s.g.c.Node, Started: s.g.clock.Now().UTC(), Ends: gr.Ends,
	}
	if !r.Started.Before(gr.Ends) {
		return r, s.expired()
	}
	// Whatever cuts it meanwhile: what was written down as begun has an end written down.
	err := s.g.permit(context.WithoutCancel(ctx), func(t Tx) error {
		if err := s.g.stillMay(t, s); err != nil {
			return err
		}
		if err := t.SaveSession(*r); err != nil {
			return err
		}
		return t.Log(audit.Event{
			Type: audit.SessionStarted, Actor: r.Key.User, Session: r.ID, Request: r.Request, Grant: r.Grant, Policy: ref(gr.Decision),
			Body: map[string]any{"user": r.User.String(), "key": r.Key, "proof": r.Proof, "client": r.Client, "ends": r.Ends, "node": r.Node},
		})
	}, Change{"session", r.ID, r.Key.User})
	if !errors.Is(err, ErrTransition) {
		return r, err
	}
	if ended := cutBy(ctx); ended != nil { // the database says that the grant is no longer active
		return r, ended
	}
	return r, s.notActive(ctx)
}

// notActive reads why the grant is over, as its end was written down.
func (s *Session) notActive(ctx context.Context) error {
	var gr Grant
	err := s.g.view(context.WithoutCancel(ctx), func(t Tx) (err error) { gr, err = t.Grant(s.grant.ID); return err })
	if err != nil {
		return err
	}
	if gr.State == GrantRevoked || gr.State == GrantReleased {
		return &Ended{Cause: string(gr.State), Say: "your access was " + string(gr.State) + " by " + gr.EndedBy, At: gr.Ended}
	}
	return s.expired()
}

func (s *Session) expired() *Ended {
	return &Ended{Cause: ErrExpired.Cause, Say: "your access to " + s.grant.Key.Target + " ended at " + spell.Clock(s.Ends()), At: s.Ends()}
}

func (s *Session) meta() audit.Meta {
	gr := s.grant
	return audit.Meta{
		Session: s.id, Request: gr.Request, Grant: gr.ID, User: gr.Key.User, Email: s.who.user.Email, Proof: string(s.who.proof),
		Target: gr.Key.Target, Role: gr.Key.Role, Object: gr.Key.Object, Reason: gr.Reason, Ticket: gr.Ticket,
		Protocol: s.ask.Client.Protocol, Client: s.ask.Client.Address.String(), Program: s.ask.Client.Program, Node: s.g.c.Node, Started: time.Now().UTC(),
	}
}

// arm sets the session's own timers: they depend on nothing that can be slow.
func (s *Session) arm(recorder *audit.Recorder) (stop func()) {
	s.mu.Lock()
	s.setTimers()
	s.mu.Unlock()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-recorder.Failed():
			s.cancel(s.noRecorder(recorder.Err()))
		case <-quit:
		}
	}()
	return func() {
		s.mu.Lock()
		s.stopTimers()
		s.mu.Unlock()
		close(quit)
		<-done
	}
}

// setTimers arms the end and the warnings before it; mu is held.
func (s *Session) setTimers() {
	left := s.ends.Sub(s.g.clock.Now())
	s.timers = append(s.timers, time.AfterFunc(left, s.expire))
	for _, before := range s.grant.Decision.Warnings {
		if left <= before {
			continue
		}
		line := spell.Span(before) + " left"
		if s.grant.Times < s.grant.Decision.Extensions {
			line += "; extend at " + s.g.page("/g/"+s.grant.ID)
		}
		s.timers = append(s.timers, time.AfterFunc(left-before, func() { s.warn(line) }))
	}
}

func (s *Session) stopTimers() {
	for _, timer := range s.timers {
		timer.Stop()
	}
	s.timers = nil
}

// expire cuts at the end, unless the end has moved while the timer was firing.
func (s *Session) expire() {
	if s.g.clock.Now().Before(s.Ends()) {
		return
	}
	s.cancel(s.expired())
}

// lengthen moves the end of a running session and says so.
func (s *Session) lengthen(gr Grant) {
	s.mu.Lock()
	moved := s.timers != nil && gr.Ends.After(s.ends)
	if moved {
		s.stopTimers()
		s.ends, s.grant.Times = gr.Ends, gr.Times
		s.setTimers()
	}
	s.mu.Unlock()
	if moved {
		s.warn("extended until " + spell.Clock(gr.Ends))
	}
}

// end writes the end down. It cannot be refused: where it cannot be written the
// gate stops.
func (s *Session) end(r Record, err error, summary audit.Summary) {
	r.Live, r.Ended, r.Cause = false, time.Now().UTC(), causeOf(err)
	//nolint:errcheck // restrict stops the gate by itself where it cannot write
	s.g.restrict(context.Background(), func(t Tx) error {
		if err := t.SaveSession(r); err != nil {
			return err
		}
		e := sessionEnded(r, summary)
		if by := s.endedBy.Load(); by != nil {
			e.Actor = by.ID()
		}
		return t.Log(e)
	}, Change{"session", r.ID, r.Key.User})
}

func sessionEnded(r Record, summary audit.Summary) audit.Event {
	return audit.Event{
		Type: audit.SessionEnded, Actor: "gate", Session: r.ID, Request: r.Request, Grant: r.Grant,
		Body: map[string]any{"user": r.User.String(), "key": r.Key, "cause": r.Cause, "started": r.Started, "ended": r.Ended, "summary": summary},
	}
}

// causeOf is the record's word for the end of a session.
func causeOf(err error) string {
	var ended *Ended
	switch {
	case err == nil:
		return "closed"
	case errors.As(err, &ended):
		return ended.Cause
	case errors.Is(err, context.Canceled), strings.Contains(err.Error(), "connection reset by peer"), strings.Contains(err.Error(), "broken pipe"):
		return "closed"
	}
	return "error"
}
