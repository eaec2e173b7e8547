package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/policy"
)

// The states of a Review; the database enforces the transition.
const (
	ReviewOpen = "open"
	ReviewDone = "done"
)

// A Review is what a break-glass grant owes: somebody of its rule's owners looks at what
// was done. While one of a target is overdue, nobody breaks the glass there again.
type Review struct {
	ID      string         `json:"id"` // of its grant
	State   string         `json:"state"`
	Request string         `json:"request"`
	Key     Key            `json:"key"`
	User    identity.User  `json:"user"` // who broke the glass
	Input   policy.Input   `json:"input"`
	Rule    string         `json:"rule"`
	Reason  string         `json:"reason,omitempty"`
	Ticket  string         `json:"ticket,omitempty"`
	Owners  policy.People  `json:"owners"` // by the rule that opened it
	Within  time.Duration  `json:"within"` // after the grant's end
	Opened  time.Time      `json:"opened"`
	Ends    time.Time      `json:"ends"` // the grant, as it was given
	Due     time.Time      `json:"due"`
	Overdue time.Time      `json:"overdue,omitzero"` // written down and told then
	Done    time.Time      `json:"done,omitzero"`
	By      *identity.User `json:"by,omitempty"`
	Word    string         `json:"word,omitempty"` // what was found
}

// Late reports that the review is overdue now.
func (v Review) Late(now time.Time) bool { return v.State == ReviewOpen && !now.Before(v.Due) }

// breakGlass opens the review of a grant that nobody was asked about, or moves its end.
func (g *Gate) breakGlass(t Tx, gr Grant, r Request) error {
	d := gr.Decision
	v := Review{
		ID: gr.ID, State: ReviewOpen, Request: r.ID, Key: gr.Key, User: gr.User, Input: r.Input, Rule: d.Rule, Reason: gr.Reason, Ticket: gr.Ticket,
		Owners: d.Review, Within: d.ReviewWithin, Opened: gr.Starts, Ends: gr.Ends, Due: gr.Ends.Add(d.ReviewWithin),
	}
	if err := t.SaveReview(v); err != nil {
		return err
	}
	return t.Log(audit.Event{Type: audit.GlassBroken, Actor: gr.Key.User, Request: r.ID, Grant: gr.ID, Policy: ref(d), Body: map[string]any{
		"user": gr.User.String(), "key": gr.Key, "reason": gr.Reason, "ticket": gr.Ticket, "until": gr.Ends, "owners": v.Owners, "review_due": v.Due,
	}})
}

// owe arms the end of a grant's review, and tells of it.
func (g *Gate) owe(gr Grant) {
	g.due.Add("review", gr.ID, gr.Ends.Add(gr.Decision.ReviewWithin))
	g.hub.Tell(Change{"review", gr.ID, gr.Key.User})
	g.callReview(NoticeGlassBroken, gr.ID)
}

// door refuses to break the glass of a target while a review of it is overdue, and to
// whoever is no person: a pipeline has no emergencies.
func (g *Gate) door(t Tx, in policy.Input) error {
	if in.User.Kind != identity.Person {
		return &Denied{Reason: "only a person breaks the glass"}
	}
	open, err := t.Reviews(Filter{State: ReviewOpen, Target: in.Target})
	if err != nil {
		return err
	}
	for _, v := range open {
		if v.Late(in.Time) {
			return &Denied{
				Reason: fmt.Sprintf("nobody breaks the glass of %s now: the review of %s's on %s has been overdue since %s", in.Target, v.User, spell.Day(v.Opened), spell.Clock(v.Due)),
				By:     "rule " + v.Rule, Next: "it opens again once one of " + named(v.Owners) + " has done that review",
			}
		}
	}
	return nil
}

func named(p policy.People) string { return strings.Join(slices.Concat(p.Groups, p.Emails), ", ") }

// owners are who does the review by the policy of now; where no break-glass rule admits
// the ask any more, those whom the rule named.
func (v Review) owners(p *policy.Policy) policy.People {
	if d := p.Decide(v.Input); d.Effect == policy.Allow && d.BreakGlass {
		return d.Review
	}
	return v.Owners
}

// mayReview says why somebody may not do a review: nil where they may.
func (v Review) mayReview(p *policy.Policy, by identity.User) error {
	if v.State != ReviewOpen {
		return &Denied{Reason: "this review is done already, by " + v.By.String()}
	}
	if by.Same(v.User) {
		return &Denied{Reason: "nobody reviews what they did themselves", Next: "ask one of " + named(v.owners(p))}
	}
	if err := p.MayApprove(policy.Stage{Count: 1, From: v.owners(p)}, v.User, by); err != nil {
		return &Denied{Reason: err.Error()}
	}
	return nil
}

// A Broken is a review with how its grant stands, for lists and pages.
type Broken struct {
	Review
	Active bool `json:"active"` // the grant still lets its sessions in
	Late   bool `json:"late"`
	May    bool `json:"may"` // this person may do it, once the grant has ended
}

