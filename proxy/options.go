package proxy

import (
	"slices"

	"github.com/sallyport/sallyport/policy"
)

// CheckOptions decodes the options of targets into a T each, and of their roles into an
// R, for Protocol.Check; look says what is wrong with what could be decoded, and may be nil.
func CheckOptions[T, R any](targets []policy.Target, look func(t policy.Target, o T, roles map[string]R) []policy.Problem) []policy.Problem {
	var problems []policy.Problem
	for _, t := range targets {
		var o T
		bad := len(problems)
		if err := t.Options(&o); err != nil {
			problems = append(problems, policy.Problem{Target: t.Name, Err: err})
		}
		roles := make(map[string]R, len(t.Roles))
		names := make([]string, 0, len(t.Roles))
		for name := range t.Roles {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			var r R
			if err := t.Roles[name].Options(&r); err != nil {
				problems = append(problems, policy.Problem{Target: t.Name, Role: name, Err: err})
			}
			roles[name] = r
		}
		if look != nil && len(problems) == bad {
			problems = append(problems, look(t, o, roles)...)
		}
	}
	return problems
}
