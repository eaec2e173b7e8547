// Package model tries the gate against a model of it: random histories of several
// people, with grants' tokens and broken glass, crashes and restarts, and clocks that are
// set, on a real store and a real log. What the model says must be what the store holds,
// and what the log tells.
//
//	go test ./internal/model -rapid.checks=1000   # more histories than a check has time for
package model
