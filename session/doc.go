// Package session is the gate: ask, decide, hold, grant, live, end.
//
// A protocol calls Gate.Open once it knows what its client wants, and gets a
// Session or an error that says why not. Only inside Session.Run is there an
// address to dial, a secret to log in with and a recorder to write to, so a
// protocol cannot forget to ask. Nothing reaches the target before that.
//
// State (requests, approvals, grants, sessions) is in the Store; each change and
// its log entry are one transaction. Effects that permit wait until their entry is
// durable in the log. Effects that restrict act at once.
package session
