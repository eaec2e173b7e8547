package audit

import (
	"time"
)

// An Event is something that happened and must stay on the record. Type, Time and
// the identifiers go into the Merkle leaf; Body, which may hold names, reasons and
// other personal data, goes into the sealed body that the leaf commits to by
// H(salt || body), so that it can lawfully be erased while the leaf stays.
type Event struct {
	Type    string    // one of the Type constants below; every type is listed in docs/audit.md
	Time    time.Time // zero: now
	Actor   string    // identity.User.ID of who did it, "gate", or "rule:<name>"; a pseudonym of it goes into the leaf
	Session string
	Request string
	Grant   string
	Policy  PolicyRef
	Body    any // marshalled as JSON once, at the time of logging
}

// PolicyRef names the policy that a decision was made by.
type PolicyRef struct {
	Version int    `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"`
	Rule    string `json:"rule,omitempty"`
	At      string `json:"at,omitempty"` // file:line
}

// The types of entries. The word before the dot is the thing, after it what happened.
const (
	GateStarted  = "gate.started"
	GateStopped  = "gate.stopped"
	GateReloaded = "gate.reloaded"
	GateAlarm    = "gate.alarm"
	NodeAlive    = "node.alive"

	PolicyLoaded  = "policy.loaded"
	PolicyRefused = "policy.refused"
	PolicyError   = "policy.error"

	SignedIn     = "user.signed-in"
	SignedOut    = "user.signed-out"
	UserDisabled = "user.disabled"
	UserEnabled  = "user.enabled"
	TokenIssued  = "token.issued"
	CertIssued   = "certificate.issued"

	AskRefused       = "ask.refused"
	HoldEnded        = "hold.ended"       // ended before any request existed
	RefusalsCounted  = "refusals.counted" // before identity, counted per minute
	RequestCreated   = "request.created"
	RequestApproved  = "request.approved" // the request as a whole
	RequestDenied    = "request.denied"
	RequestWithdrawn = "request.withdrawn"
	RequestTimedOut  = "request.timed-out"
	ApprovalGiven    = "approval.given" // one person's yes
	ApprovalTaken    = "approval.withdrawn"

	GrantActive   = "grant.active"
	GrantExpired  = "grant.expired"
	GrantRevoked  = "grant.revoked"
	GrantReleased = "grant.released"
	GrantExtended = "grant.extended"

	GlassBroken   = "glass.broken"   // a break-glass rule gave a grant, or lengthened it
	ReviewOverdue = "review.overdue" // and closes the door of its target
	ReviewDone    = "review.done"

	SessionStarted = "session.started"
	SessionEnded   = "session.ended"
	SessionAlarm   = "session.alarm"

	RecordingChunk  = "recording.chunk"
	RecordingSealed = "recording.sealed"
	RecordingViewed = "recording.viewed"

	NoticeLost = "notice.lost" // nobody could be told of a request
)
