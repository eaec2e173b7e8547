package session

import (
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// GrantState is where a Grant stands. GrantActive is the only state that changes.
type GrantState string

// The states of a Grant; the database enforces the transitions.
const (
	GrantActive   GrantState = "active"
	GrantExpired  GrantState = "expired"
	GrantRevoked  GrantState = "revoked"
	GrantReleased GrantState = "released"
)

// A Grant is permission with scope and end. Its clock starts at the approval.
type Grant struct {
	ID       string          `json:"id"`
	State    GrantState      `json:"state"`
	Key      Key             `json:"key"`
	User     identity.User   `json:"user"`
	SignIn   string          `json:"sign_in,omitempty"`
	Request  string          `json:"request"`
	Decision policy.Decision `json:"decision"`
	Scope    policy.Scope    `json:"scope"` // the decision's, as narrowed by the approvers
	Reason   string          `json:"reason,omitempty"`
	Ticket   string          `json:"ticket,omitempty"`
	By       []string        `json:"by"` // who approved: e-mails, or "rule:<name>"
	Starts   time.Time       `json:"starts"`
	Ends     time.Time       `json:"ends"`
	Extended time.Time       `json:"extended,omitzero"` // the term of now was approved then; zero: at Starts
	// ExtendedBy are the requests that lengthened it: whoever said yes to one may revoke it.
	ExtendedBy []string  `json:"extended_by,omitempty"`
	Times      int       `json:"times,omitempty"` // how often it was extended
	Ended      time.Time `json:"ended,omitzero"`
	EndedBy    string    `json:"ended_by,omitempty"`
}

// term is how long the approvers gave it, from their last yes.
func (g Grant) term() time.Duration {
	if g.Extended.IsZero() {
		return g.Ends.Sub(g.Starts)
	}
	return g.Ends.Sub(g.Extended)
}

// narrowed reports that its approvers gave less than the rule does.
func (g Grant) narrowed() bool { return !ofObject(g.Decision.Scope, g.Key.Object).Within(g.Scope) }

// A Record is what is kept of a Session: the row behind `sallyport sessions list`.
type Record struct {
	ID      string             `json:"id"`
	Live    bool               `json:"live"`
	Grant   string             `json:"grant"`
	Request string             `json:"request"`
	Key     Key                `json:"key"`
	User    identity.User      `json:"user"`
	Proof   identity.ProofKind `json:"proof"`
	Client  Client             `json:"client"`
	Node    string             `json:"node"`
	Started time.Time          `json:"started"`
	Ends    time.Time          `json:"ends"`
	Ended   time.Time          `json:"ended,omitzero"`
	Cause   string             `json:"cause,omitempty"` // expired, revoked, killed, closed, recorder, stopping, policy, signed-out, error, crashed
}
