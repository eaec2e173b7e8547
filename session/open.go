package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// caller is somebody who proved who they are, on one connection.
type caller struct {
	user    identity.User
	signIn  string
	proof   identity.ProofKind
	proved  time.Time  // when the proof itself stops being one; zero: with what it opened
	browser netip.Addr // where a browser proof was given; else zero
	grant   string     // the only grant that a token opens; else empty
	keep    bool       // the request outlives the connection
	extends string     // the grant that the request would lengthen; else empty
	more    bool       // asks again where an approver gave less than the rule does
	hold    *hold      // answered once the outcome of its confirmation is known; may be nil
}

// Open asks for a session: it verifies the proof, asks the policy, and where people
// must agree it holds until they have. It returns a Session, or an error that
// Message turns into the user's sentence.
//
// notice shows the client one line; it is called from Open's own goroutine and an
// error from it ends the hold. With a nil notice, or ask.NoWait, Open answers *Held
// instead of waiting. When ctx is done the client has gone: the request is withdrawn.
func (g *Gate) Open(ctx context.Context, ask Ask, notice func(string) error) (*Session, error) {
	ctx, end, err := g.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := ask.check(); err != nil {
		return nil, err
	}
	who := &caller{}
	s, err := g.open(ctx, &ask, who, notice)
	if who.hold != nil {
		who.hold.answer(err)
		g.drop(who.hold)
	}
	if err != nil {
		g.refused(ctx, &ask, who, err)
		return nil, err
	}
	return s, nil
}

// open fills ask and who with what it learns. It and whatever waits below it keep what
// they know behind pointers: a stack that waits stays as large as its frames.
func (g *Gate) open(ctx context.Context, ask *Ask, who *caller, notice func(string) error) (*Session, error) {
	if err := g.identify(ctx, ask, who, notice); err != nil {
		return nil, err
	}
	if who.grant == "" && who.hold == nil && who.user.Kind == identity.Person && notice != nil && !ask.NoWait && g.lacksReason(ctx, ask, who) {
		if err := g.confirmed(ctx, ask, who, notice); err != nil {
			return nil, err
		}
	}
	gr, r, err := g.admit(ctx, ask, who, notice != nil && !ask.NoWait)
	if err != nil {
		return nil, err
	}
	if gr != nil {
		if notice != nil && who.proof == identity.ByBrowser {
			err = notice(said(gr))
		}
		return g.session(ask, who, gr), err
	}
	who.hold.opened(r.ID)
	if notice == nil || ask.NoWait {
		return nil, &Held{Request: r.ID, URL: g.page("/requests/" + r.ID), For: g.waitsFor(r)}
	}
	if gr, err = g.wait(ctx, r, notice); err != nil {
		return nil, err
	}
	return g.session(ask, who, gr), nil
}

// check refuses what no policy could make right.
func (a Ask) check() error {
	for _, part := range []struct{ name, value string }{{"target", a.Target}, {"role", a.Role}, {"object", a.Object}} {
		if len(part.value) > MaxName || !printable(part.value) {
			return &Invalid{Field: part.name, Hint: fmt.Sprintf("the %s's name must be at most %d printable characters", part.name, MaxName)}
		}
	}
	switch {
	case a.Target == "":
		return &Invalid{Field: "target", Hint: "no target is named"}
	case a.Role == "":
		return &Invalid{Field: "role", Hint: "no role is named"}
	}
	return checkWords(a.Reason, a.Ticket, a.Duration)
}

// checkWords refuses texts that are too long or that would draw on a terminal.
func checkWords(reason, ticket string, d time.Duration) error {
	switch {
	case utf8.RuneCountInString(reason) > MaxReason || !printable(reason):
		return &Invalid{Field: "reason", Hint: fmt.Sprintf("the reason must be at most %d printable characters on one line", MaxReason)}
	case len(ticket) > MaxTicket || !printable(ticket):
		return &Invalid{Field: "ticket", Hint: fmt.Sprintf("the ticket must be at most %d printable characters", MaxTicket)}
	case d < 0 || (d > 0 && d < time.Second):
		return &Invalid{Field: "duration", Hint: "the duration must be at least one second, such as 30m"}
	}
	return nil
}

// printable refuses control characters (escape sequences would reach another
// person's terminal) and text that runs against the reading direction.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x20 || (r >= 0x7f && r < 0xa0) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) || r == 0x2028 || r == 0x2029
	})
}

// input is what the policy is asked about this caller and this ask.
func (a *Ask) input(who *caller, now time.Time) policy.Input {
	return policy.Input{
		User: who.user, Proof: who.proof, Target: a.Target, Role: a.Role, Object: a.Object,
		Duration: a.Duration, Reason: a.Reason, Ticket: a.Ticket,
		Client: a.Client.Address.Addr().Unmap(), Browser: who.browser.Unmap(), Time: now.UTC(), Need: a.Need,
		BreakGlass: a.BreakGlass,
	}
}

// lacksReason reports that somebody who is known may ask, but has not said why, and
// has no grant yet: a page can take the reason while the connection is held.
func (g *Gate) lacksReason(ctx context.Context, ask *Ask, who *caller) bool {
	p := g.Policy()
	in := ask.input(who, time.Now())
	if d := p.Decide(in); d.Effect != policy.Deny || d.Field == "" {
		return false
	}
	var served *Grant
	err := g.view(ctx, func(t Tx) (err error) {
		served, err = g.serving(t, p, in, who, g.clock.Now())
		return err
	})
	return err == nil && served == nil
}

