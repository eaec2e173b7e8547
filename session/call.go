package session

import (
	"context"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/policy"
)

// call tells people by the Notifier how a request stands: those who can say the next
// yes that it waits, or the requester how it ended. Nothing depends on it.
func (g *Gate) call(id string) {
	if g.c.Notifier == nil {
		return
	}
	var n Notice
	err := g.view(context.Background(), func(t Tx) error {
		r, err := t.Request(id)
		if err == nil {
			r, err = recount(t, g.Policy(), r)
		}
		if err != nil {
			return err
		}
		n = Notice{Request: r, URL: g.page("/requests/" + r.ID), To: []identity.User{r.User}, Say: r.Outcome}
		switch r.State {
		case RequestPending:
			n.Kind = NoticeWaiting
			n.Say = r.User.String() + " wants " + r.Input.Target + " as " + r.Input.Role + " for " + spell.Short(r.Decision.Duration) + "; it waits until " + spell.Clock(r.TimesOut)
			n.To, err = g.deciders(t, r)
		case RequestApproved:
			n.Kind = NoticeApproved
		case RequestDenied:
			n.Kind = NoticeDenied
		case RequestTimedOut:
			n.Kind = NoticeTimedOut
		default: // withdrawn, by the requester's own doing
			n.To = nil
		}
		return err
	})
	if err != nil {
		g.c.Logger.Warn("nobody was told of a request", "request", id, "err", err)
		return
	}
	if len(n.To) > 0 {
		g.c.Notifier.Notify(context.Background(), n)
	}
}

// deciders are the known people who could say the next yes, by the policy of now.
func (g *Gate) deciders(t Tx, r Request) ([]identity.User, error) {
	p := g.Policy()
	d := p.Decide(r.Input)
	stage, missing := progress(d.Stages, r.User, r.Approvals)
	if d.Effect != policy.Allow || missing == 0 {
		return nil, nil
	}
	accounts, err := t.Accounts()
	var people []identity.User
	for _, a := range accounts {
		if a.Disabled.IsZero() && d.Stages[stage].From.Has(a.User) && !approvedBy(r.Approvals, a.User) &&
			p.MayApprove(d.Stages[stage], r.User, a.User) == nil {
			people = append(people, a.User)
		}
	}
	return people, err
}
