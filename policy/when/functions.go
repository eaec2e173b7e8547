package when

import (
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/policy/strict"
)

// functions are those that a condition can call, with the kinds of their arguments.
// None of them reads a clock: request.time is an input.
func functions() map[string][]kind {
	return map[string][]kind{
		"has":         {isList, isString},             // has(user.groups, "oncall")
		"between":     {isString, isString, isString}, // between(request.time, "22:00", "06:00"): the end is not in it
		"in_network":  {isString, isString},           // in_network(request.client, "10.0.0.0/8")
		"starts_with": {isString, isString},           // starts_with(user.claims.ref, "refs/heads/release/")
	}
}

func (c *compiler[F]) call(e *hclsyntax.FunctionCallExpr) (Operand[F], bool) {
	known := functions()
	kinds, ok := known[e.Name]
	if !ok {
		return c.bad(e.NameRange, "There is no function %s.%s", e.Name, strict.DidYouMean(e.Name, strict.SortedKeys(known)))
	}
	if e.ExpandFinal || len(e.Args) != len(kinds) {
		return c.bad(e.Range(), "%s takes %d arguments.", e.Name, len(kinds))
	}
	args := make([]Operand[F], len(kinds))
	fixed := true
	for i, arg := range e.Args {
		if args[i], ok = c.compile(arg); !ok {
			return Operand[F]{}, false
		}
		if args[i].kind != kinds[i] {
			return c.bad(arg.Range(), "%s takes a %s here; this is a %s.", e.Name, kinds[i], args[i].kind)
		}
		fixed = fixed && args[i].fixed
	}
	if fixed {
		return c.bad(e.Range(), "This is always the same; take it away.")
	}
	switch e.Name {
	case "has":
		return c.has(args, e)
	case "between":
		return c.between(args, e)
	case "in_network":
		return c.inNetwork(args, e)
	default:
		return Operand[F]{kind: isBool, flag: compare(args[0].str, args[1].str, strings.HasPrefix)}, true
	}
}

func (c *compiler[F]) has(args []Operand[F], e *hclsyntax.FunctionCallExpr) (Operand[F], bool) {
	if literal, ok := e.Args[0].(*hclsyntax.TupleConsExpr); ok {
		words, _ := args[0].list(*new(F)) //nolint:errcheck // a literal has no error
		for i, w := range words {
			if no := args[1].never(w); no != "" {
				return c.bad(literal.Exprs[i].Range(), "%s", no)
			}
		}
	}
	return Operand[F]{kind: isBool, flag: func(f F) (bool, error) {
		l, errL := args[0].list(f)
		s, errS := args[1].str(f)
		return slices.Contains(l, s), errors.Join(errL, errS)
	}}, true
}

var clockForm = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)

// between holds from the first time to the second, which is not in it, over midnight
// where the second is earlier.
func (c *compiler[F]) between(args []Operand[F], e *hclsyntax.FunctionCallExpr) (Operand[F], bool) {
	for i := range 2 {
		if !args[i+1].fixed || !clockForm.MatchString(args[i+1].domain[0]) {
			return c.bad(e.Args[i+1].Range(), "Write a time of day such as \"22:00\".")
		}
	}
	from, until := args[1].domain[0], args[2].domain[0]
	if from == until {
		return c.bad(e.Range(), "From %s until %s is never, or always: say which.", from, until)
	}
	if word, ok := e.Args[0].(*hclsyntax.ScopeTraversalExpr); !ok || dotted(word) != "request.time" {
		return c.bad(e.Args[0].Range(), "between is about request.time.")
	}
	return Operand[F]{kind: isBool, flag: func(f F) (bool, error) {
		now, err := args[0].str(f)
		if from < until {
			return from <= now && now < until, err
		}
		return from <= now || now < until, err
	}}, true
}

func (c *compiler[F]) inNetwork(args []Operand[F], e *hclsyntax.FunctionCallExpr) (Operand[F], bool) {
	if !args[1].fixed {
		return c.bad(e.Args[1].Range(), "Write a network such as \"10.0.0.0/8\".")
	}
	network, err := netip.ParsePrefix(args[1].domain[0])
	if err != nil || network.Masked() != network {
		return c.bad(e.Args[1].Range(), "Write a network such as \"10.0.0.0/8\", without bits of a host.")
	}
	return Operand[F]{kind: isBool, flag: func(f F) (bool, error) {
		s, err := args[0].str(f)
		if err != nil {
			return false, err
		}
		addr, err := netip.ParseAddr(s)
		return err == nil && network.Contains(addr.WithZone("")), nil
	}}, true
}
