package session

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// maxRows bounds one listing.
const maxRows = 500

func bounded(f Filter) Filter {
	if f.Limit <= 0 || f.Limit > maxRows {
		f.Limit = maxRows
	}
	return f
}

// Requests lists requests that this person may see: their own, those that they
// decide or decided, all with the right to audit. Newest first.
func (g *Gate) Requests(ctx context.Context, by identity.SignIn, f Filter) ([]Request, error) {
	p := g.Policy()
	return g.list(ctx, f, func(r Request) bool { return visible(p, by.User, r) })
}

// Inbox lists the pending requests that this person may decide now.
func (g *Gate) Inbox(ctx context.Context, by identity.SignIn) ([]Request, error) {
	p := g.Policy()
	return g.list(ctx, Filter{State: string(RequestPending)}, func(r Request) bool {
		_, err := mayDecide(p, by.User, r, g.clock.Now())
		return err == nil
	})
}

func (g *Gate) list(ctx context.Context, f Filter, keep func(Request) bool) (list []Request, err error) {
	err = g.view(ctx, func(t Tx) error {
		p := g.Policy()
		read := func(f Filter) ([]Request, error) {
			rows, err := t.Requests(f)
			for i := range rows {
				if err == nil {
					rows[i], err = recount(t, p, rows[i])
				}
			}
			return rows, err
		}
		list, err = filtered(f, read, func(r Request) Cursor { return Cursor{r.Created, r.ID} }, keep)
		return err
	})
	for i := range list {
		list[i] = g.asSeen(list[i])
	}
	return list, err
}

// maxScanned bounds how many rows one listing looks at for those that it may show.
const maxScanned = 20 * maxRows

// filtered reads on until it has as many rows as were asked for that this person
// may see: a page is short only at the end.
func filtered[T any](f Filter, read func(Filter) ([]T, error), at func(T) Cursor, keep func(T) bool) (list []T, err error) {
	f = bounded(f)
	want := f.Limit
	f.Limit = maxRows
	for range maxScanned / maxRows {
		rows, err := read(f)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if keep(row) {
				if list = append(list, row); len(list) == want {
					return list, nil
				}
			}
		}
		if len(rows) < maxRows {
			break
		}
		f.Before = at(rows[len(rows)-1])
	}
	return list, nil
}

// asSeen adds what is true of this moment only.
func (g *Gate) asSeen(r Request) Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	r.Waiting = r.State == RequestPending && g.waiting[r.ID] > 0
	return r
}

// Request shows one request, with the same right as Requests.
func (g *Gate) Request(ctx context.Context, by identity.SignIn, id string) (r Request, err error) {
	err = g.view(ctx, func(t Tx) (err error) {
		r, err = g.seen(t, g.Policy(), by.User, id)
		return err
	})
	return g.asSeen(r), err
}

// WaitsFor says in words whom a pending request waits for: "1 of: dba (bob, carol)".
func (g *Gate) WaitsFor(r Request) string { return g.waitsFor(&r) }

// Grants lists one's own grants, and others' with the right to audit or to cut.
func (g *Gate) Grants(ctx context.Context, by identity.SignIn, f Filter) (list []Grant, err error) {
	err = g.view(ctx, func(t Tx) error {
		list, err = filtered(f, t.Grants, func(gr Grant) Cursor { return Cursor{gr.Starts, gr.ID} }, func(gr Grant) bool { return g.mayLook(by, gr.Key) })
		return err
	})
	return list, err
}

// Grant shows one grant, with the same right as Grants; its approvers see it too,
// and who reviews broken glass.
func (g *Gate) Grant(ctx context.Context, by identity.SignIn, id string) (gr Grant, err error) {
	err = g.view(ctx, func(t Tx) error {
		if gr, err = t.Grant(id); err != nil || g.mayLook(by, gr.Key) {
			return err
		}
		if gr.Decision.BreakGlass {
			if v, err := t.Review(gr.ID); err == nil && v.mayReview(g.Policy(), by.User) == nil {
				return nil
			}
		}
		for _, id := range append(gr.ExtendedBy, gr.Request) {
			r, err := t.Request(id)
			if err != nil || approvedBy(r.Approvals, by.User) {
				return err
			}
		}
		return ErrNotFound
	})
	if err != nil {
		return Grant{}, err
	}
	return gr, nil
}

