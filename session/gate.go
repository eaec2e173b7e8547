package session

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/internal/deadline"
	"github.com/sallyport/sallyport/internal/hub"
	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/internal/steady"
	"github.com/sallyport/sallyport/internal/tally"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session/outbox"
)

// Config is what a Gate is made of.
type Config struct {
	Store      Store
	Log        *audit.Log
	Recordings *audit.Recordings
	// Credentials reads the targets' secrets by the names that the policy gives them. It is
	// safe for many goroutines.
	Credentials interface {
		Read(ctx context.Context, name string) (credential.Secret, error)
	}
	// Certificate checks a client certificate against the login CA and returns the
	// sign-in that it belongs to.
	Certificate func(cert *x509.Certificate) (signIn string, err error)
	// SSHCertificate is the same for SSH certificates; nil: none are taken.
	SSHCertificate func(cert *ssh.Certificate) (signIn string, err error)
	// Workloads judges pipelines' tokens; nil: none are taken.
	Workloads Workloads
	// URL is the base of the gate's own pages, without a final slash.
	URL    string
	Node   string // this node's name in entries; default "gate"
	Logger *slog.Logger
	// SignInWait is how long a held connection waits for somebody to sign in and
	// confirm. Default 5 minutes: longer links are easier to phish with.
	SignInWait time.Duration
	// MaxHeld and MaxHeldPerSource cap connections that wait before anybody is
	// identified, in total and per client address (IPv6: /64). Defaults 10,000 and 100: what is
	// unidentified must not be able to use up the gate.
	MaxHeld, MaxHeldPerSource int
	// Notifier tells people of requests and their outcomes; nil: nobody is told.
	Notifier Notifier
	// Clock is the wall clock that ends grants; default time.Now.
	Clock func() time.Time
	// Scopes lists what each protocol enforces, as policy.Options.Scopes does.
	Scopes map[string][]string
}

// A Gate decides who gets through, holds those who have to wait, and ends what has
// to end. Its methods may be called by many goroutines at once.
//
// Lock order: mu is a leaf; no store, log or channel operation happens under it.
type Gate struct {
	c      Config
	policy atomic.Pointer[policy.Policy]
	seq    *outbox.Sequencer
	hub    *hub.Hub[Change]
	due    *deadline.Queue
	clock  *steady.Clock // grants go by it: setting the machine's clock back lengthens none

	refusals tally.Tally // refusals before identity since the last entry, by sentence
	refusers tally.Tally // and of those who are known, by user

	stopped chan struct{} // closed once the gate takes nothing new and has failed or stopped

	mu        sync.Mutex
	closing   *Ended                // why nothing new is taken; nil while serving
	failure   error                 // why the gate stopped by itself
	openings  map[*opening]struct{} // connections inside Open
	live      map[string]*Session   // running sessions by ID
	holds     map[string]*hold      // connections that wait for a confirmation, and for a while those that did
	held      int                   // how many of holds wait
	perSource map[netip.Addr]int    // how many of those that wait come from there
	waiting   map[string]int        // held connections by request
	cut       map[string]*Ended     // grants and sign-ins that ended, whatever store and log say yet
	busy      sync.WaitGroup        // Open and Run calls under way, and the gate's own goroutines
	resting   sync.Once
}

// opening is one call of Open under way.
type opening struct {
	cancel context.CancelCauseFunc
}

