package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/policy"
)

// wait holds until the request has its outcome. A store that cannot be read neither
// admits nor refuses: it waits on.
func (g *Gate) wait(ctx context.Context, r *Request, notice func(string) error) (*Grant, error) {
	changed, stop := g.hub.Watch(Change{Kind: "request", ID: r.ID}.key())
	defer stop()
	until, more := r.TimesOut, ""
	if now := time.Now(); r.Decision.Hold > 0 && now.Add(r.Decision.Hold).Before(until) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.Decision.Hold, ErrWaitOver)
		defer cancel()
		until, more = now.Add(r.Decision.Hold), ", then the request waits on without you until "+spell.Clock(r.TimesOut)
	}
	if err := notice(fmt.Sprintf("signed in as %s; waiting for %s until %s%s. Ctrl-C withdraws the request.", r.User.String(), g.waitsFor(r), spell.Clock(until), more)); err != nil {
		g.left(r.ID)
		return nil, err
	}
	told := len(r.Approvals)
	for {
		now, gr, err := g.outcome(ctx, r.ID)
		switch {
		case errors.Is(context.Cause(ctx), ErrWaitOver):
			return nil, g.waitOver(r)
		case ctx.Err() != nil:
			g.left(r.ID)
			return nil, context.Cause(ctx)
		case err != nil:
			g.c.Logger.Warn("a held request cannot be read; waiting on", "request", r.ID, "err", err)
		case now.State == RequestApproved:
			g.countWaiting(r.ID, -1)
			return gr, notice(said(gr))
		case now.State != RequestPending:
			g.countWaiting(r.ID, -1)
			return nil, now.refusal()
		case len(now.Approvals) > told:
			told = len(now.Approvals)
			if err := notice(fmt.Sprintf("%s said yes; waiting for %s", now.Approvals[told-1].name(), g.waitsFor(now))); err != nil {
				g.left(r.ID)
				return nil, err
			}
		}
		var retry <-chan time.Time
		if err != nil {
			retry = time.After(time.Second)
		}
		select {
		case <-changed:
		case <-retry:
		case <-ctx.Done():
		}
	}
}

// waitOver lets a client go whose request stays open, whatever becomes of the others
// that wait for it. Where that cannot be written, the request goes with its clients.
func (g *Gate) waitOver(r *Request) error {
	_, err := g.c.Store.Update(context.Background(), func(t Tx) error {
		now, err := t.Request(r.ID)
		if err != nil || now.Keep || now.State != RequestPending {
			return err
		}
		now.Keep = true
		return t.SaveRequest(now)
	})
	if err != nil {
		g.left(r.ID)
		return g.unwritten(err)
	}
	g.countWaiting(r.ID, -1)
	return &Held{Request: r.ID, URL: g.page("/requests/" + r.ID), For: g.waitsFor(r)}
}

// outcome reads a request, and its grant once that is durable in the log.
func (g *Gate) outcome(ctx context.Context, id string) (*Request, *Grant, error) {
	r, gr := &Request{}, &Grant{}
	err := g.view(ctx, func(t Tx) (err error) {
		if *r, err = t.Request(id); err == nil && r.State == RequestApproved {
			*gr, err = t.Grant(r.Grant)
		}
		if err == nil {
			*r, err = recount(t, g.Policy(), *r)
		}
		return err
	})
	if err != nil || r.State != RequestApproved {
		return r, gr, err
	}
	counter, err := g.c.Store.Counter(ctx)
	if err != nil {
		return r, gr, err
	}
	return r, gr, g.seq.Wait(ctx, counter)
}

// refusal is the error of a request that ended without a yes.
func (r *Request) refusal() error {
	switch r.State {
	case RequestDenied:
		return &Denied{Reason: r.Outcome, By: r.decider()}
	case RequestTimedOut:
		return &Ended{Cause: ErrTimedOut.Cause, Say: r.Outcome + "; nothing was opened, connect again to ask again", At: r.Decided}
	default:
		return &Ended{Cause: ErrWithdrawn.Cause, Say: "the request was withdrawn", At: r.Decided}
	}
}

// left says that a held client has gone. The last one takes the request with it,
// unless the person said to keep it: a yes after that opens nothing.
func (g *Gate) left(id string) {
	var user string
	others := -1
	//nolint:errcheck // restrict stops the gate by itself where it cannot write
	g.restrict(context.Background(), func(t Tx) error {
		if others < 0 { // on a full disk this runs twice
			others = g.countWaiting(id, -1)
		}
		if others > 0 {
			return nil
		}
		r, err := t.Request(id)
		if errors.Is(err, ErrNotFound) || (err == nil && (r.State != RequestPending || r.Keep)) {
			return nil
		}
		if err != nil {
			return err
		}
		user = r.User.ID()
		r.State, r.Decided, r.Outcome = RequestWithdrawn, time.Now().UTC(), "withdrawn: the client hung up"
		return g.saveRequest(t, r, audit.RequestWithdrawn, r.User.ID(), nil)
	})
	g.hub.Tell(Change{"request", id, user})
}

// waitsFor says in words whom a request waits for: "1 of: dba (bob, carol)".
func (g *Gate) waitsFor(r *Request) string {
	stage, missing := progress(r.Decision.Stages, r.User, r.Approvals)
	if missing == 0 {
		return "nobody"
	}
	from := r.Decision.Stages[stage].From
	said := fmt.Sprintf("%d of: %s", missing, named(from))
	if people := g.people(from, *r); len(people) > 0 {
		said += " (" + strings.Join(people, ", ") + ")"
	}
	return said
}

// maxNamed is how many people a line of a terminal names.
const maxNamed = 6

// people names those who are known here and could say the next yes.
func (g *Gate) people(from policy.People, r Request) []string {
	var names []string
	//nolint:errcheck // names are a courtesy; without them the groups are named
	g.view(context.Background(), func(t Tx) error {
		accounts, err := t.Accounts()
		for _, a := range accounts {
			if a.Disabled.IsZero() && from.Has(a.User) && !a.User.Same(r.User) && !approvedBy(r.Approvals, a.User) {
				names = append(names, a.User.Short())
			}
		}
		return err
	})
	if len(names) > maxNamed {
		names = append(names[:maxNamed], "…")
	}
	return names
}

// approvedBy reports that somebody's yes counts, or did.
func approvedBy(approvals []Approval, u identity.User) bool {
	return slices.ContainsFunc(approvals, func(a Approval) bool { return a.Rule == "" && !a.Void && a.By.Same(u) })
}
