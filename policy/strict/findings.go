package strict

import (
	"fmt"
	"slices"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Findings collects what is wrong with some files, all of it at once.
type Findings struct{ Diags hcl.Diagnostics }

// Bad adds an error: the detail is one or more whole sentences.
func (f *Findings) Bad(at hcl.Range, summary, format string, args ...any) {
	f.Diags = append(f.Diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &at})
}

// Warn adds something that is allowed, and probably a mistake.
func (f *Findings) Warn(at hcl.Range, summary, format string, args ...any) {
	f.Diags = append(f.Diags, &hcl.Diagnostic{Severity: hcl.DiagWarning, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &at})
}

// DidYouMean returns " Did you mean X?" where one of the words is close, else "".
func DidYouMean(word string, words []string) string {
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

// Blocks refuses nested blocks other than the named, and returns those.
func (f *Findings) Blocks(b *hclsyntax.Block, what string, allowed ...string) []*hclsyntax.Block {
	var kept []*hclsyntax.Block
	for _, inner := range b.Body.Blocks {
		if !slices.Contains(allowed, inner.Type) {
			f.Bad(inner.DefRange(), "Unknown block", "%s has no block %q.%s", what, inner.Type, DidYouMean(inner.Type, allowed))
			continue
		}
		kept = append(kept, inner)
	}
	return kept
}

// One returns the only block of a type, nil where there is none.
func (f *Findings) One(blocks []*hclsyntax.Block, kind string) *hclsyntax.Block {
	var found *hclsyntax.Block
	for _, b := range blocks {
		if b.Type != kind {
			continue
		}
		if found != nil {
			f.Bad(b.DefRange(), "Written twice", "There can be one block %q here.", kind)
			continue
		}
		found = b
	}
	if found != nil {
		f.Label(found, 0)
	}
	return found
}

// Label checks that a block has n labels, 0 or 1, and returns it.
func (f *Findings) Label(b *hclsyntax.Block, n int) (string, bool) {
	if len(b.Labels) != n {
		if n == 0 {
			f.Bad(b.DefRange(), "No name here", "Write %s { ... } without a name.", b.Type)
		} else {
			f.Bad(b.DefRange(), "One name", "Write %s \"name\" { ... }.", b.Type)
		}
		return "", false
	}
	if n == 0 {
		return "", true
	}
	return b.Labels[0], true
}

// Literal returns the value of an expression that is one: a string without a
// template, a number, a bool. Null is none.
func (f *Findings) Literal(expr hcl.Expression) (cty.Value, bool) {
	switch e := expr.(type) {
	case *hclsyntax.ObjectConsKeyExpr:
		return f.Literal(e.Wrapped)
	case *hclsyntax.LiteralValueExpr:
		if e.Val.IsNull() {
			f.Bad(e.Range(), "Null", "Leave the attribute out instead.")
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
	f.Bad(expr.Range(), "Not a plain value", "Variables, functions and templates are only understood in conditions (when).")
	return cty.NilVal, false
}

// Text returns the value of an expression that is a plain string.
func (f *Findings) Text(expr hclsyntax.Expression) (string, bool) {
	v, ok := f.Literal(expr)
	if !ok {
		return "", false
	}
	if v.Type() != cty.String {
		f.Bad(expr.Range(), "Not a text", "Write it in quotes.")
		return "", false
	}
	return v.AsString(), true
}
