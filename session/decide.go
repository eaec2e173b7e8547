package session

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// A Verdict is one person's answer to a request. It may narrow, never widen.
type Verdict struct {
	Yes      bool
	Duration time.Duration // shorter than asked; 0: as asked
	Scope    policy.Scope  // no more than this; the zero Scope: as asked
	Word     string        // to the requester, kept on the record
}

// progress counts the approvals against the stages: the stage that is open and how
// many more people it needs, or len(stages) and 0 once all have said yes. Each
// person counts once in a request, whatever their groups and accounts; the
// requester never counts.
func progress(stages []policy.Stage, requester identity.User, approvals []Approval) (stage, missing int) {
	var counted []identity.User
	for i, st := range stages {
		need := st.Count
		for _, a := range approvals {
			if need == 0 {
				break
			}
			if !a.Yes || a.Void || a.Rule != "" || a.By.Same(requester) || !st.From.Has(a.By) || slices.ContainsFunc(counted, a.By.Same) {
				continue
			}
			counted = append(counted, a.By)
			need--
		}
		if need > 0 {
			return i, need
		}
	}
	return len(stages), 0
}

// recount marks the yeses that do not count any more, and takes what is now known of
// those who gave them: whoever was disabled or lost the right since has no say in what
// is decided after that.
func recount(t Tx, p *policy.Policy, r Request) (Request, error) {
	if r.State != RequestPending || len(r.Approvals) == 0 {
		return r, nil
	}
	stages := r.Decision.Stages
	if d := p.Decide(r.Input); d.Effect == policy.Allow {
		stages = d.Stages
	}
	r.Approvals = slices.Clone(r.Approvals)
	for i := range r.Approvals {
		a := &r.Approvals[i]
		account, err := t.Account(a.By.ID())
		if err != nil && !errors.Is(err, ErrNotFound) {
			return r, err
		}
		if err == nil {
			a.By = account.User
		}
		a.Void = err != nil || !account.Disabled.IsZero() || !slices.ContainsFunc(stages, func(st policy.Stage) bool {
			return p.MayApprove(st, r.User, a.By) == nil
		})
	}
	return r, nil
}

// mayDecide says whether this person may answer the request now, under policy p:
// nil, or a *Denied that says why not.
func mayDecide(p *policy.Policy, by identity.User, r Request, now time.Time) (policy.Decision, error) {
	if r.State != RequestPending {
		return policy.Decision{}, &Denied{Reason: "this request is " + string(r.State) + " already: " + r.Outcome}
	}
	if !now.Before(r.TimesOut) {
		return policy.Decision{}, &Denied{Reason: "this request has timed out"}
	}
	if by.Kind != identity.Person {
		return policy.Decision{}, &Denied{Reason: "only people decide on requests"}
	}
	if by.Same(r.User) {
		return policy.Decision{}, &Denied{Reason: "nobody decides on their own request", Next: "ask somebody of those it waits for"}
	}
	d := p.Decide(r.Input)
	if d.Effect != policy.Allow {
		return d, &Denied{Reason: "the policy no longer allows this request: " + d.Why}
	}
	if approvedBy(r.Approvals, by) {
		return d, &Denied{Reason: "you have said yes to this request already", Next: "it waits for somebody else"}
	}
	stage, missing := progress(d.Stages, r.User, r.Approvals)
	if missing == 0 { // the policy asks for fewer than when it was asked
		if stage == 0 {
			return d, &Denied{Reason: "the policy no longer asks anybody about this", Next: "whoever asked can ask again"}
		}
		stage-- // whoever sees it is not yet somebody who decides
	}
	if !d.Stages[stage].From.Has(by) {
		return d, &Denied{Reason: "you are not among those who decide on this request now"}
	}
	// What only the policy knows: whose issuer it still has, and accounts that may be one person's.
	if err := p.MayApprove(d.Stages[stage], r.User, by); err != nil {
		return d, &Denied{Reason: err.Error()}
	}
	return d, nil
}

// MayDecide says whether this person may answer the request now: nil, or why not.
func (g *Gate) MayDecide(by identity.SignIn, r Request) error {
	_, err := mayDecide(g.Policy(), by.User, r, g.clock.Now())
	return err
}

// Decide gives one person's answer. It returns once the answer, and what follows
// from it, is durable in the log. The right is checked inside the transaction,
// against the sign-in, the policy and the request as they are at that moment.
func (g *Gate) Decide(ctx context.Context, by identity.SignIn, id string, v Verdict) (Request, error) {
	if err := checkWords(v.Word, "", v.Duration); err != nil {
		return Request{}, err
	}
	if !v.Yes {
		return g.deny(ctx, by, id, v)
	}
	var r Request
	var gr *Grant
	err := g.permit(ctx, func(t Tx) error {
		p := g.Policy()
		s, err := standing(t, by.ID)
		if err != nil {
			return err
		}
		if r, err = g.seen(t, p, s.User, id); err != nil {
			return err
		}
		d, err := mayDecide(p, s.User, r, g.clock.Now())
		if err != nil {
			return err
		}
		if err := g.narrows(p, r, d, v); err != nil {
			return err
		}
		now := g.clock.Now()
		stage, _ := progress(d.Stages, r.User, r.Approvals)
		yes := Approval{By: s.User, Yes: true, Stage: stage, Duration: v.Duration, Scope: v.Scope, Word: v.Word, At: now.UTC(), Digest: d.Digest, Config: d.Config}
		r.Approvals = append(r.Approvals, yes)
		if err := t.Log(approvalGiven(r, yes)); err != nil {
			return err
		}
		if _, missing := progress(d.Stages, r.User, r.Approvals); missing > 0 {
			return t.SaveRequest(r)
		}
		gr, err = g.grant(t, &r, d, now)
		return err
	})
	if err != nil {
		return Request{}, err
	}
	g.announce(gr, nil)
	g.hub.Tell(Change{"request", r.ID, r.User.ID()})
	g.call(r.ID)
	return r, nil
}

