package session

import (
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// Limits on what a client or a form may say; longer is refused, never cut, so that
// nobody approves something other than what was asked.
const (
	MaxReason = 1000 // characters
	MaxTicket = 100
	MaxName   = 128 // of targets, roles and objects, in bytes
)

// An Ask is who wants which target as which role, for how long, and why. Protocols
// fill it from what their client said; nothing in it is trusted but Client.
type Ask struct {
	Target   string
	Role     string
	Object   string        // what inside the target is named: a database; empty: the target's own
	Duration time.Duration // 0: as long as the rule allows
	Reason   string
	Ticket   string
	// BreakGlass asks for the break-glass rules and for no others. No client says it: a
	// person does, on a page or by the command line.
	BreakGlass bool
	NoWait     bool // answer instead of holding: the refusal names the request
	// NoRequest uses a grant that runs, or a rule that asks nobody, and never makes a
	// request: *Held then says where a person can. For what a browser does by itself.
	NoRequest bool
	Proof     identity.Proof
	Client    Client
	// Need is what the protocol must be able to do, checked against the rule's scope.
	Need policy.Scope
}

// Client describes the connection, for the people who decide.
type Client struct {
	Protocol string         `json:"protocol"`
	Address  netip.AddrPort `json:"address"`
	Program  string         `json:"program,omitempty"` // what it calls itself: "psql"; never trusted
}

// Key says for whom and what a permission is: a grant serves exactly its own Key.
type Key struct {
	User   string `json:"user"` // identity.User.ID
	Target string `json:"target"`
	Role   string `json:"role"`
	Object string `json:"object,omitempty"`
}
