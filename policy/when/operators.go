package when

import (
	"errors"
	"fmt"
	"math"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

func (c *compiler[F]) unary(e *hclsyntax.UnaryOpExpr) (Operand[F], bool) {
	if e.Op == hclsyntax.OpNegate {
		return c.bad(e.Range(), "Arithmetic is not supported.")
	}
	o, ok := c.compile(e.Val)
	if !ok {
		return Operand[F]{}, false
	}
	if o.kind != isBool {
		return c.bad(e.Val.Range(), "! negates true or false; this is a %s.", o.kind)
	}
	return Operand[F]{kind: isBool, fixed: o.fixed, flag: func(f F) (bool, error) {
		b, err := o.flag(f)
		return !b, err
	}}, true
}

func (c *compiler[F]) binary(e *hclsyntax.BinaryOpExpr) (Operand[F], bool) {
	l, okL := c.compile(e.LHS)
	r, okR := c.compile(e.RHS)
	if !okL || !okR {
		return Operand[F]{}, false
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

func (c *compiler[F]) logical(e *hclsyntax.BinaryOpExpr, l, r Operand[F]) (Operand[F], bool) {
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
	return Operand[F]{kind: isBool, flag: func(f F) (bool, error) {
		a, errA := l.flag(f)
		b, errB := r.flag(f)
		if and {
			return a && b, errors.Join(errA, errB)
		}
		return a || b, errors.Join(errA, errB)
	}}, true
}

func (c *compiler[F]) equal(e *hclsyntax.BinaryOpExpr, l, r Operand[F]) (Operand[F], bool) {
	if l.kind != r.kind {
		return c.bad(e.Range(), "A %s never equals a %s.", l.kind, r.kind)
	}
	if l.fixed && r.fixed {
		return c.bad(e.Range(), "This is always the same; take it away.")
	}
	for _, side := range [][2]Operand[F]{{l, r}, {r, l}} {
		if literal, other := side[0], side[1]; literal.fixed && literal.kind == isString {
			if no := other.never(literal.domain[0]); no != "" {
				return c.bad(e.Range(), "%s", no)
			}
		}
	}
	if l.kind == isNumber && (l.most < r.least || r.most < l.least) {
		return c.bad(e.Range(), "These are never equal: %s.", bounds(l, r))
	}
	want := e.Op == hclsyntax.OpEqual
	out := Operand[F]{kind: isBool}
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

func (c *compiler[F]) order(e *hclsyntax.BinaryOpExpr, l, r Operand[F]) (Operand[F], bool) {
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
	// It grows with one side and falls with the other, so its ends say all.
	if holds(l.least, r.most) == holds(l.most, r.least) {
		return c.bad(e.Range(), "This is always the same: %s.", bounds(l, r))
	}
	return Operand[F]{kind: isBool, flag: compare(l.num, r.num, holds)}, true
}

// bounds says between what the side that is no literal lies.
func bounds[F any](l, r Operand[F]) string {
	if l.fixed {
		l = r
	}
	if l.most == math.MaxInt {
		return fmt.Sprintf("it is at least %d", l.least)
	}
	return fmt.Sprintf("it lies between %d and %d", l.least, l.most)
}

func compare[F, T any](l, r func(F) (T, error), holds func(a, b T) bool) func(F) (bool, error) {
	return func(f F) (bool, error) {
		a, errA := l(f)
		b, errB := r(f)
		if err := errors.Join(errA, errB); err != nil {
			return false, err
		}
		return holds(a, b), nil
	}
}
