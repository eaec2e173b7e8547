package author

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// lint finds rules that a reader would take for more than they are, and tells of each.
func lint(rules []policy.Rule, tell func(severity string, r policy.Rule, summary, detail string)) {
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
			tell("warning", r, "Nobody can approve", short)
		}
		never := slices.IndexFunc(rules, func(other policy.Rule) bool {
			return other.Name != r.Name && overlaps(other, r) && within(targets[r.Name], targets[other.Name])
		})
		if never >= 0 {
			other := rules[never]
			if other.Kind == "forbid" {
				tell("warning", r, "Never decides", fmt.Sprintf("%s is wholly forbidden by %s at %s.", r.Name, other.Name, other.At))
			} else {
				tell("warning", r, "Never decides", fmt.Sprintf("%s at %s admits all that %s admits, and comes first: it asks fewer people, or the same number and has the earlier name.", other.Name, other.At, r.Name))
			}
			continue
		}
		for _, other := range rules {
			if other.Name == r.Name || other.Kind != r.Kind || !first(other, r) {
				continue
			}
			if who, role := meet(other, r); who != "" {
				if at := slices.IndexFunc(r.Targets, func(t string) bool { return targets[other.Name][t] }); at >= 0 {
					tell("note", r, "Overlap", fmt.Sprintf("%s at %s can admit the same ask (%s, %s as %s), and comes first: it asks %d, and this one %d.", other.Name, other.At, who, r.Targets[at], role, people(other), people(r)))
				}
			}
		}
	}
}

// meet names people and a role that two rules are both about for sure: claims and issuers
// may keep apart whom groups do not.
func meet(a, b policy.Rule) (who, role string) {
	at := slices.IndexFunc(a.Roles, func(role string) bool { return slices.Contains(b.Roles, role) })
	if at < 0 {
		return "", ""
	}
	role = a.Roles[at]
	switch {
	case a.Who == b.Who || b.Who == "everybody":
		return a.Who, role
	case a.Who == "everybody":
		return b.Who, role
	case !plain(a) || !plain(b):
		return "", ""
	}
	for _, lists := range [][2][]string{{a.People.Groups, b.People.Groups}, {a.People.Emails, b.People.Emails}} {
		for _, one := range lists[0] {
			if slices.Contains(lists[1], one) {
				return one, role
			}
		}
	}
	return "", ""
}

// plain reports that a rule is about groups and e-mails and nothing that narrows them.
func plain(r policy.Rule) bool {
	lists := min(len(r.People.Groups), 1) + min(len(r.People.Emails), 1)
	return lists > 0 && strings.Count(r.Who, ";") == lists-1
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
// is in a group is not in the policy, so stages with one are taken to find somebody.
func unapprovable(r policy.Rule) string {
	var stages []policy.Stage
	named := map[string]bool{}
	need := 0
	for _, s := range r.Stages {
		if len(s.From.Groups) > 0 {
			continue
		}
		stages = append(stages, s)
		need += s.Count
		for _, e := range s.From.Emails {
			named[e] = true
		}
	}
	if !fillable(stages, "") {
		return fmt.Sprintf("%d different people have to say yes, and the %d that are named cannot: nobody counts twice.", need, len(named))
	}
	if len(r.People.Groups) > 0 || len(r.People.Emails) == 0 {
		return ""
	}
	if !slices.ContainsFunc(r.People.Emails, func(e string) bool { return fillable(stages, e) }) {
		return "Whoever asks is one of those who all have to say yes, and nobody decides on their own request."
	}
	return ""
}

// fillable reports that each place of the stages finds somebody of its own who is named
// there and does not ask (a matching, by augmenting paths).
func fillable(stages []policy.Stage, asks string) bool {
	var places [][]string
	for _, s := range stages {
		for range s.Count {
			places = append(places, s.From.Emails)
		}
	}
	has := map[string]int{} // the place that somebody fills
	var fill func(place int, tried map[string]bool) bool
	fill = func(place int, tried map[string]bool) bool {
		for _, e := range places[place] {
			if e == asks || tried[e] {
				continue
			}
			tried[e] = true
			if at, taken := has[e]; !taken || fill(at, tried) {
				has[e] = place
				return true
			}
		}
		return false
	}
	for place := range places {
		if !fill(place, map[string]bool{}) {
			return false
		}
	}
	return true
}
