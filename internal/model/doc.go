// Package model tries the gate against a model of it: random histories of several
// people, with crashes and restarts, on a real store and a real log. What the model
// says must be what the store holds, and what the log tells.
package model
