// Package policy holds the rules: HCL in, a Decision with its reason out.
//
// A Policy is loaded from a bundle whose MANIFEST is signed by as many distinct
// people as the pinned trust root asks for; there is no other way to make one. It
// never changes, consults no clock and does no I/O once it is loaded.
package policy
