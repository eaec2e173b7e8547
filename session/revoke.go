package session

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// isCut says why a grant is over, whatever store and log say yet; nil where it is not.
func (g *Gate) isCut(grant string) *Ended {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cut[grant]
}

// cutGrants ends the sessions of some grants at once, before anything is written.
func (g *Gate) cutGrants(why *Ended, grants ...string) {
	g.mu.Lock()
	var sessions []*Session
	for _, id := range grants {
		if g.cut[id] == nil {
			g.cut[id] = why
		}
		for _, s := range g.live {
			if s.grant.ID == id {
				sessions = append(sessions, s)
			}
		}
	}
	g.mu.Unlock()
	for _, s := range sessions {
		s.cancel(why)
	}
}

// markCut keeps what a browser proved from beginning to live until the end of these
// sign-ins is written down, or could not be; then the store refuses it.
func (g *Gate) markCut(why *Ended, signIns ...string) (undo func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range signIns {
		g.cut[id] = why
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, id := range signIns {
			delete(g.cut, id)
		}
	}
}

// MayCut says whether somebody may revoke grants and kill sessions on a target.
func (g *Gate) MayCut(by identity.SignIn, target string) error {
	if g.Policy().Has(policy.RightCut, by.User, target) {
		return nil
	}
	return &Denied{Reason: "you may not end what is not yours on " + target}
}

// MayRevoke reports that somebody may end another's grant: by right, or because they
// said yes to it or to its lengthening.
func (g *Gate) MayRevoke(by identity.SignIn, gr Grant) bool {
	return g.MayCut(by, gr.Key.Target) == nil || g.approver(by.User, append(gr.ExtendedBy, gr.Request)...)
}

// Release gives up one's own grant; its sessions end now.
func (g *Gate) Release(ctx context.Context, by identity.SignIn, id string) error {
	return g.endGrant(ctx, by, id, GrantReleased, func(gr Grant, s identity.SignIn) error {
		if gr.Key.User != s.User.ID() {
			return ErrNotFound
		}
		return nil
	}, func(s identity.SignIn) *Ended {
		return &Ended{Cause: "released", Say: "you gave up this access", At: time.Now()}
	})
}

// Revoke ends somebody's grant and its sessions, at once, whatever the state of
// disk and log.
func (g *Gate) Revoke(ctx context.Context, by identity.SignIn, id, why string) error {
	if err := checkWords(why, "", 0); err != nil {
		return err
	}
	return g.endGrant(ctx, by, id, GrantRevoked, func(gr Grant, s identity.SignIn) error {
		if gr.Key.User == s.User.ID() {
			return nil
		}
		return g.cutOrHide(gr.Key.Target, gr.User, s, append(gr.ExtendedBy, gr.Request)...)
	}, func(s identity.SignIn) *Ended {
		return &Ended{Cause: ErrRevoked.Cause, Say: withWhy("your access was revoked by "+s.User.String(), why), At: time.Now()}
	})
}

// cutOrHide refuses whoever may not cut, without telling whether the thing exists
// to those who may not even see it.
func (g *Gate) cutOrHide(target string, owner identity.User, s identity.SignIn, requests ...string) error {
	if err := g.MayCut(s, target); err == nil {
		return nil
	}
	if g.approver(s.User, requests...) {
		return nil // whoever said yes may take it back
	}
	if g.Policy().Has(policy.RightAudit, s.User, target) || owner.ID() == s.User.ID() {
		return g.MayCut(s, target)
	}
	return ErrNotFound
}

func (g *Gate) approver(u identity.User, requests ...string) (so bool) {
	err := g.view(context.Background(), func(t Tx) error {
		for _, id := range requests {
			r, err := t.Request(id)
			if err != nil {
				return err
			}
			so = so || approvedBy(r.Approvals, u)
		}
		return nil
	})
	return so && err == nil
}

func withWhy(say, why string) string {
	if why == "" {
		return say
	}
	return say + ": " + why
}

// endGrant reads the grant, checks the right, cuts its sessions, and then writes
// it down.
func (g *Gate) endGrant(ctx context.Context, by identity.SignIn, id string, state GrantState,
	may func(Grant, identity.SignIn) error, say func(identity.SignIn) *Ended,
) error {
	var gr Grant
	var s identity.SignIn
	err := g.view(ctx, func(t Tx) (err error) {
		if s, err = standing(t, by.ID); err != nil {
			return err
		}
		gr, err = t.Grant(id)
		return err
	})
	if err != nil {
		return err
	}
	if err := may(gr, s); err != nil {
		return err
	}
	if gr.State != GrantActive {
		return &Denied{Reason: "this grant is " + string(gr.State) + " already"}
	}
	why := say(s)
	g.cutGrants(why, id)
	return g.writeCut(ctx, why, state, s.User, gr.ID)
}

