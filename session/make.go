package session

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/policy"
)

// joinable finds a pending request of the same person for the same thing, which a
// further connection waits for too: a pool of ten needs one yes, not ten. Another
// reason, ticket or length is another question. keep: whoever joins is told that it stays,
// whatever becomes of the connection that it was made for.
func (g *Gate) joinable(t Tx, in policy.Input, who *caller, keep bool) (*Request, error) {
	pending, err := t.Requests(Filter{State: string(RequestPending), User: in.User.ID(), Target: in.Target, Role: in.Role, Object: &in.Object})
	if err != nil {
		return nil, err
	}
	for _, r := range pending {
		same := (r.SignIn == who.signIn || in.User.Kind == identity.Workload) && sameRun(r.User, in.User) && r.Input.Proof == in.Proof && r.Input.Client == in.Client && r.Input.Browser == in.Browser &&
			(in.Reason == "" || in.Reason == r.Input.Reason) && (in.Ticket == "" || in.Ticket == r.Input.Ticket) &&
			(in.Duration == 0 || in.Duration == r.Input.Duration) && r.Extends == ""
		if same && g.clock.Now().Before(r.TimesOut) {
			if keep && !r.Keep {
				r.Keep = true
				return &r, t.SaveRequest(r)
			}
			return &r, nil
		}
	}
	return nil, nil //nolint:nilnil // none, no error
}

// maxPending is how many requests of one person may wait for people at once: more
// would bury everybody else's in the inbox.
const maxPending = 50

func room(t Tx, u identity.User) error {
	pending, err := t.Requests(Filter{State: string(RequestPending), User: u.ID(), Limit: maxPending})
	if err == nil && len(pending) == maxPending {
		err = &Denied{Reason: fmt.Sprintf("you have %d requests open already", maxPending), Next: "withdraw some, or wait for their answers"}
	}
	return err
}

// create makes a pending request. keep says that it outlives its connection.
func (g *Gate) create(t Tx, in policy.Input, d policy.Decision, who *caller, client Client, keep bool) (*Request, error) {
	now := in.Time
	r := Request{
		ID: identity.NewID(), State: RequestPending, User: who.user, SignIn: who.signIn, Input: in, Decision: d, Client: client,
		Keep: keep, Extends: who.extends, Created: now, TimesOut: now.Add(d.RequestTimeout),
	}
	if err := t.SaveRequest(r); err != nil {
		return nil, err
	}
	return &r, t.Log(audit.Event{Type: audit.RequestCreated, Actor: r.User.ID(), Request: r.ID, Policy: ref(d), Body: map[string]any{
		"user": r.User.String(), "input": in, "decision": d, "client": client, "times_out": r.TimesOut,
	}})
}

// byRule lets a request through on the rule's word alone: recorded like a person's
// approval, with the rule as the approver.
func (g *Gate) byRule(t Tx, r *Request, now time.Time) (*Grant, error) {
	yes := Approval{Yes: true, Rule: r.Decision.Rule, At: now.UTC(), Digest: r.Decision.Digest, Config: r.Decision.Config}
	r.Approvals = append(r.Approvals, yes)
	if err := t.Log(approvalGiven(*r, yes)); err != nil {
		return nil, err
	}
	return g.grant(t, r, r.Decision, now)
}

// grant turns an approved request into permission: the clock starts now, and the
// end is the shortest of what was asked, allowed and approved.
func (g *Gate) grant(t Tx, r *Request, d policy.Decision, now time.Time) (*Grant, error) {
	length := d.Duration
	scope, err := given(d, r.Approvals)
	if err != nil {
		return nil, err
	}
	var by []string
	for _, a := range r.Approvals {
		if !a.Yes || a.Void {
			continue
		}
		if a.Duration > 0 {
			length = min(length, a.Duration)
		}
		by = append(by, a.name())
	}
	if d.Longest > 0 {
		length = min(length, d.Longest)
	}
	if length <= 0 {
		return nil, errors.New("grant without a length")
	}
	now = now.UTC()
	if r.Extends != "" {
		return g.lengthen(t, r, now, length, by)
	}
	gr := Grant{
		ID: identity.NewID(), State: GrantActive, User: r.User, SignIn: r.SignIn, Request: r.ID, Decision: d, Scope: ofObject(scope, r.Input.Object),
		Key:    Key{User: r.User.ID(), Target: r.Input.Target, Role: r.Input.Role, Object: r.Input.Object},
		Reason: r.Input.Reason, Ticket: r.Input.Ticket, By: by, Starts: now, Ends: now.Add(length),
	}
	r.State, r.Decided, r.Grant = RequestApproved, now, gr.ID
	r.Outcome = said(&gr)
	if err := g.saveRequest(t, *r, audit.RequestApproved, r.decider(), nil); err != nil {
		return nil, err
	}
	if err := saveGrant(t, gr, audit.GrantActive, r.decider(), nil); err != nil {
		return nil, err
	}
	if d.BreakGlass {
		return &gr, g.breakGlass(t, gr, *r)
	}
	return &gr, nil
}

