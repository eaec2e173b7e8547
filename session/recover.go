package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

// recover writes down what the last run could not: its live sessions are over, and
// the gate starts.
func (g *Gate) recover(ctx context.Context) error {
	if err := g.c.Recordings.Recover(ctx); err != nil {
		return fmt.Errorf("close recordings of the last run: %w", err)
	}
	p := g.Policy()
	counter, err := g.c.Store.Update(ctx, func(t Tx) error {
		open, err := t.Sessions(Filter{State: "live"})
		if err != nil {
			return err
		}
		now := time.Now()
		for _, r := range open {
			r.Live, r.Ended, r.Cause = false, now, "crashed"
			if err := t.SaveSession(r); err != nil {
				return err
			}
			if err := t.Log(sessionEnded(r, audit.Summary{})); err != nil {
				return err
			}
		}
		pending, err := t.Requests(Filter{State: string(RequestPending)})
		if err != nil {
			return err
		}
		for _, r := range pending {
			if !r.Keep {
				if err := g.stranded(t, r); err != nil {
					return err
				}
				continue
			}
			g.due.Add("request", r.ID, r.TimesOut)
		}
		active, err := t.Grants(Filter{State: string(GrantActive)})
		if err != nil {
			return err
		}
		for _, gr := range active {
			g.due.Add("grant", gr.ID, gr.Ends)
		}
		if err := errors.Join(g.dueWorkloads(t), g.dueReviews(t)); err != nil {
			return err
		}
		return t.Log(audit.Event{
			Type: audit.GateStarted, Actor: "gate", Policy: audit.PolicyRef{Version: p.Version(), Digest: p.Digest()},
			Body: map[string]any{"node": g.c.Node, "url": g.c.URL, "sessions_closed": len(open), "config": p.Config()},
		})
	})
	if err != nil {
		return fmt.Errorf("write down the start: %w", err)
	}
	g.seq.Kick()
	return g.seq.Wait(ctx, counter)
}

// stranded withdraws a request whose client was held when the last run ended: it hung
// up with the gate, and a yes after that opens nothing.
func (g *Gate) stranded(t Tx, r Request) error {
	r.State, r.Decided, r.Outcome = RequestWithdrawn, time.Now().UTC(), "withdrawn: the client went when the gate did"
	return g.saveRequest(t, r, audit.RequestWithdrawn, "gate", nil)
}

// resume brings to its end what the last run had begun to end when it crashed: the
// sign-ins of disabled users, and grants whose sign-in is over. Then it asks the policy
// of now, which may have been changed meanwhile, about what is left.
func (g *Gate) resume(ctx context.Context) error {
	why := &Ended{Cause: ErrSignedOut.Cause, Say: "the sign-in had ended when the gate started", At: time.Now()}
	err := g.endSignIns(ctx, identity.User{}, why, func(t Tx) (left []identity.SignIn, err error) {
		accounts, err := t.Accounts()
		if err != nil {
			return nil, err
		}
		for _, a := range accounts {
			if a.Disabled.IsZero() {
				continue
			}
			standing, err := t.SignIns(Filter{State: "standing", User: a.User.ID()})
			if err != nil {
				return nil, err
			}
			left = append(left, standing...)
		}
		return left, nil
	})
	if err != nil {
		return err
	}
	var left []string
	err = g.view(ctx, func(t Tx) error {
		active, err := t.Grants(Filter{State: string(GrantActive)})
		if err != nil {
			return err
		}
		for _, gr := range active {
			if gr.SignIn == "" {
				continue
			}
			s, err := t.SignIn(gr.SignIn)
			if err != nil {
				return err
			}
			if !s.Ended.IsZero() {
				left = append(left, gr.ID)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := g.writeCut(ctx, why, GrantRevoked, identity.User{}, left...); err != nil {
		return err
	}
	return g.recheck(ctx, Filter{State: string(GrantActive)}, "the gate started again")
}
