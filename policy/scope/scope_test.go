package scope_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/scope"
)

type words = []string

// A grant whose query parameters are not the rule's any more lies outside it, even where
// there are fewer: one that is left out need not be named.
func TestScopesCompared(t *testing.T) {
	limit := scope.Scope{Query: words{"index=a", "index=b", "page?=*"}}
	for _, one := range []struct {
		query  words
		within bool
	}{
		{words{"index=b", "index=a", "page?=*"}, true},
		{words{"index=a", "page?=*"}, false},
		{words{"page?=*"}, false},
		{nil, false},
	} {
		if got := (scope.Scope{Query: one.query}).Within(limit); got != one.within {
			t.Errorf("%q within %q: %v", one.query, limit.Query, got)
		}
	}
	if !(scope.Scope{Query: words{"a=b"}}).Within(scope.Scope{}) {
		t.Error("what limits nothing limits")
	}
}

// A list that is left out limits nothing, so what has none lies outside what has one.
func TestNoListIsOutsideAList(t *testing.T) {
	for name, c := range map[string]struct {
		limit, s scope.Scope
		within   bool
	}{
		"methods":      {scope.Scope{Methods: words{"GET"}}, scope.Scope{}, false},
		"paths":        {scope.Scope{Paths: words{"/api/**"}}, scope.Scope{}, false},
		"one of two":   {scope.Scope{Methods: words{"GET"}, Paths: words{"/api/**"}}, scope.Scope{Methods: words{"GET"}}, false},
		"destinations": {scope.Scope{Forward: words{"db:5432"}}, scope.Scope{}, false},
		"places":       {scope.Scope{Listen: words{"a:80"}}, scope.Scope{}, false},
		"no listening": {scope.Scope{Listen: words{"a:80"}}, scope.Scope{Channels: words{"shell"}}, true},
		"no forward":   {scope.Scope{Forward: words{"db:5432"}}, scope.Scope{Channels: words{"shell"}}, true},
		"read only":    {scope.Scope{ReadOnly: true}, scope.Scope{}, false},
		"databases":    {scope.Scope{}, scope.Scope{Databases: words{"archive"}}, false},
	} {
		if got := c.s.Within(c.limit); got != c.within {
			t.Errorf("%s: %v within %v: %v", name, c.s, c.limit, got)
		}
	}
}

// Agent and X11 lead back into the user's machine: a rule that names no channels has
// them not, so a grant that does lies outside it.
func TestAgentIsOpenOnlyWhereItIsNamed(t *testing.T) {
	agent := scope.Scope{Channels: words{"shell", "agent"}}
	if agent.Within(scope.Scope{}) {
		t.Error("a grant with the agent lies within a rule that does not name it")
	}
	if (scope.Scope{}).Admits(scope.Scope{Channels: words{"agent"}}) {
		t.Error("a scope that names no channels admits the agent")
	}
	if err := (scope.Scope{}).Takes(agent); err == nil {
		t.Error("an approver may add the agent")
	}
	if !(scope.Scope{}).Within(scope.Scope{Channels: words{"shell", "exec", "sftp", "forward", "listen", "agent"}}) {
		t.Error("all that is open by itself lies within what names it all")
	}
}

