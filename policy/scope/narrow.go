package scope

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Limits on what an approver can name where the rule lists nothing.
const (
	mostWords   = 100
	longestWord = 1000 // bytes
)

// A Refusal says why a scope cannot be narrowed so.
type Refusal struct {
	Part string // the word of a rule's scope block: "channels"
	Say  string // a sentence without its full stop
}

func (r *Refusal) Error() string { return r.Say }

// Choices lists, for each part that can be narrowed item by item, all that s opens. Where
// it lists nothing, that is what the part has words for; forwards, listening and paths have none.
func (s Scope) Choices() Scope {
	c := Scope{Channels: slices.Clone(s.channels()), Forward: slices.Clone(s.Forward), Listen: slices.Clone(s.Listen), Methods: slices.Clone(s.Methods), Paths: slices.Clone(s.Paths)}
	if len(c.Methods) == 0 {
		c.Methods = []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "WEBSOCKET"}
	}
	if !slices.Contains(c.Channels, "forward") {
		c.Forward = nil
	}
	if !slices.Contains(c.Channels, "listen") {
		c.Listen = nil
	}
	return c
}

// Only keeps of s what the named parts say.
func (s Scope) Only(names []string) Scope {
	s.ReadOnly = s.ReadOnly && slices.Contains(names, "read_only")
	for _, p := range s.parts() {
		if !slices.Contains(names, p.name) {
			*p.list = nil
		}
	}
	return s
}

// Takes says why by asks for something that s does not open, or that is no word of a
// scope; nil where it only gives less. The error is a *Refusal.
func (s Scope) Takes(by Scope) error {
	if len(by.Databases) > 0 || len(by.Query) > 0 {
		return &Refusal{"scope", "databases and query parameters are as the rule has them; deny, and ask for another request"}
	}
	open := map[string][]string{"channels": s.channels(), "forward": s.Forward, "listen": s.Listen, "methods": s.Methods, "paths": s.Paths}
	for _, p := range by.parts() {
		if *p.list != nil && len(*p.list) == 0 { // whoever names none means none, and would get all
			return &Refusal{p.name, "name some of the " + p.name + ", or leave " + p.name + " out; to give none of them, deny"}
		}
		if len(*p.list) > mostWords {
			return &Refusal{p.name, fmt.Sprintf("at most %d %s can be named", mostWords, p.name)}
		}
		for _, word := range *p.list {
			if say := odd(p.name, word); say != "" {
				return &Refusal{p.name, say}
			}
			if all := open[p.name]; len(all) > 0 && !slices.Contains(all, word) {
				return &Refusal{p.name, fmt.Sprintf("an approval may narrow, never widen: of %s there is %s, and not %s", p.name, strings.Join(all, ", "), word)}
			}
		}
	}
	return nil
}

// odd says why a word could never match; empty where it could.
func odd(part, word string) string {
	switch {
	case word == "" || len(word) > longestWord || strings.ContainsFunc(word, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Sprintf("each of %s has 1 to %d printable characters", part, longestWord)
	case part == "paths" && !strings.HasPrefix(word, "/"):
		return "a path begins with a slash, such as /api/orders/**"
	case part == "methods" && word != strings.ToUpper(word):
		return "a method is in capitals, such as GET"
	case part == "forward" && !strings.Contains(word, ":") && !strings.HasPrefix(word, "/"):
		return "a destination is host:port, or the path of a socket"
	case part == "listen" && !strings.Contains(word, ":") && !strings.HasPrefix(word, "/"):
		return "a place to listen at is host:port, or the path of a socket"
	}
	return ""
}

// Narrow returns what both s and by open. Of each list it has what both name; one that
// has nothing left is an error, a *Refusal, because an empty list limits nothing.
func (s Scope) Narrow(by Scope) (Scope, error) {
	both := s.Clone()
	both.ReadOnly = s.ReadOnly || by.ReadOnly
	if len(by.Channels) > 0 {
		both.Channels = slices.Clone(s.channels())
	}
	theirs := by.parts()
	for i, p := range both.parts() {
		limit := *theirs[i].list
		if len(limit) == 0 {
			continue
		}
		if len(*p.list) == 0 {
			*p.list = slices.Clone(limit)
			continue
		}
		*p.list = slices.DeleteFunc(*p.list, func(word string) bool { return !slices.Contains(limit, word) })
		if len(*p.list) == 0 {
			return Scope{}, &Refusal{p.name, "of the " + p.name + " nothing would be left: the approvals have none in common"}
		}
	}
	return both, nil
}
