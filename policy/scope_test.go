package policy

import (
	"strings"
	"testing"
)

// A grant whose query parameters are not the rule's any more lies outside it, even where
// there are fewer: one that is left out need not be named.
func TestScopesCompared(t *testing.T) {
	limit := Scope{Query: []string{"index=a", "index=b", "page?=*"}}
	for _, one := range []struct {
		query  []string
		within bool
	}{
		{[]string{"index=b", "index=a", "page?=*"}, true},
		{[]string{"index=a", "page?=*"}, false},
		{[]string{"page?=*"}, false},
		{nil, false},
	} {
		if got := (Scope{Query: one.query}).Within(limit); got != one.within {
			t.Errorf("%q within %q: %v", one.query, limit.Query, got)
		}
	}
	if !(Scope{Query: []string{"a=b"}}).Within(Scope{}) {
		t.Error("what limits nothing limits")
	}
}

func TestQueryIsChecked(t *testing.T) {
	for _, query := range []string{"index", "=a", "?=a", "a&b=c", "a%62=c", "*=c"} {
		text := strings.Replace(`rule "r" {
  who     = { everybody = true }
  role    = ["x"]
  target  = { name = "none" }
  longest = "1h"
  scope { query = ["QUERY"] }
}`, "QUERY", query, 1)
		d := NewDraft(map[string][]byte{"policy/rules.hcl": []byte(text)}, nil)
		found := false
		for _, diag := range d.Diags {
			found = found || diag.Summary == "Not a parameter" && diag.Subject.Start.Line == 6
		}
		if !found {
			t.Errorf("%q is taken: %v", query, d.Diags)
		}
	}
}