// admit finds the grant that serves this ask, or makes one where a rule is enough,
// or makes or joins the request that people must answer. All in one transaction, so
// that ten connections at once become one request. One of grant and request is nil.
func (g *Gate) admit(ctx context.Context, ask *Ask, who *caller, held bool) (gr *Grant, r *Request, err error) {
	p := g.Policy()
	joined, fresh, broken := "", false, false
	err = g.permit(ctx, func(t Tx) error {
		gr, r, joined, fresh, broken = nil, nil, "", false, false
		now := g.clock.Now()
		in := ask.input(who, now)
		if who.extends == "" {
			if gr, err = g.serving(t, p, in, who, now); err != nil || gr != nil && !(who.more && gr.narrowed()) {
				return err
			}
			gr = nil
		}
		if who.grant != "" {
			return ErrBadToken
		}
		d := p.Decide(in)
		if ask.NoRequest && (d.Effect == policy.Allow && !d.Automatic() || d.Effect != policy.Allow && d.Field != "") {
			return g.elsewhere(ask)
		}
		if d.Effect != policy.Allow {
			return denied(d)
		}
		if err := g.enforceable(p, in.Target, d.Scope); err != nil {
			return err
		}
		if in.BreakGlass {
			if err := g.door(t, in); err != nil {
				return err
			}
		}
		if !d.Automatic() && who.extends == "" {
			if r, err = g.joinable(t, in, who, !held || who.keep); err != nil {
				return err
			}
		}
		if r == nil && !d.Automatic() {
			if err = room(t, in.User); err != nil {
				return err
			}
		}
		if r == nil {
			if r, err = g.create(t, in, d, who, ask.Client, !held || who.keep); err != nil {
				return err
			}
			fresh = !d.Automatic()
		}
		if d.Automatic() {
			gr, err = g.byRule(t, r, now)
			r, broken = nil, d.BreakGlass
			return err
		}
		if held {
			joined = r.ID
			g.countWaiting(r.ID, 1)
		}
		return nil
	})
	if err != nil {
		if joined != "" {
			g.left(joined)
		}
		return nil, nil, err
	}
	g.announce(gr, r)
	if fresh {
		g.call(r.ID)
	}
	if broken {
		g.owe(*gr)
	}
	return gr, r, nil
}

// announce arms the ends of what is new and tells the pages.
func (g *Gate) announce(gr *Grant, r *Request) {
	if gr != nil {
		g.eachLive(gr.ID, func(s *Session) { s.lengthen(*gr) })
		g.due.Add("grant", gr.ID, gr.Ends)
		g.hub.Tell(Change{"grant", gr.ID, gr.Key.User})
	}
	if r != nil {
		g.due.Add("request", r.ID, r.TimesOut)
		g.hub.Tell(Change{"request", r.ID, r.User.ID()})
	}
}

func (g *Gate) countWaiting(id string, n int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting[id] += n
	left := g.waiting[id]
	if left <= 0 {
		delete(g.waiting, id)
	}
	return left
}

// denied turns a policy's no into the user's sentence.
func denied(d policy.Decision) error {
	if d.Field != "" {
		hint := d.Why
		if d.Hint != "" {
			hint += "; " + d.Hint
		}
		return &Invalid{Field: d.Field, Hint: hint}
	}
	by := ""
	if d.Rule != "" {
		by = "rule " + d.Rule
	}
	return &Denied{Reason: d.Why, By: by, Next: d.Hint}
}

// enforceable refuses a scope that the target's protocol cannot hold a session to:
// nothing that is declared is decoration.
func (g *Gate) enforceable(p *policy.Policy, target string, scope policy.Scope) error {
	t, ok := p.Target(target)
	if !ok {
		return &Denied{Reason: "there is no target " + target}
	}
	able := g.c.Scopes[t.Protocol]
	for _, part := range scope.Parts() {
		if !slices.Contains(able, part) {
			return &Denied{Reason: fmt.Sprintf("the rule limits this to %s, which the gate cannot enforce for %s targets yet", part, t.Protocol), Next: "ask the policy's authors"}
		}
	}
	return nil
}

// refused writes down that somebody known was turned away. Before anybody is known
// refusals are only counted: a port scan must not fill the log.
func (g *Gate) refused(ctx context.Context, ask *Ask, who *caller, err error) {
	var denied *Denied
	var invalid *Invalid
	say, ok := Message(err)
	if who.user.IsZero() {
		if !ok {
			say = "internal error"
		}
		g.refusals.Add(say)
		return
	}
	if !errors.As(err, &denied) && !errors.As(err, &invalid) {
		return // an outcome of its own entry, or a fault
	}
	if g.refusers.Add(who.user.String()) > maxRefused {
		return
	}
	p := g.Policy()
	//nolint:errcheck // restrict stops the gate by itself where it cannot write
	g.restrict(ctx, func(t Tx) error {
		in := ask.input(who, time.Now())
		decided, d := audit.PolicyRef{Version: p.Version(), Digest: p.Digest()}, p.Decide(in)
		for _, fault := range d.Errors { // conditions that could not be evaluated: they denied
			err := t.Log(audit.Event{Type: audit.PolicyError, Actor: "gate", Policy: decided, Body: map[string]any{"error": fault, "input": in}})
			if err != nil {
				return err
			}
		}
		return t.Log(audit.Event{
			Type: audit.AskRefused, Actor: who.user.ID(), Policy: decided,
			Body: map[string]any{"user": who.user.String(), "said": say, "input": in, "decision": d},
		})
	})
}