// Reviews lists what broke the glass, newest first: one's own, those that one may do,
// and all of it with the right to audit. hidden is how many break-glass grants are
// active that this person may not see.
func (g *Gate) Reviews(ctx context.Context, by identity.SignIn, f Filter) (list []Broken, hidden int, err error) {
	p, now := g.Policy(), g.clock.Now()
	err = g.view(ctx, func(t Tx) error {
		list, hidden = nil, 0
		rows, err := t.Reviews(bounded(f))
		if err != nil {
			return err
		}
		for _, v := range rows {
			gr, err := t.Grant(v.ID)
			if err != nil {
				return err
			}
			b := Broken{Review: v, Active: gr.State == GrantActive, Late: v.Late(now), May: v.mayReview(p, by.User) == nil}
			switch {
			case b.May || v.User.ID() == by.User.ID() || p.Has(policy.RightAudit, by.User, v.Key.Target) || v.By != nil && v.By.Same(by.User):
				list = append(list, b)
			case b.Active:
				hidden++
			}
		}
		return nil
	})
	return list, hidden, err
}

// DoReview writes down what one of the owners found, and by that it is done. It returns
// once that is durable.
func (g *Gate) DoReview(ctx context.Context, by identity.SignIn, id, word string) error {
	if err := checkWords(word, "", 0); err != nil {
		return err
	}
	if strings.TrimSpace(word) == "" {
		return &Invalid{Field: "word", Hint: "say what you found: whoever reads the record later has nothing else"}
	}
	var v Review
	err := g.permit(ctx, func(t Tx) error {
		s, err := standing(t, by.ID)
		if err != nil {
			return err
		}
		if v, err = t.Review(id); err != nil {
			return err
		}
		if err := v.mayReview(g.Policy(), s.User); err != nil {
			return err
		}
		gr, err := t.Grant(v.ID)
		if err != nil {
			return err
		}
		if gr.State == GrantActive {
			return &Denied{Reason: "this grant is still active, until " + spell.Clock(gr.Ends), Next: "revoke it, or come back when it has ended"}
		}
		v.State, v.Done, v.By, v.Word = ReviewDone, time.Now().UTC(), &s.User, word
		if err := t.SaveReview(v); err != nil {
			return err
		}
		return t.Log(audit.Event{Type: audit.ReviewDone, Actor: s.User.ID(), Request: v.Request, Grant: v.ID, Policy: ref(gr.Decision), Body: map[string]any{
			"by": s.User.String(), "user": v.User.String(), "key": v.Key, "word": word, "late": v.Late(v.Done), "due": v.Due,
		}})
	})
	if err != nil {
		return err
	}
	g.hub.Tell(Change{"review", v.ID, v.User.ID()})
	g.callReview(NoticeReviewDone, v.ID)
	return nil
}

// overdue writes down, once, that a review was not done in time.
func (g *Gate) overdue(t Tx, id string, now time.Time) ([]Change, error) {
	v, err := t.Review(id)
	if err != nil || v.State != ReviewOpen || !v.Overdue.IsZero() {
		return nil, err
	}
	if !v.Late(now) { // the grant was lengthened meanwhile
		g.due.Add("review", v.ID, v.Due)
		return nil, nil
	}
	v.Overdue = now.UTC()
	if err := t.SaveReview(v); err != nil {
		return nil, err
	}
	return []Change{{"review", v.ID, v.User.ID()}}, t.Log(audit.Event{Type: audit.ReviewOverdue, Actor: "gate", Request: v.Request, Grant: v.ID, Body: map[string]any{
		"user": v.User.String(), "key": v.Key, "owners": v.Owners, "due": v.Due,
	}})
}

// dueReviews arms the ends of open reviews after a start.
func (g *Gate) dueReviews(t Tx) error {
	open, err := t.Reviews(Filter{State: ReviewOpen})
	for _, v := range open {
		if v.Overdue.IsZero() {
			g.due.Add("review", v.ID, v.Due)
		}
	}
	return err
}

// callReview tells people of a review: its owners that the glass was broken or that they
// are late, whoever broke it that it is done.
func (g *Gate) callReview(kind, id string) {
	if g.c.Notifier == nil {
		return
	}
	n := Notice{Kind: kind, URL: g.page("/reviews")}
	err := g.view(context.Background(), func(t Tx) error {
		v, err := t.Review(id)
		if err != nil {
			return err
		}
		if n.Request, err = t.Request(v.Request); err != nil {
			return err
		}
		what := v.Key.Target + " as " + v.Key.Role
		switch kind {
		case NoticeReviewDone:
			n.Say, n.To = v.By.String()+" reviewed your break-glass access to "+what+": "+v.Word, []identity.User{v.User}
			return nil
		case NoticeReviewOverdue:
			n.Say = "The review of " + v.User.String() + "'s break-glass access to " + what + " is overdue; nobody breaks the glass of " + v.Key.Target + " until it is done"
		default:
			n.Say = v.User.String() + " broke the glass: " + what + " until " + spell.Clock(v.Ends) + "; review it by " + spell.Day(v.Due) + ", " + spell.Clock(v.Due)
		}
		accounts, err := t.Accounts()
		for _, a := range accounts {
			if a.Disabled.IsZero() && v.mayReview(g.Policy(), a.User) == nil {
				n.To = append(n.To, a.User)
			}
		}
		return err
	})
	if err != nil {
		g.c.Logger.Warn("nobody was told of a review", "review", id, "err", err)
		return
	}
	g.c.Notifier.Notify(context.Background(), n) // to nobody, too: webhooks are for all to hear
}