// New makes a gate that serves nothing before Start.
func New(c Config, p *policy.Policy) (*Gate, error) {
	if p == nil {
		return nil, errors.New("a gate needs a policy")
	}
	if c.Store == nil || c.Log == nil || c.Recordings == nil {
		return nil, errors.New("a gate needs a store, a log and recordings")
	}
	if c.SignInWait <= 0 {
		c.SignInWait = 5 * time.Minute
	}
	if c.MaxHeld <= 0 {
		c.MaxHeld = 10_000
	}
	if c.MaxHeldPerSource <= 0 {
		c.MaxHeldPerSource = 100
	}
	if c.Node == "" {
		c.Node = "gate"
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	g := &Gate{
		c: c, seq: outbox.New(c.Store, c.Log), hub: hub.New(Change.key),
		stopped:  make(chan struct{}),
		refusals: tally.Tally{Most: 100}, refusers: tally.Tally{Most: 10_000},
		openings: map[*opening]struct{}{}, live: map[string]*Session{}, holds: map[string]*hold{},
		perSource: map[netip.Addr]int{}, waiting: map[string]int{}, cut: map[string]*Ended{},
		closing: &Ended{Cause: "stopping", Say: "the gate has not started yet"},
	}
	g.clock = steady.New(c.Clock)
	g.due = deadline.New(g.clock.Now, g.passed, dueKinds...)
	g.policy.Store(p)
	return g, nil
}

// Start closes the record of sessions that a crash left open, ends what has nobody who
// waits or may use it any more, arms the ends of the rest, and begins to serve.
func (g *Gate) Start(ctx context.Context) error {
	if err := g.seq.Check(ctx); err != nil {
		return err
	}
	g.busy.Go(func() {
		if err := g.seq.Run(); err != nil && !errors.Is(err, audit.ErrFull) {
			g.fail(err)
		}
	})
	g.seq.Kick() // what a crash left in the outbox
	err := g.recover(ctx)
	if err == nil {
		err = g.resume(ctx)
	}
	if err != nil {
		g.rest()
		return err
	}
	g.busy.Go(g.due.Run)
	g.busy.Go(g.countRefusals)
	g.busy.Go(g.watchLog)
	g.mu.Lock()
	g.closing = nil
	g.mu.Unlock()
	if err := g.settle(ctx); err != nil { // the policy may have been changed meanwhile
		g.fail(err)
		return err
	}
	return nil
}

// rest ends what runs beside the sessions, once these have ended.
func (g *Gate) rest() {
	g.resting.Do(func() {
		g.due.Close()
		g.seq.Close()
		g.hub.Close()
		g.shut()
		g.busy.Wait()
	})
}

// Stop refuses new asks, tells live sessions, gives them grace to end, then cuts
// what is left, writes the stop down and returns. Where the gate has stopped by its own
// word it waits for the ends of what was cut, and returns the reason.
func (g *Gate) Stop(ctx context.Context, grace time.Duration) error {
	why := &Ended{Cause: ErrStopping.Cause, Say: "the gate is stopping; connect again in a moment", At: time.Now()}
	if !g.close(why) { // by its own word, or before: those who were cut may still be at their end
		failed, err := g.Err(), g.drained(ctx)
		if failed != nil && err == nil {
			g.rest()
		}
		return errors.Join(failed, err)
	}
	g.eachLive("", func(s *Session) { s.warn(fmt.Sprintf("the gate stops in %s", spell.Short(grace))) })
	leaving, cancel := context.WithTimeout(ctx, grace)
	_ = g.drained(leaving) // what is left is cut
	cancel()
	g.eachLive("", func(s *Session) { s.cancel(why) })
	g.due.Close()
	if err := g.drained(ctx); err != nil {
		return err
	}
	counter, err := g.c.Store.Update(context.WithoutCancel(ctx), func(t Tx) error {
		return t.Log(audit.Event{Type: audit.GateStopped, Actor: "gate", Body: map[string]any{"node": g.c.Node}})
	})
	if err == nil {
		g.seq.Kick()
		err = g.seq.Wait(ctx, counter)
	}
	for errors.Is(err, audit.ErrFull) && ctx.Err() == nil { // what is in the outbox goes out once there is space
		time.Sleep(100 * time.Millisecond)
		err = g.seq.Wait(ctx, counter)
	}
	g.rest()
	return err
}

// drained waits until every session has written its end.
func (g *Gate) drained(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for g.countLive() > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("stop: sessions did not end: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

func (g *Gate) countLive() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.live) + len(g.openings)
}

// eachLive does something with the sessions of a grant; of all of them where that is empty.
func (g *Gate) eachLive(grant string, do func(*Session)) {
	g.mu.Lock()
	sessions := slices.Collect(maps.Values(g.live))
	g.mu.Unlock()
	for _, s := range sessions {
		if grant == "" || s.grant.ID == grant {
			do(s)
		}
	}
}

// close stops taking anything new and ends what waits. It reports false when that
// had happened before.
func (g *Gate) close(why *Ended) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing != nil {
		return false
	}
	g.closing = why
	for o := range g.openings {
		o.cancel(why)
	}
	return true
}

func (g *Gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.stopped:
	default:
		close(g.stopped)
	}
}

