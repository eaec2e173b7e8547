package session

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/netsource"
	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/policy"
)

// A hold is a connection that waits for a person to confirm, in a browser, that it
// is theirs. It lives in memory only: it ends with its connection.
//
// The link that the client is shown can be sent to somebody else (RFC 8628, section
// 5.4), so: its ID carries 128 bits and belongs to the first sign-in that opens it;
// the person picks the terminal's phrase among three, and wrong twice ends it.
type hold struct {
	id       string
	ask      Ask
	right    string
	phrases  []string
	since    time.Time
	until    time.Time
	known    *caller // somebody who is known already and only has to say why; else nil
	answered chan struct{}

	mu      sync.Mutex
	state   holdState
	owner   string // the sign-in that opened the link first
	wrong   int
	confirm chan *confirmed // capacity one
	request string          // what it became
	outcome error           // once answered
	end     context.CancelCauseFunc
}

type holdState string

const (
	holdWaiting   holdState = "waiting"
	holdConfirmed holdState = "confirmed"
	holdEnded     holdState = "ended"
)

type confirmed struct {
	signIn  identity.SignIn
	browser netip.Addr
	said    Confirmation
}

// A Confirmation is what a person says of a held connection of theirs.
type Confirmation struct {
	Phrase   string
	Reason   string
	Ticket   string
	Duration time.Duration
	Keep     bool // keep the request for the next connection if this one goes
	// BreakGlass asks for the break-glass rules, and for no others.
	BreakGlass bool
}

// A HeldView is a held connection as its page shows it.
type HeldView struct {
	ID           string
	State        string // waiting, confirmed, ended
	Target       string
	Role         string
	Object       string
	Client       Client
	Since, Until time.Time
	Phrases      []string // three in an order that does not change; one is the terminal's
	Reason       string   // what the client gave already
	Ticket       string
	Duration     time.Duration
	Decision     policy.Decision // what the policy says now; for a reason not given yet, of one that is
	Glass        policy.Decision // what it says of breaking the glass
	Same         bool            // connection and browser come from one address
	Browser      netip.Addr
	Existing     *Grant // a grant that would serve this connection at once
	Request      string // once asked
	Outcome      string // once ended: the sentence the client was told
}

// confirmed holds the connection until somebody has confirmed it, and fills ask and who
// with what that person said. who is empty, or somebody who only has to say why.
func (g *Gate) confirmed(ctx context.Context, ask *Ask, who *caller, notice func(string) error) error {
	h, ctx, err := g.hold(ctx, ask, who)
	if err != nil {
		return err
	}
	fail := func(err error) error {
		h.answer(err)
		g.drop(h)
		return err
	}
	if err := h.present(g.page("/h/"+h.id), notice); err != nil {
		return fail(err)
	}
	timer := time.NewTimer(time.Until(h.until))
	defer timer.Stop()
	select {
	case c := <-h.confirm:
		c.fill(ask, who)
		who.hold = h
		return nil
	case <-timer.C:
		return fail(&Ended{Cause: ErrTimedOut.Cause, Say: "nobody confirmed this connection within " + spell.Short(g.c.SignInWait) + "; nothing was opened, connect again for a new link", At: time.Now()})
	case <-ctx.Done():
		return fail(context.Cause(ctx))
	}
}

// present shows the client its link and its phrase.
func (h *hold) present(url string, notice func(string) error) error {
	link := "sign in and say why at " + url
	if h.known != nil {
		link = "say why at " + url
	}
	if err := notice(link); err != nil {
		return err
	}
	return notice("your phrase is  " + h.right + "  - the page must show the same")
}

func (c *confirmed) fill(ask *Ask, who *caller) {
	*who = caller{user: c.signIn.User, signIn: c.signIn.ID, proof: ask.Proof.Kind, browser: c.browser, keep: c.said.Keep}
	ask.Reason, ask.Ticket, ask.Duration, ask.BreakGlass = c.said.Reason, c.said.Ticket, c.said.Duration, c.said.BreakGlass
}

