package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/bundle"
	"github.com/sallyport/sallyport/policy/strict"
)

// A Draft is a policy that nobody has signed: for those who write one, to check, test
// and compare. It is no Policy, and no gate takes it.
type Draft struct {
	set    *set
	trials []*trial
	Files  map[string][]byte // by path: "policy/prod.hcl"
	Diags  hcl.Diagnostics   // all that is wrong with it
}

// ReadDraft reads the files below dir/policy. It fails only where they cannot be read:
// what is wrong with them is in Diags. With scopes nil it is not known here what the
// protocols enforce, and not checked.
func ReadDraft(dir string, scopes map[string][]string) (*Draft, error) {
	src, err := bundle.ReadPolicy(dir)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	return NewDraft(src, scopes), nil
}

// NewDraft is ReadDraft of files that have been read already.
func NewDraft(src map[string][]byte, scopes map[string][]string) *Draft {
	s, trials, f := compile(src)
	if scopes != nil {
		s.enforceable(f, scopes)
	}
	s.whole(f)
	return &Draft{set: s, trials: trials, Files: src, Diags: f.Diags}
}

// Draft returns the policy's own files, to be compared with others.
func (p *Policy) Draft() *Draft { return NewDraft(p.bundle.Files, nil) }

// Err is the first thing that is wrong, nil where nothing is.
func (d *Draft) Err() error { return strict.Err(d.Diags) }

// Decide is Policy.Decide of a draft. The draft has to be without errors.
func (d *Draft) Decide(in Input) Decision { return d.set.decide(in) }

// Offers is Policy.Offers of a draft.
func (d *Draft) Offers(u identity.User) []Offer { return d.set.offers(u) }

// Identity is who may say who somebody is.
func (d *Draft) Identity() Identity { return d.set.identity }

// Zone is the zone that its conditions mean.
func (d *Draft) Zone() *time.Location { return d.set.zone }

// Targets lists all targets by name.
func (d *Draft) Targets() []Target { return d.set.list() }

// Test runs the draft's own tests, in the order of their files.
func (d *Draft) Test() []Outcome {
	outcomes := make([]Outcome, 0, len(d.trials))
	for _, t := range d.trials {
		outcomes = append(outcomes, t.run(d.set))
	}
	return outcomes
}

// A Rule is what a rule, forbid or break_glass block says.
type Rule struct {
	Kind        string               `json:"kind"`
	Name        string               `json:"name"`
	At          string               `json:"at"`
	Range       hcl.Range            `json:"-"`
	Targets     []string             `json:"targets"` // those that it covers, by name
	Roles       []string             `json:"roles,omitempty"`
	Who         string               `json:"who"`    // all of it, one spelling: "groups a, b"
	People      People               `json:"people"` // of it
	Proof       []identity.ProofKind `json:"proof,omitempty"`
	Conditional bool                 `json:"conditional,omitempty"`
	When        string               `json:"when,omitempty"` // the condition as it is written, on one line
	Longest     time.Duration        `json:"longest,omitempty"`
	Reason      bool                 `json:"reason,omitempty"`
	Ticket      string               `json:"ticket,omitempty"`
	Scope       Scope                `json:"scope,omitzero"`
	Stages      []Stage              `json:"stages,omitempty"`
}

// Rules lists the rules and break-glass rules by name, then the forbids by name.
func (d *Draft) Rules() []Rule {
	var rules []Rule
	for _, r := range slices.Concat(d.set.rules, d.set.forbids) {
		v := Rule{
			Kind: r.kind, Name: r.name, At: r.place(), Range: r.at, Roles: r.roles, Who: r.who.String(), People: r.who.people,
			Proof: r.proof, Conditional: r.when != nil, Longest: r.longest, Reason: r.reason, Scope: r.scope, Stages: r.stages,
		}
		if r.ticket != nil {
			v.Ticket = r.ticket.name
		}
		if r.when != nil {
			at := r.when.At
			v.When = strings.Join(strings.Fields(string(d.Files[at.Filename][at.Start.Byte:at.End.Byte])), " ")
		}
		for _, t := range r.covered {
			v.Targets = append(v.Targets, t.Name)
		}
		rules = append(rules, v)
	}
	return rules
}

// String names all that it asks for, in one spelling.
func (w who) String() string {
	if w.everybody {
		return "everybody"
	}
	var parts []string
	for _, p := range []struct {
		word string
		list []string
	}{{"groups", w.people.Groups}, {"emails", w.people.Emails}} {
		if len(p.list) > 0 {
			parts = append(parts, p.word+" "+strings.Join(slices.Sorted(slices.Values(p.list)), ", "))
		}
	}
	for _, claim := range strict.SortedKeys(w.claims) {
		parts = append(parts, claim+" "+strings.Join(slices.Sorted(slices.Values(w.claims[claim])), ", "))
	}
	if w.issuer != "" {
		parts = append(parts, "issuer "+w.issuer)
	}
	return strings.Join(parts, "; ")
}

// A Reason is what one rule has to say to an ask.
type Reason struct {
	Kind  string `json:"kind"`
	Rule  string `json:"rule"`
	At    string `json:"at"`
	Takes bool   `json:"takes"` // it admits, or forbids, the ask
	Why   string `json:"why"`
}

// Explain decides, and says of every rule about the target why it admits the ask or not.
func (d *Draft) Explain(in Input) (Decision, []Reason) {
	t := d.set.targets[in.Target]
	if t == nil {
		return d.set.decide(in), nil
	}
	f := &facts{in: &in, target: t, local: in.Time.In(d.set.zone), duration: in.Duration}
	var reasons []Reason
	var errs []string
	for _, r := range d.set.covers[in.Target].rules {
		x := Reason{Kind: r.kind, Rule: r.name, At: r.place(), Takes: true, Why: allow(r, 0, nil).Why}
		if no := r.explain(f, &errs); no != "" {
			x.Takes, x.Why = false, no
		}
		reasons = append(reasons, x)
	}
	for _, r := range d.set.covers[in.Target].forbids {
		x := Reason{Kind: r.kind, Rule: r.name, At: r.place(), Takes: forbidden([]*rule{r}, f, &errs) != nil, Why: "does not match"}
		if x.Takes {
			x.Why = forbid(r, nil).Why
		}
		reasons = append(reasons, x)
	}
	return d.set.decide(in), reasons
}

func (r *rule) explain(f *facts, errs *[]string) string {
	switch {
	case (r.kind == kindBreakGlass) != f.in.BreakGlass:
		return "is only for break-glass asks, or not for them"
	case !slices.Contains(r.roles, f.in.Role):
		return "is not about the role " + f.in.Role
	case !r.who.matches(&f.in.User):
		return "is only about " + r.who.String()
	}
	if m := r.admits(f, errs); m.step != missNone {
		why, _, _ := m.say()
		return why
	}
	return ""
}