// writeCut writes down grants that have been cut. One that ended meanwhile by
// itself keeps that end.
func (g *Gate) writeCut(ctx context.Context, why *Ended, state GrantState, by identity.User, grants ...string) error {
	event := audit.GrantRevoked
	if state == GrantReleased {
		event = audit.GrantReleased
	}
	actor, name := "gate", "gate"
	if !by.IsZero() {
		actor, name = by.ID(), by.String()
	}
	var changes []Change
	err := g.restrict(ctx, func(t Tx) error {
		changes = changes[:0]
		for _, id := range grants {
			gr, err := t.Grant(id)
			if err != nil {
				return err
			}
			if gr.State != GrantActive {
				continue
			}
			gr.State, gr.Ended, gr.EndedBy = state, why.At.UTC(), name
			if err := saveGrant(t, gr, event, actor, map[string]any{"cause": why.Cause, "said": why.Say}); err != nil {
				return err
			}
			changes = append(changes, Change{"grant", gr.ID, gr.Key.User})
		}
		return nil
	})
	if err != nil {
		return err
	}
	g.mu.Lock()
	for _, id := range grants {
		delete(g.cut, id) // the database refuses it from here on
	}
	g.mu.Unlock()
	g.hub.Tell(changes...)
	return nil
}

// Kill ends one session at once; its grant goes on. One's own, or with the right to
// cut, or the approver's.
func (g *Gate) Kill(ctx context.Context, by identity.SignIn, id, why string) error {
	if err := checkWords(why, "", 0); err != nil {
		return err
	}
	var r Record
	var s identity.SignIn
	var requests []string
	err := g.view(ctx, func(t Tx) (err error) {
		if s, err = standing(t, by.ID); err != nil {
			return err
		}
		if r, err = t.Session(id); err != nil {
			return err
		}
		gr, err := t.Grant(r.Grant)
		requests = append(gr.ExtendedBy, r.Request)
		return err
	})
	if err != nil {
		return err
	}
	if r.Key.User != s.User.ID() {
		if err := g.cutOrHide(r.Key.Target, r.User, s, requests...); err != nil {
			return err
		}
	}
	g.mu.Lock()
	live := g.live[id]
	g.mu.Unlock()
	if live == nil {
		return &Denied{Reason: "this session has ended already"}
	}
	live.endedBy.Store(&s.User)
	live.cancel(&Ended{Cause: ErrKilled.Cause, Say: withWhy("this session was ended by "+s.User.String(), why), At: time.Now()})
	select {
	case <-live.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reload makes p the policy that decides. Grants that p does not allow are revoked
// and their sessions cut; everybody else stays.
func (g *Gate) Reload(ctx context.Context, p *policy.Policy, loaded audit.Event) error {
	if err := g.permit(ctx, func(t Tx) error { return t.Log(loaded) }); err != nil {
		return err
	}
	g.policy.Store(p)
	if err := g.recheck(ctx, Filter{State: string(GrantActive)}, "the policy changed"); err != nil {
		g.fail(err) // who is no longer allowed could not be told from who is
		return err
	}
	return g.settle(ctx)
}

// recheck asks the policy of now about active grants, with what is known of their
// users now, and cuts those that it does not allow. because begins their sentence.
func (g *Gate) recheck(ctx context.Context, f Filter, because string) error {
	p := g.Policy()
	cuts := map[string]*Ended{}
	err := g.view(ctx, func(t Tx) error {
		active, err := t.Grants(f)
		if err != nil {
			return err
		}
		for _, gr := range active {
			r, err := t.Request(gr.Request)
			if err != nil {
				return err
			}
			account, err := t.Account(gr.Key.User)
			if err != nil {
				return err
			}
			in := r.Input
			in.User = asKnown(account, gr)
			if err := g.stillAllowed(p, in, r, gr); err != nil {
				say, _ := Message(err)
				cuts[gr.ID] = &Ended{Cause: ErrPolicy.Cause, Say: because + ": " + say, At: time.Now()}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, why := range cuts {
		g.cutGrants(why, id)
		if err := g.writeCut(ctx, why, GrantRevoked, identity.User{}, id); err != nil {
			return err
		}
	}
	return nil
}
