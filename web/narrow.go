package web

import (
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// A pick is a part of what a request would open, of which somebody who says yes can
// leave something out.
type pick struct {
	Part  string // the field's name, as in a rule's scope block
	Items []pickItem
}

type pickItem struct {
	Word string
	On   bool // it is given
}

// narrowing are the lists of a scope that the form has boxes for.
func narrowing(s *policy.Scope) map[string]*[]string {
	return map[string]*[]string{"channels": &s.Channels, "forward": &s.Forward, "listen": &s.Listen, "methods": &s.Methods, "paths": &s.Paths}
}

// picks are the form's boxes: all that is offered, ticked as in given, where a list
// that is left out means all of it.
func picks(offered, given policy.Scope) []pick {
	var all []pick
	lists := narrowing(&given)
	for part, words := range narrowing(&offered) {
		if len(*words) < 2 { // there is nothing to leave out
			continue
		}
		p := pick{Part: part}
		for _, word := range *words {
			p.Items = append(p.Items, pickItem{word, len(*lists[part]) == 0 || slices.Contains(*lists[part], word)})
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b pick) int { return strings.Compare(a.Part, b.Part) })
	return all
}

// narrowed reads the shorter duration and the smaller scope of a form. The field narrow
// names the lists that the form had boxes for: a browser sends no box that is not ticked.
func narrowed(fields url.Values, offered policy.Scope) (session.Verdict, error) {
	d, err := duration(fields.Get("for"))
	verdict := session.Verdict{Duration: d, Word: fields.Get("word")}
	err = firstError(err, short("word", verdict.Word, session.MaxReason))
	verdict.Scope.ReadOnly = fields.Get("access") == "read-only"
	lists := narrowing(&offered)
	for part, into := range narrowing(&verdict.Scope) {
		if !slices.Contains(fields["narrow"], part) {
			continue
		}
		ticked := fields[part]
		if len(ticked) == 0 {
			err = firstError(err, &session.Invalid{Field: part, Hint: "tick at least one of the " + part + ", or deny"})
		}
		if slices.ContainsFunc(*lists[part], func(word string) bool { return !slices.Contains(ticked, word) }) {
			*into = ticked
		}
	}
	return verdict, err
}
