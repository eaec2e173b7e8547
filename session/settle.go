package session

import (
	"context"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// settle gives an outcome to the pending requests that a new policy leaves nobody to
// decide: what it lets through by rule, or has all the yeses for, is granted; what it
// does not allow is over. Else they would wait for ever.
func (g *Gate) settle(ctx context.Context) error {
	var pending []Request
	err := g.view(ctx, func(t Tx) (err error) {
		pending, err = t.Requests(Filter{State: string(RequestPending)})
		return err
	})
	if err != nil {
		return err
	}
	p := g.Policy()
	for _, r := range pending {
		d := p.Decide(r.Input)
		if d.Effect != policy.Allow {
			err = g.forbidden(ctx, r.ID)
		} else if _, missing := progress(d.Stages, r.User, r.Approvals); missing == 0 {
			err = g.fulfilled(ctx, r.ID)
		}
		if err != nil && !isUsers(err) { // what cannot be granted now waits on, as it did
			return err
		}
	}
	return nil
}

// forbidden ends a request that the policy of now does not allow.
func (g *Gate) forbidden(ctx context.Context, id string) error {
	var user string
	err := g.restrict(ctx, func(t Tx) error {
		r, err := t.Request(id)
		d := g.Policy().Decide(r.Input)
		if err != nil || r.State != RequestPending || d.Effect == policy.Allow {
			return err
		}
		user = r.User.ID()
		r.State, r.Decided, r.Outcome = RequestDenied, g.clock.Now().UTC(), "the policy changed: "+d.Why
		return g.saveRequest(t, r, audit.RequestDenied, "gate", map[string]any{"decision": d})
	})
	if err == nil && user != "" {
		g.hub.Tell(Change{"request", id, user})
		g.call(id)
	}
	return err
}

// fulfilled grants a request that the policy of now lets through as it stands. The person
// may have been disabled, signed out or moved to other groups since they asked.
func (g *Gate) fulfilled(ctx context.Context, id string) error {
	var gr *Grant
	var r Request
	err := g.permit(ctx, func(t Tx) (err error) {
		gr = nil
		p := g.Policy()
		if r, err = t.Request(id); err != nil || r.State != RequestPending {
			return err
		}
		if _, err := standing(t, r.SignIn); err != nil {
			return err
		}
		if r, err = recount(t, p, r); err != nil {
			return err
		}
		in := r.Input
		if in.User.Kind == identity.Person {
			account, err := t.Account(in.User.ID())
			if err != nil {
				return err
			}
			in.User = account.User
		}
		d := p.Decide(in)
		if _, missing := progress(d.Stages, r.User, r.Approvals); d.Effect != policy.Allow || missing > 0 {
			return nil
		}
		if err := g.enforceable(p, in.Target, d.Scope); err != nil {
			return err
		}
		now := g.clock.Now()
		r.Decision = d
		if d.Automatic() {
			gr, err = g.byRule(t, &r, now)
		} else {
			gr, err = g.grant(t, &r, d, now)
		}
		return err
	})
	if err != nil || gr == nil {
		return err
	}
	g.announce(gr, nil)
	g.hub.Tell(Change{"request", r.ID, r.User.ID()})
	g.call(r.ID)
	return nil
}
