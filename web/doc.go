// Package web is the gate's own pages and JSON API, for people: sign in, say why,
// approve, watch, replay.
//
// What it promises:
//
//   - Nothing is decided by a GET. Every change is a POST that a page of ours, or a
//     program with an API token, sent (http.CrossOriginProtection, RFC 6265bis
//     SameSite, Fetch Metadata); the answer to a form is a redirect by 303.
//   - A browser holds one value, the cookie __Host-sallyport; the gate keeps its
//     SHA-256. It is new at each sign-in. A sign-in is bound to the browser that
//     began it by __Host-sallyport-begin.
//   - Rights are checked by the gate (package session), not here. What the gate does
//     not show is not found. The two reads that do not pass through the gate, of the
//     log and of recordings, ask the policy in one place each (records.go).
//   - Names, reasons and statements reach a page through html/template only, and
//     control and direction characters are shown escaped.
//   - Grant tokens open nothing here.
//
// Unsupported yet: approving by WebAuthn, extending by a request of its own kind
// (asking again for the same target and role does it), and several nodes sharing
// the codes of `sallyport login`, which live in this process for five minutes.
package web