// fail stops the gate by its own word: something that must be written down cannot
// be, so nothing may go on. Live sessions are cut at once.
func (g *Gate) fail(err error) {
	why := &Ended{Cause: ErrStopping.Cause, Say: "the gate has stopped: it cannot keep its record", At: time.Now()}
	g.mu.Lock()
	first := g.failure == nil
	if first {
		g.failure = err
	}
	g.mu.Unlock()
	if !first {
		return
	}
	g.c.Logger.Error("the gate stops: it cannot keep its record", "err", err)
	g.close(why)
	g.eachLive("", func(s *Session) { s.cancel(why) })
	g.shut()
}

// Done is closed once the gate has stopped, by Stop or by its own word.
func (g *Gate) Done() <-chan struct{} { return g.stopped }

// Err says why the gate stopped by its own word; nil where it did not.
func (g *Gate) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failure
}

// Ready reports why the gate takes nothing new; nil while it serves.
func (g *Gate) Ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing != nil {
		return g.closing
	}
	return nil
}

// Policy is the policy that decides now.
func (g *Gate) Policy() *policy.Policy { return g.policy.Load() }

func (g *Gate) watchLog() {
	select {
	case <-g.c.Log.Failed():
		g.fail(g.c.Log.Err())
	case <-g.stopped:
	}
}

// begin counts a call in, and gives it a context that ends with the gate.
func (g *Gate) begin(ctx context.Context) (context.Context, func(), error) {
	ctx, cancel := context.WithCancelCause(ctx)
	o := &opening{cancel: cancel}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing != nil {
		cancel(g.closing)
		return nil, nil, g.closing
	}
	g.openings[o] = struct{}{}
	g.busy.Add(1)
	return ctx, func() {
		cancel(nil)
		g.mu.Lock()
		delete(g.openings, o)
		g.mu.Unlock()
		g.busy.Done()
	}, nil
}

// permit makes a change that lets somebody do something: it returns once its
// entries are durable in the log.
func (g *Gate) permit(ctx context.Context, fn func(Tx) error, changes ...Change) error {
	if err := g.Ready(); err != nil {
		return err
	}
	if g.seq.Full() {
		return g.unwritten(audit.ErrFull)
	}
	counter, err := g.c.Store.Update(ctx, fn)
	if err != nil {
		return g.unwritten(err)
	}
	g.seq.Kick()
	if err := g.seq.Wait(ctx, counter); err != nil {
		return g.unwritten(err)
	}
	g.hub.Tell(changes...)
	return nil
}

// restrict writes down something that has already been acted on. Where that cannot
// be done the gate stops.
func (g *Gate) restrict(ctx context.Context, fn func(Tx) error, changes ...Change) error {
	counter, err := g.c.Store.Restrict(context.WithoutCancel(ctx), fn)
	if isUsers(err) {
		return err
	}
	if err != nil {
		g.fail(fmt.Errorf("write down a restriction: %w", err))
		return &Failed{Say: "this took effect, but the gate cannot write it down and has stopped; do it again once the gate is back", Err: err}
	}
	if counter > 0 {
		g.seq.Kick()
	}
	g.hub.Tell(changes...)
	return nil
}

// isUsers reports errors that are an answer, not a fault of store or log.
func isUsers(err error) bool {
	_, ok := Message(err)
	return ok || errors.Is(err, ErrTransition)
}

// unwritten says in words for users that a disk is full, or that store or log cannot be
// written any more, which stops the gate; everything else stays as it is.
func (g *Gate) unwritten(err error) error {
	switch {
	case errors.Is(err, audit.ErrFull):
		return &Failed{Say: "the gate's disk is full, so nothing new opens until there is space; ask the platform team", Err: err}
	case errors.Is(err, ErrStore), errors.Is(err, audit.ErrFailed):
		g.fail(err)
		return g.Ready()
	case errors.Is(err, outbox.ErrClosed):
		return ErrStopping
	}
	return err
}

// Settle waits until all that was written down so far is durable in the log.
func (g *Gate) Settle(ctx context.Context) error {
	counter, err := g.c.Store.Counter(ctx)
	if err != nil {
		return err
	}
	g.seq.Kick()
	return g.seq.Wait(ctx, counter)
}

// view reads state.
func (g *Gate) view(ctx context.Context, fn func(Tx) error) error { return g.c.Store.View(ctx, fn) }

// page is the address of one of the gate's own pages.
func (g *Gate) page(parts string) string { return g.c.URL + parts }

func ref(d policy.Decision) audit.PolicyRef {
	return audit.PolicyRef{Version: d.Version, Digest: d.Digest, Rule: d.Rule, At: d.At}
}