func TestNarrowedScopes(t *testing.T) {
	ssh := scope.Scope{Channels: words{"shell", "exec", "forward"}, Forward: words{"db:5432", "cache:6379"}}
	web := scope.Scope{Methods: words{"GET", "POST"}, Paths: words{"/a/**", "/b"}, Query: words{"q=*"}}
	for name, c := range map[string]struct {
		rule, by, want scope.Scope
		part           string // of the refusal
	}{
		"nothing":                 {ssh, scope.Scope{}, ssh, ""},
		"fewer channels":          {ssh, scope.Scope{Channels: words{"shell"}}, scope.Scope{Channels: words{"shell"}, Forward: ssh.Forward}, ""},
		"fewer destinations":      {ssh, scope.Scope{Forward: words{"db:5432"}}, scope.Scope{Channels: ssh.Channels, Forward: words{"db:5432"}}, ""},
		"of all channels":         {scope.Scope{}, scope.Scope{Channels: words{"sftp"}}, scope.Scope{Channels: words{"sftp"}}, ""},
		"methods and paths":       {web, scope.Scope{Methods: words{"GET"}, Paths: words{"/b"}}, scope.Scope{Methods: words{"GET"}, Paths: words{"/b"}, Query: web.Query}, ""},
		"paths where none are":    {scope.Scope{}, scope.Scope{Paths: words{"/b/*"}}, scope.Scope{Paths: words{"/b/*"}}, ""},
		"reading only":            {web, scope.Scope{ReadOnly: true}, scope.Scope{ReadOnly: true, Methods: web.Methods, Paths: web.Paths, Query: web.Query}, ""},
		"another channel":         {ssh, scope.Scope{Channels: words{"shell", "sftp"}}, scope.Scope{}, "channels"},
		"another destination":     {ssh, scope.Scope{Forward: words{"mail:25"}}, scope.Scope{}, "forward"},
		"another path":            {web, scope.Scope{Paths: words{"/a/b"}}, scope.Scope{}, "paths"},
		"no path":                 {scope.Scope{}, scope.Scope{Paths: words{"b"}}, scope.Scope{}, "paths"},
		"no destination":          {scope.Scope{}, scope.Scope{Forward: words{"db"}}, scope.Scope{}, "forward"},
		"no place to listen":      {scope.Scope{}, scope.Scope{Listen: words{"80"}}, scope.Scope{}, "listen"},
		"another place":           {scope.Scope{Listen: words{"a:80"}}, scope.Scope{Listen: words{"a:81"}}, scope.Scope{}, "listen"},
		"a method in lower case":  {scope.Scope{}, scope.Scope{Methods: words{"get"}}, scope.Scope{}, "methods"},
		"an unknown channel":      {scope.Scope{}, scope.Scope{Channels: words{"telnet"}}, scope.Scope{}, "channels"},
		"an empty word":           {scope.Scope{}, scope.Scope{Paths: words{""}}, scope.Scope{}, "paths"},
		"a word that draws":       {scope.Scope{}, scope.Scope{Paths: words{"/\x1b[2J"}}, scope.Scope{}, "paths"},
		"more than anybody reads": {scope.Scope{}, scope.Scope{Methods: strings.Fields(strings.Repeat("A ", 101))}, scope.Scope{}, "methods"},
		"none":                    {ssh, scope.Scope{Channels: words{}}, scope.Scope{}, "channels"},
		"databases":               {scope.Scope{Databases: words{"a", "b"}}, scope.Scope{Databases: words{"a"}}, scope.Scope{}, "scope"},
		"query parameters":        {web, scope.Scope{Query: words{"q=*"}}, scope.Scope{}, "scope"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.rule.Takes(c.by)
			if c.part != "" {
				var refusal *scope.Refusal
				if !errors.As(err, &refusal) || refusal.Part != c.part {
					t.Errorf("got %v, want a refusal of %s", err, c.part)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.rule.Narrow(c.by)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v (%v), want %+v", got, err, c.want)
			}
		})
	}
}

// Two approvers who have nothing in common leave nothing: an empty list would be all.
func TestNothingInCommonIsNotEverything(t *testing.T) {
	first, err := (scope.Scope{}).Narrow(scope.Scope{Channels: words{"shell"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := first.Narrow(scope.Scope{Channels: words{"sftp"}})
	if err == nil || !strings.Contains(err.Error(), "of the channels nothing would be left") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestPropertyNarrowingNeverWidens(t *testing.T) {
	list := func(t *rapid.T, label string, from ...string) words {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 0, len(from), rapid.ID).Draw(t, label)
	}
	gen := func(t *rapid.T) scope.Scope {
		return scope.Scope{
			ReadOnly: rapid.Bool().Draw(t, "read only"), Channels: list(t, "channels", "shell", "exec", "sftp", "forward", "listen", "agent", "x11"),
			Forward: list(t, "forward", "a:1", "b:2"), Listen: list(t, "listen", "a:1", "b:2"), Methods: list(t, "methods", "GET", "POST", "PUT"), Paths: list(t, "paths", "/a", "/b", "/c/**"),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		rule, by := gen(t), gen(t)
		got, err := rule.Narrow(by)
		if err != nil {
			return
		}
		if !got.Within(rule) {
			t.Fatalf("%+v narrowed by %+v is %+v, which is wider", rule, by, got)
		}
		if again, err := got.Narrow(by); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("narrowed once %+v, twice %+v (%v)", got, again, err)
		}
	})
}

func TestScopeIsChecked(t *testing.T) {
	for block, want := range map[string]string{
		`query = ["index"]`: "Not a parameter", `query = ["=a"]`: "Not a parameter", `query = ["?=a"]`: "Not a parameter",
		`query = ["a&b=c"]`: "Not a parameter", `query = ["a%62=c"]`: "Not a parameter", `query = ["*=c"]`: "Not a parameter",
		`methods = ["get"]`: "Never matches", `paths = ["a/b"]`: "Never matches", `paths = ["*"]`: "Never matches",
	} {
		text := strings.Replace(`rule "r" {
  who     = { everybody = true }
  role    = ["x"]
  target  = { name = "none" }
  longest = "1h"
  scope { SCOPE }
}`, "SCOPE", block, 1)
		d := policy.NewDraft(map[string][]byte{"policy/rules.hcl": []byte(text)}, nil)
		found := false
		for _, diag := range d.Diags {
			found = found || diag.Summary == want && diag.Subject.Start.Line == 6
		}
		if !found {
			t.Errorf("%q is taken: %v", block, d.Diags)
		}
	}
}
