// Package archtest holds the rules that docs/architecture.md makes about the tree:
// who may import whom, what a type may not be called, how long a file may be.
//
// Each rule is a function from a parsed Tree to sentences, one for each violation,
// that name the place and the reason. The tests run every rule twice: over this
// repository, where it must find nothing, and over a small wrong tree, where it must
// find what is wrong. An exception is a line in exceptions.go with its reason.
package archtest
