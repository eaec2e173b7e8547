package policy

import (
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// A findings collects what is wrong with a policy, all of it at once.
type findings struct{ diags hcl.Diagnostics }

func (f *findings) bad(at hcl.Range, summary, format string, args ...any) {
	f.diags = append(f.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &at})
}

func (f *findings) warn(at hcl.Range, summary, format string, args ...any) {
	f.diags = append(f.diags, &hcl.Diagnostic{Severity: hcl.DiagWarning, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &at})
}

// didYouMean returns " Did you mean X?" where one of the words is close, else "".
func didYouMean(word string, words []string) string {
	best, distance := "", 3
	for _, w := range words {
		if d := levenshtein.Distance(word, w, nil); d < distance || d == distance && w < best {
			best, distance = w, d
		}
	}
	if best == "" || best == word || distance >= len(word) {
		return ""
	}
	return fmt.Sprintf(" Did you mean %q?", best)
}

// A fields reads the attributes of a block or of an object value, which may only be
// plain values: no variables, no functions, no templates. Whatever is not asked for
// by the time of done is an error. It is not gohcl, because gohcl lets the last of
// two equal keys of an object win, turns null into a zero value, and converts numbers
// to strings.
type fields struct {
	f     *findings
	at    hcl.Range // of the block's header
	what  string    // "rule orders-read", for sentences
	attrs map[string]hclsyntax.Expression
	keys  map[string]hcl.Range
	known []string
}

func (f *findings) block(b *hclsyntax.Block, what string) *fields {
	r := &fields{f: f, at: b.DefRange(), what: what, attrs: map[string]hclsyntax.Expression{}, keys: map[string]hcl.Range{}}
	for name, a := range b.Body.Attributes {
		r.attrs[name], r.keys[name] = a.Expr, a.NameRange
	}
	return r
}

// object returns the fields of an attribute that is written { key = value }; nil
// where it is absent or something else.
func (r *fields) object(name string) *fields {
	expr := r.take(name)
	if expr == nil {
		return nil
	}
	obj, ok := expr.(*hclsyntax.ObjectConsExpr)
	if !ok {
		r.f.bad(expr.Range(), "Not an object", "Write %s = { ... }.", name)
		return nil
	}
	o := &fields{f: r.f, at: r.keys[name], what: name + " of " + r.what, attrs: map[string]hclsyntax.Expression{}, keys: map[string]hcl.Range{}}
	for _, item := range obj.Items {
		key := hcl.ExprAsKeyword(item.KeyExpr)
		if key == "" {
			if v, ok := r.f.literal(item.KeyExpr); ok && v.Type() == cty.String {
				key = v.AsString()
			}
		}
		if key == "" {
			r.f.bad(item.KeyExpr.Range(), "Not a name", "Keys are plain words.")
			continue
		}
		if _, twice := o.attrs[key]; twice {
			r.f.bad(item.KeyExpr.Range(), "Written twice", "%q stands twice in %s; HCL would silently take the last.", key, o.what)
			continue
		}
		o.attrs[key], o.keys[key] = item.ValueExpr, item.KeyExpr.Range()
	}
	return o
}

func (r *fields) take(name string) hclsyntax.Expression {
	r.known = append(r.known, name)
	return r.attrs[name]
}

func (r *fields) has(name string) bool { return r.attrs[name] != nil }

// where is the attribute's place, else the block's.
func (r *fields) where(name string) hcl.Range {
	if at, ok := r.keys[name]; ok {
		return at
	}
	return r.at
}

// done refuses what was not asked for.
func (r *fields) done() {
	for _, name := range sortedKeys(r.attrs) {
		if !slices.Contains(r.known, name) {
			r.f.bad(r.keys[name], "Unknown attribute", "%s has no %q.%s", r.what, name, didYouMean(name, r.known))
		}
	}
}

// blocks refuses nested blocks other than the named, and returns those.
func (f *findings) blocks(b *hclsyntax.Block, what string, allowed ...string) []*hclsyntax.Block {
	var kept []*hclsyntax.Block
	for _, inner := range b.Body.Blocks {
		if !slices.Contains(allowed, inner.Type) {
			f.bad(inner.DefRange(), "Unknown block", "%s has no block %q.%s", what, inner.Type, didYouMean(inner.Type, allowed))
			continue
		}
		kept = append(kept, inner)
	}
	return kept
}

// one returns the only block of a type, nil where there is none.
func (f *findings) one(blocks []*hclsyntax.Block, kind string) *hclsyntax.Block {
	var found *hclsyntax.Block
	for _, b := range blocks {
		if b.Type != kind {
			continue
		}
		if found != nil {
			f.bad(b.DefRange(), "Written twice", "There can be one block %q here.", kind)
			continue
		}
		found = b
	}
	if found != nil {
		f.labels(found, 0)
	}
	return found
}

// labels checks how many labels a block has, and returns the first.
func (f *findings) labels(b *hclsyntax.Block, n int) (string, bool) {
	if len(b.Labels) != n {
		if n == 0 {
			f.bad(b.DefRange(), "No name here", "Write %s { ... } without a name.", b.Type)
		} else {
			f.bad(b.DefRange(), "One name", "Write %s \"name\" { ... }.", b.Type)
		}
		return "", false
	}
	if n == 0 {
		return "", true
	}
	return b.Labels[0], true
}

