// Package strict reads HCL blocks whose attributes are plain values, and finds all
// that is wrong with them at once.
//
// It is not gohcl, because gohcl lets the last of two equal keys of an object win,
// turns null into a zero value, and converts numbers to strings: each of them a way
// in which a policy could mean something other than it says.
package strict
