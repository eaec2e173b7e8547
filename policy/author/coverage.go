package author

import (
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// A Gap is something about a rule that no test of the policy would notice.
type Gap struct {
	Rule string `json:"rule"`
	At   string `json:"at"`
	Gap  string `json:"gap"`
}

// Coverage looks for what the tests miss. For each rule it asks for a test that the
// rule decides and one that is denied about a target and role of it; then it takes
// away each clause of it in turn, and asks for a test that fails.
func Coverage(d *policy.Draft) []Gap {
	gaps := []Gap{}
	outcomes := d.Test()
	for _, r := range d.Rules() {
		miss := func(what string) { gaps = append(gaps, Gap{Rule: r.Name, At: r.At, Gap: what}) }
		decided := slices.ContainsFunc(outcomes, func(o policy.Outcome) bool {
			return o.Decision.Rule == r.Name && (o.Decision.Effect == policy.Allow) == (r.Kind != "forbid")
		})
		other := slices.ContainsFunc(outcomes, func(o policy.Outcome) bool {
			about := slices.Contains(r.Targets, o.Target) && (len(r.Roles) == 0 || slices.Contains(r.Roles, o.Role))
			if r.Kind == "forbid" {
				return about && o.Decision.Rule != r.Name
			}
			return about && o.Decision.Effect == policy.Deny
		})
		if !decided {
			miss(choose(r.Kind == "forbid", "no test is denied by it", "no test is allowed by it"))
			continue
		}
		if !other {
			miss(choose(r.Kind == "forbid", "no test shows whom it does not stop", "no test is denied at its targets and roles"))
		}
		for _, clause := range d.Weaken(r.Name) {
			miss(choose(clause == "longest", "with twice its longest no test fails", "without "+clause+" no test fails"))
		}
	}
	return gaps
}

func choose(which bool, a, b string) string {
	if which {
		return a
	}
	return b
}
