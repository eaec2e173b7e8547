package policy

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/policy/strict"
)

// Weaken takes the clauses of one rule away, each in turn, runs the draft's tests without
// it, and returns those that no test misses: "who", "reason", "one of the 2 in stage 1". It
// must not run at the same time as other methods.
func (d *Draft) Weaken(name string) (missed []string) {
	all := slices.Concat(d.set.rules, d.set.forbids)
	at := slices.IndexFunc(all, func(r *rule) bool { return r.name == name })
	if at < 0 {
		return nil
	}
	r := all[at]
	whole := *r
	for _, m := range d.set.mutations(r) {
		m.weaken(r)
		d.set.index()
		if !d.notice() {
			missed = append(missed, m.clause)
		}
		*r = whole
	}
	d.set.index()
	return missed
}

// notice reports that one of the tests fails.
func (d *Draft) notice() bool {
	return slices.ContainsFunc(d.trials, func(t *trial) bool { return t.run(d.set).Failed != "" })
}

// A mutation is a rule without one of its clauses.
type mutation struct {
	clause string
	weaken func(*rule) // it replaces what it changes, and changes nothing in place
}

// mutations are those of the clauses that the rule has, and that limit it.
func (s *set) mutations(r *rule) []mutation {
	var all []mutation
	add := func(has bool, clause string, weaken func(*rule)) {
		if has {
			all = append(all, mutation{clause, weaken})
		}
	}
	roles, targets := s.without(r)
	add(len(targets) > len(r.covered), "target", func(r *rule) { r.covered = targets })
	add(len(r.roles) > 0 && len(roles) > len(r.roles), "role", func(r *rule) { r.roles = roles })
	add(!r.who.everybody, "who", func(r *rule) { r.who = who{everybody: true} })
	add(len(r.proof) > 0, "proof", func(r *rule) { r.proof = nil })
	add(r.when != nil, "when", func(r *rule) { r.when = nil })
	add(r.longest > 0, "longest", func(r *rule) { r.longest *= 2 })
	add(r.reason, "reason", func(r *rule) { r.reason = false })
	add(r.ticket != nil, "ticket", func(r *rule) { r.ticket = nil })
	add(len(r.scope.Parts()) > 0, "scope", func(r *rule) { r.scope = Scope{} })
	add(len(r.stages) == 1, "approve", func(r *rule) { r.stages = nil })
	for i, stage := range r.stages {
		add(len(r.stages) > 1, fmt.Sprintf("stage %d", i+1), func(r *rule) {
			r.stages = slices.Delete(slices.Clone(r.stages), i, i+1)
		})
		add(stage.Count > 1, fmt.Sprintf("one of the %d in stage %d", stage.Count, i+1), func(r *rule) {
			r.stages = slices.Clone(r.stages)
			r.stages[i].Count--
		})
	}
	add(true, "all of it", func(r *rule) { r.who = who{issuer: "nobody"} })
	return all
}

// without are the roles that a rule would be about without its role clause, and the
// targets without its target clause: those that have one of its roles.
func (s *set) without(r *rule) (roles []string, targets []*Target) {
	for _, t := range r.covered {
		roles = append(roles, strict.SortedKeys(t.Roles)...)
	}
	slices.Sort(roles)
	for _, name := range s.names {
		t := s.targets[name]
		has := func(role string) bool { _, ok := t.Roles[role]; return ok }
		if len(r.roles) == 0 || slices.ContainsFunc(r.roles, has) {
			targets = append(targets, t)
		}
	}
	return slices.Compact(roles), targets
}
