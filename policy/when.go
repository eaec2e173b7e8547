package policy

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a decision must not depend on the zones that a machine happens to have

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// A condition is a `when` expression. HCL is only its grammar: the expression is
// typed and compiled here, because HCL's own evaluation converts 22 to "22", skips
// errors behind a short-circuit and lets null through. Every operand is evaluated,
// so an error never depends on what stands before it.
type condition struct {
	holds  func(*facts) (bool, error)
	at     hcl.Range
	labels map[string]hcl.Range // labels that it reads, which every covered target has to have
	reads  []string             // every name that it reads, sorted
}

// facts are what a condition is about.
type facts struct {
	in     *Input
	target *Target
	claims map[string]bool // that the issuers map
	local  time.Time       // in.Time in the policy's zone
}

// A kind is the type of a part of a condition.
type kind string

const (
	isString kind = "text"
	isNumber kind = "number"
	isBool   kind = "true or false"
	isList   kind = "list of texts"
)

// An operand is a compiled part of a condition; the func of its kind is set.
type operand struct {
	kind   kind
	str    func(*facts) (string, error)
	num    func(*facts) (int64, error)
	flag   func(*facts) (bool, error)
	list   func(*facts) ([]string, error)
	fixed  bool     // a literal
	domain []string // the only texts that it can be
}

func text(get func(*facts) string, domain ...string) operand {
	return operand{kind: isString, domain: domain, str: func(f *facts) (string, error) { return get(f), nil }}
}

func whole(get func(*facts) int) operand {
	return operand{kind: isNumber, num: func(f *facts) (int64, error) { return int64(get(f)), nil }}
}

func list(get func(*facts) []string) operand {
	return operand{kind: isList, list: func(f *facts) ([]string, error) { return get(f), nil }}
}

func flag(get func(*facts) bool) operand {
	return operand{kind: isBool, flag: func(f *facts) (bool, error) { return get(f), nil }}
}

var weekdays = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

// vocabulary is every name that a condition can read, beside target.labels.* and user.claims.*.
func vocabulary() map[string]operand {
	return map[string]operand{
		"request.time":     text(func(f *facts) string { return f.local.Format("15:04") }),
		"request.date":     text(func(f *facts) string { return f.local.Format("2006-01-02") }),
		"request.hour":     whole(func(f *facts) int { return f.local.Hour() }),
		"request.minute":   whole(func(f *facts) int { return f.local.Minute() }),
		"request.weekday":  text(func(f *facts) string { return strings.ToLower(f.local.Weekday().String()) }, weekdays...),
		"request.minutes":  whole(func(f *facts) int { return int(f.in.Duration / time.Minute) }),
		"request.reason":   text(func(f *facts) string { return f.in.Reason }),
		"request.ticket":   text(func(f *facts) string { return f.in.Ticket }),
		"request.object":   text(func(f *facts) string { return f.in.Object }),
		"request.role":     text(func(f *facts) string { return f.in.Role }),
		"request.proof":    text(func(f *facts) string { return string(f.in.Proof) }, proofWords...),
		"request.client":   text(func(f *facts) string { return f.in.Client.Unmap().String() }),
		"user.email":       text(func(f *facts) string { return lowerASCII(f.in.User.Email) }),
		"user.name":        text(func(f *facts) string { return f.in.User.Name }),
		"user.subject":     text(func(f *facts) string { return f.in.User.Subject }),
		"user.issuer":      text(func(f *facts) string { return f.in.User.Issuer }),
		"user.kind":        text(func(f *facts) string { return string(f.in.User.Kind) }, "person", "workload"),
		"user.groups":      list(func(f *facts) []string { return f.in.User.Groups }),
		"target.name":      text(func(f *facts) string { return f.target.Name }),
		"target.protocol":  text(func(f *facts) string { return f.target.Protocol }, protocolWords...),
		"request.one_host": flag(func(f *facts) bool { return f.in.SameAddress() }),
	}
}

// errNoLabel is a target without the label that a condition reads: the rule does not
// apply, and a forbid does.
var errNoLabel = errors.New("no such label")

// A compiler turns one expression into a condition.
type compiler struct {
	f     *findings
	words map[string]operand
	c     *condition
	known []string // claims
}