// literal returns the value of an expression that is one: a string without a
// template, a number, a bool. Null is none.
func (f *findings) literal(expr hcl.Expression) (cty.Value, bool) {
	switch e := expr.(type) {
	case *hclsyntax.ObjectConsKeyExpr:
		return f.literal(e.Wrapped)
	case *hclsyntax.LiteralValueExpr:
		if e.Val.IsNull() {
			f.bad(e.Range(), "Null", "Leave the attribute out instead.")
			return cty.NilVal, false
		}
		return e.Val, true
	case *hclsyntax.TemplateExpr:
		if e.IsStringLiteral() {
			v, diags := e.Value(nil)
			return v, !diags.HasErrors()
		}
		if len(e.Parts) == 0 {
			return cty.StringVal(""), true
		}
	case *hclsyntax.UnaryOpExpr:
		if e.Op == hclsyntax.OpNegate {
			v, diags := e.Value(nil)
			return v, !diags.HasErrors()
		}
	}
	f.bad(expr.Range(), "Not a plain value", "Variables, functions and templates are only understood in conditions (when).")
	return cty.NilVal, false
}

func (f *findings) text(expr hclsyntax.Expression) (string, bool) {
	v, ok := f.literal(expr)
	if !ok {
		return "", false
	}
	if v.Type() != cty.String {
		f.bad(expr.Range(), "Not a text", "Write it in quotes.")
		return "", false
	}
	return v.AsString(), true
}

// str reads a string; empty where it is absent. An empty string that is written is an error.
func (r *fields) str(name string) string {
	expr := r.take(name)
	if expr == nil {
		return ""
	}
	s, ok := r.f.text(expr)
	if ok && s == "" {
		r.f.bad(expr.Range(), "Empty", "%s of %s is empty.", name, r.what)
	}
	return s
}

// need is str for an attribute that has to be there.
func (r *fields) need(name string) string {
	if !r.has(name) {
		r.take(name)
		r.f.bad(r.at, "Missing", "%s needs %s.", r.what, name)
		return ""
	}
	return r.str(name)
}

// word reads one of some words; the first is the default.
func (r *fields) word(name string, words ...string) string {
	if !r.has(name) {
		r.take(name)
		return words[0]
	}
	s := r.str(name)
	if s != "" && !slices.Contains(words, s) {
		r.f.bad(r.attrs[name].Range(), "Unknown word", "%s is one of %q.%s", name, words, didYouMean(s, words))
	}
	return s
}

// list reads a list of strings. Where it is written it has at least one, none empty or twice.
func (r *fields) list(name string) []string {
	expr := r.take(name)
	if expr == nil {
		return nil
	}
	tuple, ok := expr.(*hclsyntax.TupleConsExpr)
	if !ok {
		r.f.bad(expr.Range(), "Not a list", "Write %s = [\"...\"].", name)
		return nil
	}
	list := make([]string, 0, len(tuple.Exprs))
	for _, e := range tuple.Exprs {
		s, ok := r.f.text(e)
		switch {
		case !ok:
		case s == "":
			r.f.bad(e.Range(), "Empty", "%s of %s has an empty entry.", name, r.what)
		case slices.Contains(list, s):
			r.f.bad(e.Range(), "Written twice", "%q stands twice in %s.", s, name)
		default:
			list = append(list, s)
		}
	}
	if len(tuple.Exprs) == 0 {
		r.f.bad(expr.Range(), "Empty list", "An empty list matches nothing; leave %s out, or name something.", name)
	}
	return list
}

// texts reads an object of strings, such as labels.
func (r *fields) texts(name string) map[string]string {
	o := r.object(name)
	if o == nil {
		return nil
	}
	m := make(map[string]string, len(o.attrs))
	for _, key := range sortedKeys(o.attrs) {
		if s, ok := r.f.text(o.attrs[key]); ok {
			m[key] = s
		}
	}
	return m
}

// span reads a length of time such as "1h30m", from min to max; absent is otherwise.
func (r *fields) span(name string, otherwise, least, most time.Duration) time.Duration {
	if !r.has(name) {
		r.take(name)
		return otherwise
	}
	return r.f.duration(r.attrs[name], name, r.str(name), least, most)
}

func (f *findings) duration(expr hclsyntax.Expression, name, text string, least, most time.Duration) time.Duration {
	if text == "" {
		return least
	}
	d, err := ParseSpan(text)
	switch {
	case err != nil:
		f.bad(expr.Range(), "Not a length of time", "Write %s as \"30m\", \"8h\" or \"90d\".", name)
		return least
	case d < least || d > most:
		f.bad(expr.Range(), "Out of range", "%s lies between %s and %s.", name, FormatSpan(least), FormatSpan(most))
		return least
	}
	return d
}

// whole reads a whole number from least to most; absent is otherwise.
func (r *fields) whole(name string, otherwise, least, most int) int {
	expr := r.take(name)
	if expr == nil {
		return otherwise
	}
	v, ok := r.f.literal(expr)
	if !ok {
		return otherwise
	}
	if v.Type() == cty.Number {
		if n, accuracy := v.AsBigFloat().Int64(); accuracy == big.Exact && n >= int64(least) && n <= int64(most) {
			return int(n)
		}
	}
	r.f.bad(expr.Range(), "Not such a number", "%s is a whole number from %d to %d.", name, least, most)
	return otherwise
}

func (r *fields) flag(name string) bool {
	expr := r.take(name)
	if expr == nil {
		return false
	}
	v, ok := r.f.literal(expr)
	if ok && v.Type() != cty.Bool {
		r.f.bad(expr.Range(), "Not true or false", "%s is true or false, without quotes.", name)
	}
	return ok && v.Type() == cty.Bool && v.True()
}
