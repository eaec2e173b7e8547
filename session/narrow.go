package session

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/policy"
)

// narrows refuses a verdict that would widen, or that the target's protocol could
// not hold the session to.
func (g *Gate) narrows(p *policy.Policy, r Request, d policy.Decision, v Verdict) error {
	if longest := d.Duration; v.Duration > longest {
		return &Invalid{Field: "duration", Hint: fmt.Sprintf("an approval may shorten, never lengthen: %s was asked for", spell.Short(longest))}
	}
	if err := refusedScope(d.Scope.Takes(v.Scope)); err != nil {
		return err
	}
	scope, err := given(d, append(slices.Clone(r.Approvals), Approval{Yes: true, Scope: v.Scope}))
	if err != nil {
		return err
	}
	if r.Extends != "" && !d.Scope.Within(scope) { // its sessions run, and go on as they are
		return &Invalid{Field: "scope", Hint: "an extension goes on as the grant was given, and only its length can be narrowed; say no, or revoke the grant"}
	}
	return g.enforceable(p, r.Input.Target, scope)
}

// given is the decision's scope, narrowed by every yes that counts.
func given(d policy.Decision, approvals []Approval) (scope policy.Scope, err error) {
	scope = d.Scope
	for _, a := range approvals {
		if a.Yes && !a.Void && err == nil {
			scope, err = scope.Narrow(a.Scope)
		}
	}
	return scope, refusedScope(err)
}

// refusedScope makes a user's mistake of what cannot be narrowed so.
func refusedScope(err error) error {
	var refusal *policy.ScopeRefusal
	if errors.As(err, &refusal) {
		return &Invalid{Field: refusal.Part, Hint: refusal.Say}
	}
	return err
}

// Narrowable lists what somebody who says yes to a request can leave out of it: all that
// its target's protocol enforces and it would open as far as people have said yes. ReadOnly
// says that it can be made so.
func (g *Gate) Narrowable(r Request) policy.Scope {
	scope, err := given(r.Decision, r.Approvals)
	t, ok := g.Policy().Target(r.Input.Target)
	if err != nil || !ok || r.Extends != "" {
		return policy.Scope{}
	}
	choices := scope.Choices()
	choices.ReadOnly = !scope.ReadOnly
	return choices.Only(g.c.Scopes[t.Protocol])
}

// Gives is what a yes would open, as far as people have said yes.
func (r Request) Gives() policy.Scope {
	scope, err := given(r.Decision, r.Approvals)
	if err != nil {
		return r.Decision.Scope
	}
	return ofObject(scope, r.Input.Object)
}

// ofObject leaves of a scope's databases the one that the grant is for.
func ofObject(scope policy.Scope, object string) policy.Scope {
	scope.Databases = nil
	if object != "" {
		scope.Databases = []string{object}
	}
	return scope
}