// condition compiles expr; nil where it is wrong, with findings.
func (f *findings) condition(expr hclsyntax.Expression, claims []string) *condition {
	c := &compiler{f: f, words: vocabulary(), known: claims, c: &condition{at: expr.Range(), labels: map[string]hcl.Range{}}}
	o, ok := c.compile(expr)
	if !ok {
		return nil
	}
	if o.kind != isBool {
		f.bad(expr.Range(), "Not a condition", "when is true or false; this is a %s.", o.kind)
		return nil
	}
	if o.fixed {
		f.bad(expr.Range(), "Not a condition", "This is always the same; leave when out, or take the rule away.")
		return nil
	}
	c.c.holds = o.flag
	slices.Sort(c.c.reads)
	c.c.reads = slices.Compact(c.c.reads)
	return c.c
}

func (c *compiler) bad(at hcl.Range, format string, args ...any) (operand, bool) {
	c.f.bad(at, "Condition", format, args...)
	return operand{}, false
}

func (c *compiler) compile(expr hclsyntax.Expression) (operand, bool) {
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

func (c *compiler) literal(expr hclsyntax.Expression) (operand, bool) {
	if t, ok := expr.(*hclsyntax.TemplateExpr); ok && !t.IsStringLiteral() && len(t.Parts) > 0 {
		return c.bad(expr.Range(), "Templates are not supported: compare the parts one by one.")
	}
	v, ok := c.f.literal(expr)
	if !ok {
		return operand{}, false
	}
	var o operand
	switch v.Type() {
	case cty.String:
		s := v.AsString()
		o = text(func(*facts) string { return s }, s)
	case cty.Bool:
		b := v.True()
		o = flag(func(*facts) bool { return b })
	case cty.Number:
		n, accuracy := v.AsBigFloat().Int64()
		if accuracy != big.Exact {
			return c.bad(expr.Range(), "Numbers are whole.")
		}
		o = operand{kind: isNumber, num: func(*facts) (int64, error) { return n, nil }}
	}
	o.fixed = true
	return o, true
}

// name resolves a traversal against the vocabulary, whether or not it would ever be evaluated.
func (c *compiler) name(e *hclsyntax.ScopeTraversalExpr) (operand, bool) {
	word := dotted(e)
	if word == "" {
		return c.bad(e.Range(), "[ ] is not supported: write has(list, \"x\"), or target.labels.env.")
	}
	parts := strings.Split(word, ".")
	if len(parts) == 3 && parts[0] == "target" && parts[1] == "labels" {
		return c.label(parts[2], e.Range()), true
	}
	if len(parts) == 3 && parts[0] == "user" && parts[1] == "claims" {
		claim := parts[2]
		if !slices.Contains(c.known, claim) {
			return c.bad(e.Range(), "No issuer maps a claim %q.%s", claim, didYouMean(claim, c.known))
		}
		c.c.reads = append(c.c.reads, word)
		return text(func(f *facts) string { return f.in.User.Claims[claim] }), true
	}
	o, ok := c.words[word]
	if !ok {
		return c.bad(e.Range(), "There is no %s.%s", word, didYouMean(word, sortedKeys(c.words)))
	}
	c.c.reads = append(c.c.reads, word)
	return o, true
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

func (c *compiler) label(name string, at hcl.Range) operand {
	c.c.labels[name] = at
	c.c.reads = append(c.c.reads, "target.labels."+name)
	return operand{kind: isString, str: func(f *facts) (string, error) {
		v, ok := f.target.Labels[name]
		if !ok {
			return "", fmt.Errorf("target %s has no label %s: %w", f.target.Name, name, errNoLabel)
		}
		return v, nil
	}}
}

func (c *compiler) texts(e *hclsyntax.TupleConsExpr) (operand, bool) {
	var words []string
	for _, item := range e.Exprs {
		s, ok := c.f.text(item)
		if !ok {
			return operand{}, false
		}
		words = append(words, s)
	}
	o := list(func(*facts) []string { return words })
	o.fixed = true
	return o, true
}

func (c *compiler) unary(e *hclsyntax.UnaryOpExpr) (operand, bool) {
	if e.Op == hclsyntax.OpNegate {
		return c.bad(e.Range(), "Arithmetic is not supported.")
	}
	o, ok := c.compile(e.Val)
	if !ok {
		return operand{}, false
	}
	if o.kind != isBool {
		return c.bad(e.Val.Range(), "! negates true or false; this is a %s.", o.kind)
	}
	return operand{kind: isBool, fixed: o.fixed, flag: func(f *facts) (bool, error) {
		b, err := o.flag(f)
		return !b, err
	}}, true
}

func (c *compiler) binary(e *hclsyntax.BinaryOpExpr) (operand, bool) {
	l, okL := c.compile(e.LHS)
	r, okR := c.compile(e.RHS)
	if !okL || !okR {
		return operand{}, false
	}
	switch e.Op {
	case hclsyntax.OpLogicalAnd, hclsyntax.OpLogicalOr:
		return c.logical(e, l, r)
	case hclsyntax.OpEqual, hclsyntax.OpNotEqual:
		return c.equal(e, l, r)
	case hclsyntax.OpLessThan, hclsyntax.OpLessThanOrEqual, hclsyntax.OpGreaterThan, hclsyntax.OpGreaterThanOrEqual:
		return c.order(e, l, r)
	default:
		return c.bad(e.Range(), "Arithmetic is not supported.")
	}
}

func (c *compiler) logical(e *hclsyntax.BinaryOpExpr, l, r operand) (operand, bool) {
	if l.kind != isBool {
		return c.bad(e.LHS.Range(), "&& and || join conditions; this is a %s.", l.kind)
	}
	if r.kind != isBool {
		return c.bad(e.RHS.Range(), "&& and || join conditions; this is a %s.", r.kind)
	}
	if l.fixed || r.fixed {
		return c.bad(e.Range(), "One side is always the same; take it away.")
	}
	and := e.Op == hclsyntax.OpLogicalAnd
	return operand{kind: isBool, flag: func(f *facts) (bool, error) {
		a, errA := l.flag(f)
		b, errB := r.flag(f)
		if and {
			return a && b, errors.Join(errA, errB)
		}
		return a || b, errors.Join(errA, errB)
	}}, true
}

func (c *compiler) equal(e *hclsyntax.BinaryOpExpr, l, r operand) (operand, bool) {
	if l.kind != r.kind {
		return c.bad(e.Range(), "A %s never equals a %s.", l.kind, r.kind)
	}
	if l.fixed && r.fixed {
		return c.bad(e.Range(), "This is always the same; take it away.")
	}
	for _, side := range [][2]operand{{l, r}, {r, l}} {
		if a, b := side[0], side[1]; a.fixed && a.kind == isString && len(b.domain) > 0 && !slices.Contains(b.domain, a.domain[0]) {
			return c.bad(e.Range(), "%q is never equal: it is one of %s.%s", a.domain[0], strings.Join(b.domain, ", "), didYouMean(a.domain[0], b.domain))
		}
	}
	want := e.Op == hclsyntax.OpEqual
	out := operand{kind: isBool}
	switch l.kind {
	case isString:
		out.flag = compare(l.str, r.str, func(a, b string) bool { return (a == b) == want })
	case isNumber:
		out.flag = compare(l.num, r.num, func(a, b int64) bool { return (a == b) == want })
	case isBool:
		out.flag = compare(l.flag, r.flag, func(a, b bool) bool { return (a == b) == want })
	default:
		return c.bad(e.Range(), "Lists are not compared: write has(list, \"x\").")
	}
	return out, true
}

func (c *compiler) order(e *hclsyntax.BinaryOpExpr, l, r operand) (operand, bool) {
	if l.kind != isNumber || r.kind != isNumber {
		return c.bad(e.Range(), "< and > compare numbers; for times write between(request.time, \"22:00\", \"06:00\").")
	}
	if l.fixed && r.fixed {
		return c.bad(e.Range(), "This is always the same; take it away.")
	}
	var holds func(a, b int64) bool
	switch e.Op {
	case hclsyntax.OpLessThan:
		holds = func(a, b int64) bool { return a < b }
	case hclsyntax.OpLessThanOrEqual:
		holds = func(a, b int64) bool { return a <= b }
	case hclsyntax.OpGreaterThan:
		holds = func(a, b int64) bool { return a > b }
	default:
		holds = func(a, b int64) bool { return a >= b }
	}
	return operand{kind: isBool, flag: compare(l.num, r.num, holds)}, true
}

func compare[T any](l, r func(*facts) (T, error), holds func(a, b T) bool) func(*facts) (bool, error) {
	return func(f *facts) (bool, error) {
		a, errA := l(f)
		b, errB := r(f)
		if err := errors.Join(errA, errB); err != nil {
			return false, err
		}
		return holds(a, b), nil
	}
}