// hold registers a connection that waits, within the caps.
func (g *Gate) hold(ctx context.Context, ask *Ask, who *caller) (*hold, context.Context, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	right, phrases := identity.NewPhrases()
	now := time.Now()
	h := &hold{
		id: identity.NewID(), ask: *ask, right: right, phrases: phrases, since: now, until: now.Add(g.c.SignInWait),
		answered: make(chan struct{}), state: holdWaiting, confirm: make(chan *confirmed, 1), end: cancel,
	}
	if who.signIn != "" {
		h.known, *who = new(*who), caller{}
	}
	source := netsource.Of(ask.Client.Address.Addr())
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held >= g.c.MaxHeld || g.perSource[source] >= g.c.MaxHeldPerSource {
		cancel(nil)
		return nil, nil, &Denied{Reason: "too many connections wait for a sign-in already", Next: "close some, or use a certificate (sallyport login)"}
	}
	g.holds[h.id] = h
	g.held++
	g.perSource[source]++
	return h, ctx, nil
}

// linger is how long a hold that has ended can still be looked at.
const linger = 10 * time.Minute

// drop takes the hold out of the caps at once; its page stays for a while, to say
// how it ended.
func (g *Gate) drop(h *hold) {
	source := netsource.Of(h.ask.Client.Address.Addr())
	g.mu.Lock()
	g.held--
	crowded := len(g.holds) >= 2*g.c.MaxHeld // pages of what is over take no more memory than that
	if g.perSource[source]--; g.perSource[source] <= 0 {
		delete(g.perSource, source)
	}
	g.mu.Unlock()
	h.end(nil)
	g.hub.Tell(Change{Kind: "hold", ID: h.id})
	h.mu.Lock()
	opened := h.owner != ""
	h.mu.Unlock()
	if !opened || crowded {
		g.forget(h)
		return
	}
	time.AfterFunc(linger, func() { g.forget(h) })
}

func (g *Gate) forget(h *hold) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.holds, h.id)
}

// answer keeps how the hold ended, for its page; only the first answer counts.
func (h *hold) answer(err error) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state == holdEnded {
		return
	}
	h.state, h.outcome = holdEnded, err
	h.release()
}

// opened says which request the hold became.
func (h *hold) opened(request string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.request = request
	h.release()
}

func (h *hold) release() {
	select {
	case <-h.answered:
	default:
		close(h.answered)
	}
}

// find returns the hold for its page. The first sign-in that opens the link owns
// it; for everybody else it does not exist.
func (g *Gate) find(ctx context.Context, id string, by identity.SignIn) (*hold, identity.SignIn, error) {
	by, err := g.standing(ctx, by.ID)
	if err != nil {
		return nil, by, err
	}
	g.mu.Lock()
	h := g.holds[id]
	g.mu.Unlock()
	if h == nil {
		return nil, by, ErrNotFound
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.known != nil && h.known.user.ID() != by.User.ID():
		return nil, by, ErrNotFound
	case h.owner == "":
		h.owner = by.ID
	case h.owner != by.ID:
		return nil, by, ErrNotFound
	}
	return h, by, nil
}

// Held shows a held connection to the person at its link, and binds the link to
// this sign-in. addr is the browser's address.
func (g *Gate) Held(ctx context.Context, id string, by identity.SignIn, addr netip.Addr) (HeldView, error) {
	h, by, err := g.find(ctx, id, by)
	if err != nil {
		return HeldView{}, err
	}
	return g.heldView(ctx, h, by, addr)
}

func (g *Gate) heldView(ctx context.Context, h *hold, by identity.SignIn, addr netip.Addr) (HeldView, error) {
	h.mu.Lock()
	v := HeldView{
		ID: h.id, State: string(h.state), Target: h.ask.Target, Role: h.ask.Role, Object: h.ask.Object, Client: h.ask.Client,
		Since: h.since, Until: h.until, Phrases: h.phrases, Reason: h.ask.Reason, Ticket: h.ask.Ticket, Duration: h.ask.Duration,
		Browser: addr, Request: h.request,
	}
	if h.state == holdEnded {
		v.Outcome = "The connection went through."
		if h.outcome != nil {
			v.Outcome, _ = Message(h.outcome)
		}
	}
	h.mu.Unlock()
	in := h.ask.input(&caller{user: by.User, proof: h.ask.Proof.Kind, browser: addr}, time.Now())
	v.Same = in.SameAddress()
	p := g.Policy()
	err := g.view(ctx, func(t Tx) (err error) {
		v.Existing, err = g.serving(t, p, in, &caller{}, g.clock.Now())
		return err
	})
	said := func(in policy.Input) policy.Decision {
		d := p.Decide(in)
		if d.Field == "reason" {
			in.Reason = "given below"
			d = p.Decide(in)
		}
		return d
	}
	v.Decision = said(in)
	in.BreakGlass = true
	v.Glass = said(in)
	return v, err
}