// deny is a restriction: it needs no durable entry first.
func (g *Gate) deny(ctx context.Context, by identity.SignIn, id string, v Verdict) (Request, error) {
	var r Request
	err := g.restrict(ctx, func(t Tx) error {
		p := g.Policy()
		s, err := standing(t, by.ID)
		if err != nil {
			return err
		}
		if r, err = g.seen(t, p, s.User, id); err != nil {
			return err
		}
		if _, err := mayDecide(p, s.User, r, g.clock.Now()); err != nil {
			return err
		}
		no := Approval{By: s.User, Word: v.Word, At: time.Now().UTC(), Digest: p.Digest(), Config: p.Config()}
		r.Approvals = append(r.Approvals, no)
		r.State, r.Decided = RequestDenied, no.At
		r.Outcome = "denied by " + s.User.String()
		if v.Word != "" {
			r.Outcome += ": " + v.Word
		}
		return g.saveRequest(t, r, audit.RequestDenied, s.User.ID(), map[string]any{"by": s.User.String(), "word": v.Word})
	})
	if err != nil {
		return Request{}, err
	}
	g.hub.Tell(Change{"request", r.ID, r.User.ID()})
	g.call(r.ID)
	return r, nil
}

// Retract takes one's own yes back, before it has taken effect.
func (g *Gate) Retract(ctx context.Context, by identity.SignIn, id string) (Request, error) {
	var r Request
	err := g.restrict(ctx, func(t Tx) error {
		s, err := standing(t, by.ID)
		if err != nil {
			return err
		}
		if r, err = g.seen(t, g.Policy(), s.User, id); err != nil {
			return err
		}
		mine := func(a Approval) bool { return a.Yes && a.Rule == "" && a.By.Same(s.User) }
		i := slices.IndexFunc(r.Approvals, mine)
		switch {
		case i < 0:
			return &Denied{Reason: "you have not said yes to this request"}
		case r.State == RequestApproved:
			return &Denied{Reason: "your yes has taken effect already", Next: "revoke the grant"}
		case r.State != RequestPending:
			return &Denied{Reason: "this request is " + string(r.State) + " already"}
		}
		taken := r.Approvals[i]
		r.Approvals = slices.Delete(r.Approvals, i, i+1)
		if err := t.SaveRequest(r); err != nil {
			return err
		}
		return t.Log(audit.Event{Type: audit.ApprovalTaken, Actor: s.User.ID(), Request: r.ID, Policy: ref(r.Decision), Body: map[string]any{
			"by": s.User.String(), "approval": taken, "user": r.User.String(), "asked": r.Input,
		}})
	})
	if err != nil {
		return Request{}, err
	}
	g.hub.Tell(Change{"request", r.ID, r.User.ID()})
	g.call(r.ID)
	return r, nil
}

// Withdraw takes one's own request back.
func (g *Gate) Withdraw(ctx context.Context, by identity.SignIn, id string) error {
	var r Request
	err := g.restrict(ctx, func(t Tx) error {
		s, err := standing(t, by.ID)
		if err != nil {
			return err
		}
		if r, err = t.Request(id); err != nil {
			return err
		}
		if r.User.ID() != s.User.ID() {
			return ErrNotFound
		}
		if r.State != RequestPending {
			return &Denied{Reason: "this request is " + string(r.State) + " already"}
		}
		r.State, r.Decided, r.Outcome = RequestWithdrawn, time.Now().UTC(), "withdrawn by "+s.User.String()
		return g.saveRequest(t, r, audit.RequestWithdrawn, s.User.ID(), nil)
	})
	if err == nil {
		g.hub.Tell(Change{"request", r.ID, r.User.ID()})
	}
	return err
}

// seen loads a request for somebody, ErrNotFound where it is not theirs to see:
// their own, one that they can or could decide, or any with the right to audit.
func (g *Gate) seen(t Tx, p *policy.Policy, u identity.User, id string) (Request, error) {
	r, err := t.Request(id)
	if err != nil {
		return Request{}, err
	}
	if !visible(p, u, r) {
		return Request{}, ErrNotFound
	}
	return recount(t, p, r)
}

func visible(p *policy.Policy, u identity.User, r Request) bool {
	if r.User.ID() == u.ID() || p.Has(policy.RightAudit, u, r.Input.Target) || approvedBy(r.Approvals, u) {
		return true
	}
	d := r.Decision
	if now := p.Decide(r.Input); now.Effect == policy.Allow {
		d = now
	}
	for _, st := range d.Stages {
		if st.From.Has(u) {
			return true
		}
	}
	return false
}
