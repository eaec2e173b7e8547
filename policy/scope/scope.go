// Package scope is what a grant lets its sessions do inside a target: the words of a
// rule's scope block, how two of them compare, and how an approver gives less.
package scope

import (
	"cmp"
	"slices"
	"strings"
)

// Scope is what a grant lets its sessions do inside the target. The zero Scope
// means all that the target's role can do. A protocol refuses a Scope with parts
// that it cannot enforce; see Scope.Parts.
type Scope struct {
	ReadOnly  bool     `json:"read_only,omitempty"`
	Databases []string `json:"databases,omitempty"` // PostgreSQL: databases beside the target's own
	Channels  []string `json:"channels,omitempty"`  // SSH: shell, exec, sftp, forward, listen, agent, x11
	Forward   []string `json:"forward,omitempty"`   // SSH: destinations of forwards (-L), "host:port"
	Listen    []string `json:"listen,omitempty"`    // SSH: where the target listens for the client (-R), "host:port"
	Methods   []string `json:"methods,omitempty"`   // HTTP
	Paths     []string `json:"paths,omitempty"`     // HTTP: path patterns
	Query     []string `json:"query,omitempty"`     // HTTP: query parameters, "name=pattern"; "name?=pattern" may be left out
}

// A part is one list of a scope, under the name that a rule's scope block has for it.
type part struct {
	name string
	list *[]string
}

func (s *Scope) parts() []part {
	return []part{
		{"databases", &s.Databases},
		{"channels", &s.Channels},
		{"forward", &s.Forward},
		{"listen", &s.Listen},
		{"methods", &s.Methods},
		{"paths", &s.Paths},
		{"query", &s.Query},
	}
}

// Parts names what the scope limits, in the words of a rule's scope block. A
// protocol refuses a part that it cannot enforce.
func (s Scope) Parts() []string {
	var names []string
	if s.ReadOnly {
		names = append(names, "read_only")
	}
	for _, p := range s.parts() {
		if len(*p.list) > 0 {
			names = append(names, p.name)
		}
	}
	return names
}

// String says it in words: "read-only; channels shell, sftp".
func (s Scope) String() string {
	var words []string
	if s.ReadOnly {
		words = append(words, "read-only")
	}
	names := map[string]string{"forward": "forwards to", "listen": "listening at", "query": "query parameters"}
	for _, p := range s.parts() {
		if len(*p.list) > 0 {
			words = append(words, cmp.Or(names[p.name], p.name)+" "+strings.Join(*p.list, ", "))
		}
	}
	if len(words) == 0 {
		return "all that the role can do"
	}
	return strings.Join(words, "; ")
}

// Clone shares nothing with s.
func (s Scope) Clone() Scope {
	for _, p := range s.parts() {
		*p.list = slices.Clone(*p.list)
	}
	return s
}

// channels are those that the scope opens. Agent and X11 lead from the target back into
// the user's machine, so they are open only where they are named.
func (s Scope) channels() []string {
	if len(s.Channels) > 0 {
		return s.Channels
	}
	return []string{"shell", "exec", "sftp", "forward", "listen"}
}

// Admits reports that need lies within the scope. A list that the scope leaves out
// limits nothing.
func (s Scope) Admits(need Scope) bool {
	within := func(limit, need []string) bool { return len(limit) == 0 || contains(limit, need) }
	return contains(s.channels(), need.Channels) && within(s.Forward, need.Forward) && within(s.Listen, need.Listen) && within(s.Methods, need.Methods) && within(s.Paths, need.Paths)
}

// contains reports that all holds every one of some.
func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(word string) bool { return !slices.Contains(all, word) })
}

// Within reports that the scope lets its sessions do nothing that limit does not.
func (s Scope) Within(limit Scope) bool {
	if limit.ReadOnly && !s.ReadOnly || !limit.Admits(s) || !contains(limit.channels(), s.channels()) {
		return false
	}
	// A pattern fewer may be a parameter that nobody has to name any more.
	if len(limit.Query) > 0 && !slices.Equal(slices.Sorted(slices.Values(limit.Query)), slices.Sorted(slices.Values(s.Query))) {
		return false
	}
	for _, list := range [][2][]string{{limit.Methods, s.Methods}, {limit.Paths, s.Paths}} {
		if len(list[0]) > 0 && len(list[1]) == 0 { // a list that is left out limits nothing
			return false
		}
	}
	if len(limit.Forward) > 0 && len(s.Forward) == 0 && slices.Contains(s.channels(), "forward") {
		return false
	}
	if len(limit.Listen) > 0 && len(s.Listen) == 0 && slices.Contains(s.channels(), "listen") {
		return false
	}
	// Databases are those beside the target's own, so a list that is left out is the least.
	return contains(limit.Databases, s.Databases)
}
