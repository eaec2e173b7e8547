package session

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/spell"
)

// dueKinds are what ends, in the order in which it is written down. Sessions are not
// among them: each cuts itself by its own timer, which no full disk and no other session
// can delay.
var dueKinds = []string{"request", "grant", "sign-in", "review"}

// passed writes down requests and grants whose end has come. It looks again inside
// the transaction: somebody may have decided at the same moment.
func (g *Gate) passed(kind string, ids []string) {
	var changes []Change
	err := g.restrict(context.Background(), func(t Tx) error {
		changes = changes[:0]
		for _, id := range ids {
			change, err := g.pass(t, kind, id, g.clock.Now())
			if err != nil {
				return err
			}
			changes = append(changes, change...)
		}
		return nil
	})
	if err != nil {
		return
	}
	g.hub.Tell(changes...)
	for _, change := range changes {
		switch change.Kind {
		case "request":
			g.call(change.ID)
		case "grant": // its sessions' own timers do not see that the clock was set forward
			g.eachLive(change.ID, (*Session).expire)
		case "review":
			g.callReview(NoticeReviewOverdue, change.ID)
		}
	}
}

func (g *Gate) pass(t Tx, kind, id string, now time.Time) ([]Change, error) {
	switch kind {
	case "sign-in":
		return g.passWorkload(t, id, now)
	case "review":
		return g.overdue(t, id, now)
	case "request":
		r, err := t.Request(id)
		if err != nil || r.State != RequestPending || now.Before(r.TimesOut) {
			return nil, err
		}
		r.State, r.Decided = RequestTimedOut, now
		r.Outcome = "nobody answered by " + spell.Clock(r.TimesOut)
		return []Change{{"request", r.ID, r.User.ID()}}, g.saveRequest(t, r, audit.RequestTimedOut, "gate", nil)
	}
	gr, err := t.Grant(id)
	if err != nil || gr.State != GrantActive {
		return nil, err
	}
	if now.Before(gr.Ends) { // it was lengthened meanwhile
		g.due.Add("grant", gr.ID, gr.Ends)
		return nil, nil
	}
	gr.State, gr.Ended, gr.EndedBy = GrantExpired, now, "gate"
	return []Change{{"grant", gr.ID, gr.Key.User}}, saveGrant(t, gr, audit.GrantExpired, "gate", nil)
}