// Confirm says that the held connection is this person's, and why they want it.
// What is wrong with it and can be mended is *Invalid, and the hold goes on; a
// second wrong phrase ends it. It returns once the request is on the record, the
// connection went through, or it was refused.
func (g *Gate) Confirm(ctx context.Context, id string, by identity.SignIn, addr netip.Addr, c Confirmation) (HeldView, error) {
	h, by, err := g.find(ctx, id, by)
	if err != nil {
		return HeldView{}, err
	}
	if err := checkWords(c.Reason, c.Ticket, c.Duration); err != nil {
		return HeldView{}, err
	}
	if err := g.phrase(ctx, h, by, c.Phrase); err != nil {
		return HeldView{}, err
	}
	if err := g.mendable(ctx, h, by, addr, c); err != nil {
		return HeldView{}, err
	}
	h.mu.Lock()
	if h.state != holdWaiting {
		h.mu.Unlock()
		return HeldView{}, &Denied{Reason: "this connection was confirmed or ended already"}
	}
	h.state = holdConfirmed
	h.confirm <- &confirmed{signIn: by, browser: addr, said: c}
	h.mu.Unlock()
	select {
	case <-h.answered:
	case <-ctx.Done():
		return HeldView{}, ctx.Err()
	}
	return g.heldView(ctx, h, by, addr)
}

// phrase checks the phrase that was picked. It comes before everything else that
// Confirm could tell: a wrong pick learns nothing.
func (g *Gate) phrase(ctx context.Context, h *hold, by identity.SignIn, picked string) error {
	h.mu.Lock()
	if h.state != holdWaiting {
		h.mu.Unlock()
		return &Denied{Reason: "this connection was confirmed or ended already"}
	}
	if picked == "" {
		h.mu.Unlock()
		return &Invalid{Field: "phrase", Hint: "pick the phrase that your terminal shows"}
	}
	if picked == h.right {
		h.mu.Unlock()
		return nil
	}
	h.wrong++
	last := h.wrong >= 2
	h.mu.Unlock()
	if !last {
		return &Invalid{Field: "phrase", Hint: "your terminal shows another phrase; one more try, or press \"Not mine\""}
	}
	why := &Denied{Reason: "the phrase was picked wrong twice, so this connection is ended", Next: "connect again"}
	return errors.Join(g.endHold(ctx, h, by, why, "phrase wrong twice"), why)
}

// mendable refuses, while the hold goes on, what the person can put right.
func (g *Gate) mendable(ctx context.Context, h *hold, by identity.SignIn, addr netip.Addr, c Confirmation) error {
	ask := h.ask
	ask.Reason, ask.Ticket, ask.Duration, ask.BreakGlass = c.Reason, c.Ticket, c.Duration, c.BreakGlass
	in := ask.input(&caller{user: by.User, proof: h.ask.Proof.Kind, browser: addr}, time.Now())
	d := g.Policy().Decide(in)
	if d.Effect == policy.Allow || d.Field == "" {
		return nil
	}
	var served *Grant
	err := g.view(ctx, func(t Tx) (err error) {
		served, err = g.serving(t, g.Policy(), in, &caller{}, g.clock.Now())
		return err
	})
	if err != nil || served != nil {
		return err
	}
	return denied(d)
}

// NotMine ends a held connection: the person at the link did not start it.
func (g *Gate) NotMine(ctx context.Context, id string, by identity.SignIn) error {
	h, by, err := g.find(ctx, id, by)
	if err != nil {
		return err
	}
	why := &Denied{Reason: "the person at the link says that this connection is not theirs; nothing was opened", By: by.User.String()}
	return g.endHold(ctx, h, by, why, "not mine")
}

// endHold ends a hold before any request exists, and writes down who did and why.
func (g *Gate) endHold(ctx context.Context, h *hold, by identity.SignIn, why *Denied, cause string) error {
	h.answer(why)
	h.end(why)
	return g.restrict(ctx, func(t Tx) error {
		return t.Log(audit.Event{Type: audit.HoldEnded, Actor: by.User.ID(), Body: map[string]any{
			"user": by.User.String(), "cause": cause, "target": h.ask.Target, "role": h.ask.Role, "client": h.ask.Client,
		}})
	}, Change{Kind: "hold", ID: h.id})
}
