package strict

import (
	"math/big"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Fields reads the attributes of a block or of an object value, which may only be
// plain values: no variables, no functions, no templates. Whatever is not asked for
// by the time of Done is an error. It is not gohcl, because gohcl lets the last of
// two equal keys of an object win, turns null into a zero value, and converts numbers
// to strings.
type Fields struct {
	F     *Findings
	At    hcl.Range // of the block's header, or of the object's name
	What  string    // "rule orders-read", for sentences
	Attrs map[string]hclsyntax.Expression
	Keys  map[string]hcl.Range // where each name stands
	known []string             // asked for
}

// Block returns the attributes of b; what names it in sentences.
func (f *Findings) Block(b *hclsyntax.Block, what string) *Fields {
	r := &Fields{F: f, At: b.DefRange(), What: what, Attrs: map[string]hclsyntax.Expression{}, Keys: map[string]hcl.Range{}}
	for name, a := range b.Body.Attributes {
		r.Attrs[name], r.Keys[name] = a.Expr, a.NameRange
	}
	return r
}

// Object returns the fields of an attribute that is written { key = value }; nil
// where it is absent or something else.
func (r *Fields) Object(name string) *Fields {
	expr := r.Take(name)
	if expr == nil {
		return nil
	}
	obj, ok := expr.(*hclsyntax.ObjectConsExpr)
	if !ok {
		r.F.Bad(expr.Range(), "Not an object", "Write %s = { ... }.", name)
		return nil
	}
	o := &Fields{F: r.F, At: r.Keys[name], What: name + " of " + r.What, Attrs: map[string]hclsyntax.Expression{}, Keys: map[string]hcl.Range{}}
	for _, item := range obj.Items {
		key := hcl.ExprAsKeyword(item.KeyExpr)
		if key == "" {
			if v, ok := r.F.Literal(item.KeyExpr); ok && v.Type() == cty.String {
				key = v.AsString()
			}
		}
		if key == "" {
			r.F.Bad(item.KeyExpr.Range(), "Not a name", "Keys are plain words.")
			continue
		}
		if _, twice := o.Attrs[key]; twice {
			r.F.Bad(item.KeyExpr.Range(), "Written twice", "%q stands twice in %s; HCL would silently take the last.", key, o.What)
			continue
		}
		o.Attrs[key], o.Keys[key] = item.ValueExpr, item.KeyExpr.Range()
	}
	return o
}

// Take returns an attribute as it stands, nil where it is absent.
func (r *Fields) Take(name string) hclsyntax.Expression {
	r.known = append(r.known, name)
	return r.Attrs[name]
}

// Has reports that the attribute is written.
func (r *Fields) Has(name string) bool { return r.Attrs[name] != nil }

// Where is the attribute's place, else the block's.
func (r *Fields) Where(name string) hcl.Range {
	if at, ok := r.Keys[name]; ok {
		return at
	}
	return r.At
}

// Done refuses what was not asked for.
func (r *Fields) Done() {
	for _, name := range SortedKeys(r.Attrs) {
		if !slices.Contains(r.known, name) {
			r.F.Bad(r.Keys[name], "Unknown attribute", "%s has no %q.%s", r.What, name, DidYouMean(name, r.known))
		}
	}
}

// Str reads a string; empty where it is absent. An empty string that is written is an error.
func (r *Fields) Str(name string) string {
	expr := r.Take(name)
	if expr == nil {
		return ""
	}
	s, ok := r.F.Text(expr)
	if ok && s == "" {
		r.F.Bad(expr.Range(), "Empty", "%s of %s is empty.", name, r.What)
	}
	return s
}

// Need is Str for an attribute that has to be there.
func (r *Fields) Need(name string) string {
	if !r.Has(name) {
		r.Take(name)
		r.F.Bad(r.At, "Missing", "%s needs %s.", r.What, name)
		return ""
	}
	return r.Str(name)
}

// Word reads one of some words; the first is the default.
func (r *Fields) Word(name string, words ...string) string {
	if !r.Has(name) {
		r.Take(name)
		return words[0]
	}
	s := r.Str(name)
	if s != "" && !slices.Contains(words, s) {
		r.F.Bad(r.Attrs[name].Range(), "Unknown word", "%s is one of %q.%s", name, words, DidYouMean(s, words))
	}
	return s
}

// List reads a list of strings. Where it is written it has at least one, none empty or twice.
func (r *Fields) List(name string) []string {
	expr := r.Take(name)
	if expr == nil {
		return nil
	}
	tuple, ok := expr.(*hclsyntax.TupleConsExpr)
	if !ok {
		r.F.Bad(expr.Range(), "Not a list", "Write %s = [\"...\"].", name)
		return nil
	}
	list := make([]string, 0, len(tuple.Exprs))
	for _, e := range tuple.Exprs {
		s, ok := r.F.Text(e)
		switch {
		case !ok:
		case s == "":
			r.F.Bad(e.Range(), "Empty", "%s of %s has an empty entry.", name, r.What)
		case slices.Contains(list, s):
			r.F.Bad(e.Range(), "Written twice", "%q stands twice in %s.", s, name)
		default:
			list = append(list, s)
		}
	}
	if len(tuple.Exprs) == 0 {
		r.F.Bad(expr.Range(), "Empty list", "An empty list matches nothing; leave %s out, or name something.", name)
	}
	return list
}

// Texts reads an object of strings, such as labels.
func (r *Fields) Texts(name string) map[string]string {
	o := r.Object(name)
	if o == nil {
		return nil
	}
	m := make(map[string]string, len(o.Attrs))
	for _, key := range SortedKeys(o.Attrs) {
		if s, ok := r.F.Text(o.Attrs[key]); ok {
			m[key] = s
		}
	}
	return m
}

// Span reads a length of time such as "1h30m", from least to most; absent is otherwise.
func (r *Fields) Span(name string, otherwise, least, most time.Duration) time.Duration {
	if !r.Has(name) {
		r.Take(name)
		return otherwise
	}
	return r.F.Duration(r.Attrs[name], name, r.Str(name), least, most)
}

// Duration reads text, the value of expr, as a length of time from least to most.
func (f *Findings) Duration(expr hclsyntax.Expression, name, text string, least, most time.Duration) time.Duration {
	if text == "" {
		return least
	}
	d, err := ParseSpan(text)
	switch {
	case err != nil:
		f.Bad(expr.Range(), "Not a length of time", "Write %s as \"30m\", \"8h\" or \"90d\".", name)
		return least
	case d < least || d > most:
		f.Bad(expr.Range(), "Out of range", "%s lies between %s and %s.", name, FormatSpan(least), FormatSpan(most))
		return least
	}
	return d
}

// Whole reads a whole number from least to most; absent is otherwise.
func (r *Fields) Whole(name string, otherwise, least, most int) int {
	expr := r.Take(name)
	if expr == nil {
		return otherwise
	}
	v, ok := r.F.Literal(expr)
	if !ok {
		return otherwise
	}
	if v.Type() == cty.Number {
		if n, accuracy := v.AsBigFloat().Int64(); accuracy == big.Exact && n >= int64(least) && n <= int64(most) {
			return int(n)
		}
	}
	r.F.Bad(expr.Range(), "Not such a number", "%s is a whole number from %d to %d.", name, least, most)
	return otherwise
}

// Flag reads true or false; absent is false.
func (r *Fields) Flag(name string) bool {
	expr := r.Take(name)
	if expr == nil {
		return false
	}
	v, ok := r.F.Literal(expr)
	if ok && v.Type() != cty.Bool {
		r.F.Bad(expr.Range(), "Not true or false", "%s is true or false, without quotes.", name)
	}
	return ok && v.Type() == cty.Bool && v.True()
}
