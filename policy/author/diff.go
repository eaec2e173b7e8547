package author

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/strict"
)

// A Change is one cell of the matrix people x targets x roles that is not what it was.
type Change struct {
	Who    string   `json:"who"`
	Target string   `json:"target"`
	Role   string   `json:"role"` // "*": every role, of a forbid
	Before []string `json:"before,omitempty"`
	After  []string `json:"after,omitempty"`
}

// Diff returns what changes for whom, sorted; lines that mean the same do not show.
// Beside the matrix it names targets and issuers that are not where or what they were:
// who can repoint one owns the policy.
func Diff(before, after *policy.Draft) []Change {
	a, b := matrix(before), matrix(after)
	keys := slices.Concat(strict.SortedKeys(a), strict.SortedKeys(b))
	slices.Sort(keys)
	changes := []Change{}
	for _, key := range slices.Compact(keys) {
		if slices.Equal(a[key], b[key]) {
			continue
		}
		part := strings.Split(key, "\x00")
		changes = append(changes, Change{Target: part[0], Role: part[1], Who: part[2], Before: a[key], After: b[key]})
	}
	return changes
}

// matrix is the terms on which each group or the like gets each role of each target.
func matrix(d *policy.Draft) map[string][]string {
	m := map[string][]string{}
	add := func(target, role, who, terms string) {
		key := target + "\x00" + role + "\x00" + who
		m[key] = append(m[key], terms)
	}
	for _, r := range d.Rules() {
		roles := r.Roles
		if len(roles) == 0 {
			roles = []string{"*"}
		}
		for _, who := range each(r) {
			for _, target := range r.Targets {
				for _, role := range roles {
					add(target, role, who, terms(r))
				}
			}
		}
	}
	for _, t := range d.Targets() {
		add(t.Name, "-", "the target itself", fmt.Sprintf("%s at %s, TLS %s %s %s", t.Protocol, t.Address, t.TLS.Mode, t.TLS.ServerName, strings.Join(t.TLS.Pins, " ")))
		for _, name := range strict.SortedKeys(t.Roles) {
			add(t.Name, name, "the role itself", fmt.Sprintf("account %s, credential %s", t.Roles[name].Account, t.Roles[name].Credential))
		}
	}
	for _, i := range d.Identity().Issuers {
		add("-", "-", "issuer "+i.Name, fmt.Sprintf("%s %s, client %s, audiences %s, e-mail %s, groups %s, person %s, standing %s", i.Kind, i.URL, i.ClientID, strings.Join(i.Audiences, " "), i.EmailClaim, i.GroupsClaim, i.PersonClaim, i.Standing))
	}
	for _, list := range m {
		slices.Sort(list)
	}
	return m
}

// each splits a plain list of groups or e-mails into one row each; what narrows them
// (claims, an issuer) stays whole.
func each(r policy.Rule) []string {
	plain := map[string]bool{}
	for _, g := range r.People.Groups {
		plain["group "+g] = true
	}
	for _, e := range r.People.Emails {
		plain[e] = true
	}
	if len(plain) == 0 || strings.Count(r.Who, ";") > min(len(r.People.Groups), 1)+min(len(r.People.Emails), 1)-1 {
		return []string{r.Who}
	}
	return strict.SortedKeys(plain)
}

func terms(r policy.Rule) string {
	if r.Kind == "forbid" {
		return "forbidden" + choose(r.Conditional, ", under a condition", "")
	}
	parts := []string{"automatic"}
	if len(r.Stages) > 0 {
		parts = nil
		for _, s := range r.Stages {
			parts = append(parts, s.String())
		}
	}
	if r.Kind == "break_glass" {
		parts = append(parts, "breaking the glass")
	}
	parts = append(parts, "up to "+policy.FormatSpan(r.Longest))
	if r.Reason {
		parts = append(parts, "with a reason")
	}
	if r.Ticket != "" {
		parts = append(parts, "with a ticket of "+r.Ticket)
	}
	for _, p := range r.Proof {
		parts = append(parts, "by "+string(p))
	}
	for _, p := range r.Scope.Parts() {
		parts = append(parts, "limited by "+p)
	}
	if r.Conditional {
		parts = append(parts, "under a condition")
	}
	return strings.Join(parts, ", ")
}
