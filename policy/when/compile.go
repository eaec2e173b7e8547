package when

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/sallyport/sallyport/policy/strict"
)

// A Condition is a compiled `when` expression about facts of type F.
type Condition[F any] struct {
	// Holds evaluates all operands, so whether it errs never depends on their order.
	Holds func(F) (bool, error)
	Reads map[string]hcl.Range // the names that it reads, each with one of its places
	At    hcl.Range
}

// Words are the names that a condition can read.
type Words[F any] struct {
	Plain map[string]Operand[F]
	// Open are families such as "target.labels": each makes the Operand[F] for the last
	// part of a name, or says in a sentence why there is none.
	Open map[string]func(name string) (o Operand[F], no string)
}

type kind string

const (
	isString kind = "text"
	isNumber kind = "number"
	isBool   kind = "true or false"
	isList   kind = "list of texts"
)

// An Operand is a typed part of a condition: Text, Whole, List or Flag makes one.
type Operand[F any] struct {
	kind   kind
	str    func(F) (string, error)
	num    func(F) (int64, error)
	flag   func(F) (bool, error)
	list   func(F) ([]string, error)
	fixed  bool     // a literal
	domain []string // the only texts that it can be
	least  int64    // a number lies between these
	most   int64
	lower  bool // it is always in lower case
}

// Text is a text; domain, where it is given, lists all that it can be.
func Text[F any](get func(F) (string, error), domain ...string) Operand[F] {
	return Operand[F]{kind: isString, domain: domain, str: get}
}

// Lower is a text that is always in lower case, so that comparing it with another
// spelling is refused and not silently false.
func Lower[F any](get func(F) (string, error)) Operand[F] {
	return Operand[F]{kind: isString, str: get, lower: true}
}

// never says why a literal can never equal o; empty where it can.
func (o Operand[F]) never(literal string) string {
	switch {
	case o.lower && literal != strings.ToLower(literal):
		return "Write it in lower case, as it is compared."
	case !o.fixed && len(o.domain) > 0 && !slices.Contains(o.domain, literal):
		return fmt.Sprintf("%q is never equal: it is one of %s.%s", literal, strings.Join(o.domain, ", "), strict.DidYouMean(literal, o.domain))
	default:
		return ""
	}
}

// Whole is a whole number from least to most, so that comparing it with another is
// refused and not silently always the same.
func Whole[F any](get func(F) int, least, most int) Operand[F] {
	return Operand[F]{kind: isNumber, least: int64(least), most: int64(most), num: func(f F) (int64, error) { return int64(get(f)), nil }}
}

// List is a list of texts.
func List[F any](get func(F) []string) Operand[F] {
	return Operand[F]{kind: isList, list: func(f F) ([]string, error) { return get(f), nil }}
}

// Flag is true or false.
func Flag[F any](get func(F) bool) Operand[F] {
	return Operand[F]{kind: isBool, flag: func(f F) (bool, error) { return get(f), nil }}
}

type compiler[F any] struct {
	f     *strict.Findings
	words Words[F]
	reads map[string]hcl.Range
}

// Compile types and compiles expr; nil where it is wrong, with findings that say why.
// Every name is resolved, whether or not it would ever be evaluated.
func Compile[F any](f *strict.Findings, expr hclsyntax.Expression, words Words[F]) *Condition[F] {
	c := &compiler[F]{f: f, words: words, reads: map[string]hcl.Range{}}
	o, ok := c.compile(expr)
	switch {
	case !ok:
		return nil
	case o.kind != isBool:
		f.Bad(expr.Range(), "Not a condition", "when is true or false; this is a %s.", o.kind)
		return nil
	case o.fixed:
		f.Bad(expr.Range(), "Not a condition", "This is always the same; leave when out, or take the rule away.")
		return nil
	}
	return &Condition[F]{Holds: o.flag, Reads: c.reads, At: expr.Range()}
}

func (c *compiler[F]) bad(at hcl.Range, format string, args ...any) (Operand[F], bool) {
	c.f.Bad(at, "Condition", format, args...)
	return Operand[F]{}, false
}

