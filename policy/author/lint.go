package author

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/sallyport/sallyport/policy"
)

// lint finds rules that a reader would take for more than they are.
func lint(rules []policy.Rule) hcl.Diagnostics {
	var diags hcl.Diagnostics
	warn := func(r policy.Rule, summary, format string, args ...any) {
		diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagWarning, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &r.Range})
	}
	targets := map[string]map[string]bool{}
	for _, r := range rules {
		covered := map[string]bool{}
		for _, t := range r.Targets {
			covered[t] = true
		}
		targets[r.Name] = covered
	}
	for _, r := range rules {
		if r.Kind == "forbid" || len(r.Targets) == 0 {
			continue
		}
		if short := unapprovable(r); short != "" {
			warn(r, "Nobody can approve", "%s", short)
		}
		for _, other := range rules {
			if other.Name == r.Name || !overlaps(other, r) || !within(targets[r.Name], targets[other.Name]) {
				continue
			}
			if other.Kind == "forbid" {
				warn(r, "Never decides", "%s is wholly forbidden by %s at %s.", r.Name, other.Name, other.At)
			} else {
				warn(r, "Never decides", "%s at %s admits all that %s admits, and comes first: it asks fewer people, or the same number and has the earlier name.", other.Name, other.At, r.Name)
			}
			break
		}
	}
	return diags
}

func within(inner, outer map[string]bool) bool {
	for t := range maps.Keys(inner) {
		if !outer[t] {
			return false
		}
	}
	return true
}

// overlaps reports that other always decides where r would, for the roles of r. It is
// sure or says no: conditions are taken to differ.
func overlaps(other, r policy.Rule) bool {
	if other.Conditional || len(other.Proof) > 0 || other.Who != r.Who && other.Who != "everybody" {
		return false
	}
	if len(other.Roles) > 0 && slices.ContainsFunc(r.Roles, func(role string) bool { return !slices.Contains(other.Roles, role) }) {
		return false
	}
	if other.Kind == "forbid" {
		return true
	}
	return other.Kind == r.Kind && first(other, r) && other.Longest >= r.Longest && !other.Reason && other.Ticket == "" && len(other.Scope.Parts()) == 0 &&
		(people(other) > 0 || people(r) == 0)
}

// first reports that other is asked before r.
func first(other, r policy.Rule) bool {
	if a, b := people(other), people(r); a != b {
		return a < b
	}
	return other.Name < r.Name
}

func people(r policy.Rule) int {
	n := 0
	for _, s := range r.Stages {
		n += s.Count
	}
	return n
}

// unapprovable says why nobody could ever approve r. Only e-mails can be counted: who
// is in a group is not in the policy.
func unapprovable(r policy.Rule) string {
	named := map[string]bool{}
	for _, s := range r.Stages {
		if len(s.From.Groups) > 0 {
			return ""
		}
		for _, e := range s.From.Emails {
			named[e] = true
		}
	}
	need := people(r)
	if need == 0 {
		return ""
	}
	if len(named) < need {
		return fmt.Sprintf("%d different people have to say yes, but only %d are named.", need, len(named))
	}
	if len(r.People.Groups) == 0 && len(r.People.Emails) > 0 && len(named) == need &&
		!slices.ContainsFunc(r.People.Emails, func(e string) bool { return !named[e] }) {
		return "Whoever asks is one of those who all have to say yes, and nobody decides on their own request."
	}
	return ""
}
