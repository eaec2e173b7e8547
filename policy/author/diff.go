package author

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/strict"
)

// A Change is one cell of the matrix people x targets x roles that is not what it was,
// or a target, role or issuer that is not where or what it was: who can repoint one
// owns the policy.
type Change struct {
	Who    string   `json:"who"`
	Target string   `json:"target"`
	Role   string   `json:"role"` // "*": every role, of a forbid
	Before []string `json:"before,omitempty"`
	After  []string `json:"after,omitempty"`
}

// A Difference is all that differs between two policies.
type Difference struct {
	Access []Change `json:"access"` // the matrix, and where targets and issuers are
	// Blocks and Files differ in their text, whether or not the matrix shows it: nothing
	// that is signed may hide behind a summary.
	Blocks []string `json:"blocks"` // "rule orders-read: changed (policy/prod.hcl:3)"
	Files  []string `json:"files"`  // other files: tests, CAs
}

// None reports that nothing differs.
func (d Difference) None() bool { return len(d.Access)+len(d.Blocks)+len(d.Files) == 0 }

// Diff compares two policies.
func Diff(before, after *policy.Draft) Difference {
	d := Difference{Access: []Change{}, Blocks: []string{}, Files: []string{}}
	a, b := matrix(before), matrix(after)
	for _, key := range either(a, b) {
		if slices.Equal(a[key], b[key]) {
			continue
		}
		part := strings.Split(key, "\x00")
		d.Access = append(d.Access, Change{Target: part[0], Role: part[1], Who: part[2], Before: a[key], After: b[key]})
	}
	x, y := blocks(before.Files), blocks(after.Files)
	for _, key := range either(x, y) {
		was, is := x[key], y[key]
		switch {
		case was.text == is.text:
		case was.text == "":
			d.Blocks = append(d.Blocks, key+": new ("+is.at+")")
		case is.text == "":
			d.Blocks = append(d.Blocks, key+": gone (was "+was.at+")")
		default:
			d.Blocks = append(d.Blocks, key+": changed ("+is.at+")")
		}
	}
	for _, name := range either(before.Files, after.Files) {
		was, had := before.Files[name]
		is, has := after.Files[name]
		if (!isRules(name)) && (had != has || !bytes.Equal(was, is)) {
			d.Files = append(d.Files, name)
		}
	}
	return d
}

func isRules(name string) bool {
	return strings.HasSuffix(name, ".hcl") && !strings.HasSuffix(name, ".test.hcl")
}

func either[V any](a, b map[string]V) []string {
	keys := slices.Concat(strict.SortedKeys(a), strict.SortedKeys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

type source struct{ text, at string }

// blocks is every block's text in the one style, without comments around it.
func blocks(files map[string][]byte) map[string]source {
	all := map[string]source{}
	for _, name := range strict.SortedKeys(files) {
		if !isRules(name) {
			continue
		}
		file, diags := hclsyntax.ParseConfig(files[name], name, hcl.InitialPos)
		body, ok := file.Body.(*hclsyntax.Body)
		if diags.HasErrors() || !ok {
			continue
		}
		for _, b := range body.Blocks {
			key := strings.Join(append([]string{b.Type}, b.Labels...), " ")
			before := all[key] // rights have no name of their own: all of one right are one
			text := string(bytes.TrimSpace(hclwrite.Format(files[name][b.TypeRange.Start.Byte:b.CloseBraceRange.End.Byte])))
			all[key] = source{text: before.text + text + "\n", at: fmt.Sprintf("%s:%d", name, b.TypeRange.Start.Line)}
		}
	}
	return all
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
	rows := map[string]bool{}
	for _, g := range r.People.Groups {
		rows["group "+g] = true
	}
	for _, e := range r.People.Emails {
		rows[e] = true
	}
	if !plain(r) {
		return []string{r.Who}
	}
	return strict.SortedKeys(rows)
}

func terms(r policy.Rule) string {
	if r.Kind == "forbid" {
		return "forbidden" + choose(r.Conditional, ", when "+r.When, "")
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
	if len(r.Scope.Parts()) > 0 {
		parts = append(parts, r.Scope.String())
	}
	if r.Conditional {
		parts = append(parts, "when "+r.When)
	}
	return strings.Join(parts, ", ")
}