func (c *compiler[F]) compile(expr hclsyntax.Expression) (Operand[F], bool) {
	switch e := expr.(type) {
	case *hclsyntax.ParenthesesExpr:
		return c.compile(e.Expression)
	case *hclsyntax.LiteralValueExpr, *hclsyntax.TemplateExpr:
		return c.literal(expr)
	case *hclsyntax.ScopeTraversalExpr:
		return c.name(e)
	case *hclsyntax.TupleConsExpr:
		return c.texts(e)
	case *hclsyntax.UnaryOpExpr:
		return c.unary(e)
	case *hclsyntax.BinaryOpExpr:
		return c.binary(e)
	case *hclsyntax.FunctionCallExpr:
		return c.call(e)
	case *hclsyntax.ForExpr:
		return c.bad(e.Range(), "for is not supported: write has(list, \"x\"), or one rule for each case.")
	case *hclsyntax.SplatExpr:
		return c.bad(e.Range(), "[*] is not supported: write has(list, \"x\").")
	case *hclsyntax.TemplateWrapExpr:
		return c.bad(e.Range(), "Templates are not supported: write the name without ${ }.")
	case *hclsyntax.ConditionalExpr:
		return c.bad(e.Range(), "? : is not supported: write it with && and ||.")
	case *hclsyntax.IndexExpr, *hclsyntax.RelativeTraversalExpr:
		return c.bad(expr.Range(), "[ ] is not supported: write has(list, \"x\"), or target.labels.env.")
	default:
		return c.bad(expr.Range(), "This is not supported in a condition.")
	}
}

func (c *compiler[F]) literal(expr hclsyntax.Expression) (Operand[F], bool) {
	if t, ok := expr.(*hclsyntax.TemplateExpr); ok && !t.IsStringLiteral() && len(t.Parts) > 0 {
		return c.bad(expr.Range(), "Templates are not supported: compare the parts one by one.")
	}
	v, ok := c.f.Literal(expr)
	if !ok {
		return Operand[F]{}, false
	}
	var o Operand[F]
	switch v.Type() {
	case cty.String:
		s := v.AsString()
		o = Text(func(F) (string, error) { return s, nil }, s)
	case cty.Bool:
		b := v.True()
		o = Flag(func(F) bool { return b })
	case cty.Number:
		n, accuracy := v.AsBigFloat().Int64()
		if accuracy != big.Exact {
			return c.bad(expr.Range(), "Numbers are whole.")
		}
		o = Operand[F]{kind: isNumber, least: n, most: n, num: func(F) (int64, error) { return n, nil }}
	}
	o.fixed = true
	return o, true
}

func (c *compiler[F]) name(e *hclsyntax.ScopeTraversalExpr) (Operand[F], bool) {
	word := dotted(e)
	if word == "" {
		return c.bad(e.Range(), "[ ] is not supported: write has(list, \"x\"), or target.labels.env.")
	}
	c.reads[word] = e.Range()
	if o, ok := c.words.Plain[word]; ok {
		return o, true
	}
	if cut := strings.LastIndexByte(word, '.'); cut > 0 {
		if family, ok := c.words.Open[word[:cut]]; ok {
			o, no := family(word[cut+1:])
			if no != "" {
				return c.bad(e.Range(), "%s", no)
			}
			return o, true
		}
	}
	return c.bad(e.Range(), "There is no %s.%s", word, strict.DidYouMean(word, strict.SortedKeys(c.words.Plain)))
}

// dotted writes a name as it stands in the source; empty where it has an index.
func dotted(e *hclsyntax.ScopeTraversalExpr) string {
	var parts []string
	for _, step := range e.Traversal {
		switch s := step.(type) {
		case hcl.TraverseRoot:
			parts = append(parts, s.Name)
		case hcl.TraverseAttr:
			parts = append(parts, s.Name)
		default:
			return ""
		}
	}
	return strings.Join(parts, ".")
}

func (c *compiler[F]) texts(e *hclsyntax.TupleConsExpr) (Operand[F], bool) {
	var words []string
	for _, item := range e.Exprs {
		s, ok := c.f.Text(item)
		if !ok {
			return Operand[F]{}, false
		}
		words = append(words, s)
	}
	o := List(func(F) []string { return words })
	o.fixed = true
	return o, true
}