// lengthen gives a running grant a later end, under the same scope. Its live
// sessions go on without connecting again.
func (g *Gate) lengthen(t Tx, r *Request, now time.Time, length time.Duration, by []string) (*Grant, error) {
	gr, err := t.Grant(r.Extends)
	if err != nil {
		return nil, err
	}
	if gr.State != GrantActive || !now.Before(gr.Ends) || gr.Key.User != r.User.ID() || g.isCut(gr.ID) != nil {
		return nil, &Denied{Reason: "the grant that this would lengthen has ended", Next: "ask again"}
	}
	if gr.Times >= gr.Decision.Extensions { // there may have been several requests for one extension
		return nil, &Denied{Reason: fmt.Sprintf("rule %s lets this be extended %d times, and it has been", gr.Decision.Rule, gr.Decision.Extensions)}
	}
	if ends := now.Add(length); ends.After(gr.Ends) {
		gr.Ends = ends
	}
	gr.Extended, gr.By, gr.ExtendedBy = now, by, append(gr.ExtendedBy, r.ID)
	gr.Times++
	r.State, r.Decided, r.Grant = RequestApproved, now, gr.ID
	r.Outcome = "extended until " + spell.Clock(gr.Ends)
	if err := g.saveRequest(t, *r, audit.RequestApproved, r.decider(), nil); err != nil {
		return nil, err
	}
	if gr.Decision.BreakGlass {
		if err := g.breakGlass(t, gr, *r); err != nil {
			return nil, err
		}
	}
	live, err := t.Sessions(Filter{State: "live", Grant: gr.ID})
	if err != nil {
		return nil, err
	}
	for _, s := range live {
		s.Ends = gr.Ends
		if err := t.SaveSession(s); err != nil {
			return nil, err
		}
	}
	return &gr, saveGrant(t, gr, audit.GrantExtended, r.decider(), map[string]any{"by_request": r.ID})
}

func (a Approval) name() string {
	if a.Rule != "" {
		return "rule " + a.Rule
	}
	return a.By.String()
}

func (a Approval) actor() string {
	if a.Rule != "" {
		return "rule:" + a.Rule
	}
	return a.By.ID()
}

// decider is the actor whose word settled the request.
func (r Request) decider() string {
	if len(r.Approvals) == 0 {
		return "gate"
	}
	return r.Approvals[len(r.Approvals)-1].actor()
}

func (g *Gate) saveRequest(t Tx, r Request, event, actor string, more map[string]any) error {
	if err := t.SaveRequest(r); err != nil {
		return err
	}
	body := map[string]any{
		"user": r.User.String(), "target": r.Input.Target, "role": r.Input.Role, "outcome": r.Outcome, "config": g.Policy().Config(),
	}
	maps.Copy(body, more)
	return t.Log(audit.Event{Type: event, Actor: actor, Request: r.ID, Grant: r.Grant, Policy: ref(r.Decision), Body: body})
}

func saveGrant(t Tx, gr Grant, event, actor string, more map[string]any) error {
	if err := t.SaveGrant(gr); err != nil {
		return err
	}
	body := map[string]any{
		"user": gr.User.String(), "key": gr.Key, "scope": gr.Scope, "by": gr.By, "starts": gr.Starts, "ends": gr.Ends, "ended_by": gr.EndedBy,
		"config": gr.Decision.Config,
	}
	maps.Copy(body, more)
	return t.Log(audit.Event{Type: event, Actor: actor, Request: gr.Request, Grant: gr.ID, Policy: ref(gr.Decision), Body: body})
}

func approvalGiven(r Request, a Approval) audit.Event {
	p := ref(r.Decision)
	p.Digest = a.Digest
	return audit.Event{Type: audit.ApprovalGiven, Actor: a.actor(), Request: r.ID, Policy: p, Body: map[string]any{
		"by": a.name(), "approval": a, "asked": r.Input, "config": a.Config,
	}}
}

// said is the line that tells the client of its grant.
func said(gr *Grant) string {
	limits := ""
	if gr.narrowed() {
		limits = ", " + gr.Scope.String()
	} else if gr.Scope.ReadOnly {
		limits = ", read-only"
	}
	return fmt.Sprintf("approved by %s until %s (%s)%s. Recorded.", strings.Join(gr.By, ", "), spell.Clock(gr.Ends), spell.Short(gr.Ends.Sub(gr.Starts)), limits)
}
