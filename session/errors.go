package session

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Denied says that a rule or a person said no, why, and what to do next.
type Denied struct {
	Reason string // a sentence without its full stop
	By     string // who: an e-mail, or "rule <name>"; empty where the policy has no rule
	Next   string // what to do; may be empty
}

// Is makes ErrBadWorkload an ErrBadToken: protocols refuse both before anybody is let in.
func (d *Denied) Is(target error) bool { return target == ErrBadToken && d == ErrBadWorkload }

func (d *Denied) Error() string {
	parts := []string{d.Reason}
	if d.Next != "" {
		parts = append(parts, d.Next)
	}
	return strings.Join(parts, "; ")
}

// An Invalid is the user's own mistake, with a hint that says what to type.
type Invalid struct {
	Field string
	Hint  string
}

func (i *Invalid) Error() string { return i.Hint }

// A Held is the answer to an Ask that may not wait: the request stays open.
type Held struct {
	Request string // its identifier; empty before the person has signed in
	URL     string // where the person signs in, or sees the request
	For     string // whom it waits for: "1 of dba"
}

func (h *Held) Error() string {
	if h.Request == "" {
		return "nothing is opened yet; sign in and say why at " + h.URL
	}
	return fmt.Sprintf("request %s waits for %s at %s; connect again after the yes", h.Request, h.For, h.URL)
}

// An Ended is the cause with which a session's or a hold's context ends: why, in
// the record's word, and the sentence that the user is told.
type Ended struct {
	Cause string // expired, revoked, killed, signed-out, stopping, policy, recorder, timed-out, withdrawn
	Say   string
	At    time.Time
}

func (e *Ended) Error() string { return e.Say }

// Is makes errors.Is(err, ErrExpired) true of every Ended with the same cause.
func (e *Ended) Is(target error) bool {
	t, ok := target.(*Ended)
	return ok && t.Cause == e.Cause
}

// Kinds of Ended to compare with by errors.Is; their sentences are set where they happen.
var (
	ErrExpired   = &Ended{Cause: "expired", Say: "your access ended"}
	ErrRevoked   = &Ended{Cause: "revoked", Say: "your access was revoked"}
	ErrKilled    = &Ended{Cause: "killed", Say: "this session was ended"}
	ErrSignedOut = &Ended{Cause: "signed-out", Say: "you are signed out"}
	ErrPolicy    = &Ended{Cause: "policy", Say: "the policy no longer allows this"}
	ErrRecorder  = &Ended{Cause: "recorder", Say: "the session could not be recorded any more"}
	ErrStopping  = &Ended{Cause: "stopping", Say: "the gate is stopping"}
	ErrTimedOut  = &Ended{Cause: "timed-out", Say: "nobody answered in time"}
	ErrWithdrawn = &Ended{Cause: "withdrawn", Say: "the request was withdrawn"}
)

// ErrWaitOver is the cause with which a protocol ends the wait of a client that said
// how long it waits: the request stays open, and *Held names it.
var ErrWaitOver = errors.New("the client waits no longer")

// ErrNotFound is the Store's and the Gate's answer for something that is not
// there, or not this person's to see.
var ErrNotFound = errors.New("not found")

// ErrTransition is the Store's answer to a change that the state does not allow,
// such as a second outcome of a request.
var ErrTransition = errors.New("the state does not allow that")

// ErrStore is the Store's answer where a write or fsync failed and the disk is not full.
// It is final, as audit.ErrFailed is: the gate stops.
var ErrStore = errors.New("the store cannot be written any more")

// A Failed says that something behind the gate does not work: Say is for the user
// and names no address or secret, Err is for the log.
type Failed struct {
	Say string
	Err error
}

func (f *Failed) Error() string { return f.Say }
func (f *Failed) Unwrap() error { return f.Err }

// ErrBadToken refuses a token or certificate that proves nothing. Protocols refuse
// with it before they say that authentication succeeded.
var ErrBadToken = &Denied{Reason: "that token is not valid, or its grant has ended", Next: "get a new one on your grant's page, or connect without +token to sign in by browser"}

// ErrBadWorkload refuses a pipeline's JWT that proves nothing here. Which of its claims
// is wrong is in the gate's own log: a sentence would help whoever forges one.
var ErrBadWorkload = &Denied{Reason: "that workload token proves nothing here", Next: "it must be of an issuer and for an audience that the policy names, new, and whole"}
