// Package when compiles the conditions of a policy.
//
// HCL is only their grammar. They are typed and compiled here, because HCL's own
// evaluation converts 22 to "22", skips what is wrong behind a short-circuit, and lets
// null through. There are no loops, templates, indexes, arithmetic or conditionals, so
// that a condition stays readable and can be written down in Cedar. No function reads
// a clock: time is a fact like any other.
package when
