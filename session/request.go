package session

import (
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// RequestState is where a Request stands. RequestPending is the only state that changes.
type RequestState string

// The states of a Request; the database enforces the transitions.
const (
	RequestPending   RequestState = "pending"
	RequestApproved  RequestState = "approved"
	RequestDenied    RequestState = "denied"
	RequestWithdrawn RequestState = "withdrawn"
	RequestTimedOut  RequestState = "timed-out"
)

// A Request is an Ask that waits for people. It has exactly one outcome.
type Request struct {
	ID        string          `json:"id"`
	State     RequestState    `json:"state"`
	User      identity.User   `json:"user"`
	SignIn    string          `json:"sign_in,omitempty"` // the sign-in that asked
	Input     policy.Input    `json:"input"`             // what the policy was asked, replayable
	Decision  policy.Decision `json:"decision"`          // and what it said when the request was made
	Client    Client          `json:"client"`            // zero for a request made without a connection
	Waiting   bool            `json:"waiting"`           // a client is held for it now; not stored
	Keep      bool            `json:"keep,omitempty"`    // it outlives its connection
	Extends   string          `json:"extends,omitempty"` // the grant that this request would lengthen
	Created   time.Time       `json:"created"`
	TimesOut  time.Time       `json:"times_out"`
	Decided   time.Time       `json:"decided,omitzero"`
	Approvals []Approval      `json:"approvals,omitempty"`
	Grant     string          `json:"grant,omitempty"`   // once approved
	Outcome   string          `json:"outcome,omitempty"` // the sentence that the requester is told
}

// An Approval is one person's yes or no to a Request.
type Approval struct {
	By       identity.User `json:"by"`
	Yes      bool          `json:"yes"`
	Void     bool          `json:"void,omitempty"` // a yes of somebody who may not say it any more
	Stage    int           `json:"stage"`
	Duration time.Duration `json:"duration,omitempty"` // narrowed to this; 0: as asked
	Scope    policy.Scope  `json:"scope,omitzero"`     // no more than this; the zero Scope: as asked
	Word     string        `json:"word,omitempty"`     // to the requester, kept on the record
	At       time.Time     `json:"at"`
	Rule     string        `json:"rule,omitempty"`   // an automatic yes: the rule is the approver
	Digest   string        `json:"digest"`           // of the policy under which the right was checked
	Config   string        `json:"config,omitempty"` // and of the machine's configuration
}