func (g *Gate) mayLook(by identity.SignIn, key Key) bool {
	p := g.Policy()
	return key.User == by.User.ID() || p.Has(policy.RightAudit, by.User, key.Target) || p.Has(policy.RightCut, by.User, key.Target)
}

// Sessions lists one's own sessions, and others' with the right to audit, cut or review.
func (g *Gate) Sessions(ctx context.Context, by identity.SignIn, f Filter) (list []Record, err error) {
	err = g.view(ctx, func(t Tx) error {
		list, err = filtered(f, t.Sessions, func(r Record) Cursor { return Cursor{r.Started, r.ID} }, func(r Record) bool {
			return g.mayLook(by, r.Key) || g.MayReview(by, r) == nil
		})
		return err
	})
	return list, err
}

// Session shows one session, with the same right as Sessions.
func (g *Gate) Session(ctx context.Context, by identity.SignIn, id string) (r Record, err error) {
	err = g.view(ctx, func(t Tx) (err error) {
		r, err = t.Session(id)
		return err
	})
	if err != nil {
		return Record{}, err
	}
	if !g.mayLook(by, r.Key) && g.MayReview(by, r) != nil {
		return Record{}, ErrNotFound
	}
	return r, nil
}

// MayReview says whether somebody may look at a session's recording: the policy's
// right, never by having been the one who was recorded.
func (g *Gate) MayReview(by identity.SignIn, r Record) error {
	if g.Policy().Has(policy.RightReview, by.User, r.Key.Target) {
		return nil
	}
	return &Denied{Reason: "the policy does not let you review recordings of " + r.Key.Target}
}

// Viewed writes down that somebody looks at a recording; it is shown only after
// that is durable.
func (g *Gate) Viewed(ctx context.Context, by identity.SignIn, sessionID string) error {
	return g.permit(ctx, func(t Tx) error {
		s, err := standing(t, by.ID)
		if err != nil {
			return err
		}
		r, err := t.Session(sessionID)
		if err != nil {
			return err
		}
		if err := g.MayReview(s, r); err != nil {
			return err
		}
		return t.Log(audit.Event{
			Type: audit.RecordingViewed, Actor: s.User.ID(), Session: r.ID, Grant: r.Grant, Request: r.Request,
			Body: map[string]any{"user": s.User.String(), "session": r.ID},
		})
	})
}

// A TargetView is a target and role that somebody may ask for, and what it takes.
type TargetView struct {
	Target, Protocol, Role string
	Longest                time.Duration
	Reason, Ticket         bool   // whether one is asked for
	Takes                  string // "1 of: dba", or "nobody's yes"
	Glass                  string // what breaking the glass for it takes; empty: it cannot be
}

// Targets lists what this person could ask for now.
func (g *Gate) Targets(by identity.SignIn) []TargetView {
	p := g.Policy()
	var list []TargetView
	for _, target := range p.Targets() {
		for role := range target.Roles {
			v, plain := g.couldAsk(p, by.User, target, role, false)
			broken, glass := g.couldAsk(p, by.User, target, role, true)
			if v.Glass = broken.Takes; !plain {
				v = broken
				v.Glass, v.Takes = broken.Takes, "breaking the glass"
			}
			if plain || glass {
				list = append(list, v)
			}
		}
	}
	slices.SortFunc(list, func(a, b TargetView) int {
		return strings.Compare(a.Target+"\x00"+a.Role, b.Target+"\x00"+b.Role)
	})
	return list
}

func (g *Gate) couldAsk(p *policy.Policy, u identity.User, target policy.Target, role string, glass bool) (TargetView, bool) {
	v := TargetView{Target: target.Name, Protocol: target.Protocol, Role: role}
	ask := &Ask{Target: target.Name, Role: role, BreakGlass: glass}
	who := &caller{user: u}
	who.proof = g.bestProof(ask, who)
	in := ask.input(who, time.Now())
	d := p.Decide(in)
	for range 2 { // what is missing, one by one
		switch d.Field {
		case "reason":
			v.Reason, in.Reason = true, "to be given"
		case "ticket":
			v.Ticket = true
			return v, true // a ticket that matches cannot be made up here
		}
		d = p.Decide(in)
	}
	if d.Effect != policy.Allow {
		return v, false
	}
	v.Longest = d.Longest
	v.Takes = "nobody's yes"
	if len(d.Stages) > 0 {
		v.Takes = g.waitsFor(&Request{User: u, Decision: d})
	}
	if glass {
		v.Takes = "a review by " + named(d.Review) + " afterwards"
	}
	return v, true
}
