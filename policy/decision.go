package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// Input is everything that a decision depends on: no clock, no file, no network
// is consulted beside it, so a logged Input can be decided again years later.
type Input struct {
	User     identity.User      `json:"user"`
	Proof    identity.ProofKind `json:"proof"`
	Target   string             `json:"target"`
	Role     string             `json:"role"`
	Object   string             `json:"object,omitempty"` // what inside the target is named: a database
	Duration time.Duration      `json:"duration"`         // 0: as long as the rule allows
	Reason   string             `json:"reason,omitempty"`
	Ticket   string             `json:"ticket,omitempty"`
	Client   netip.Addr         `json:"client"`  // the connection's address
	Browser  netip.Addr         `json:"browser"` // the browser's at a browser sign-in, else the zero Addr
	Time     time.Time          `json:"time"`
	// BreakGlass asks for the break-glass rules, and for no others: nobody breaks the
	// glass by accident.
	BreakGlass bool `json:"break_glass,omitempty"`
	// Need is what the protocol is about to do beyond opening a session, such as
	// an SSH subsystem; empty for the session itself.
	Need Scope `json:"need,omitzero"`
}

// SameAddress reports that sign-in and connection came from one address. Where it
// is false no rule admits without people, and no existing grant is used.
func (in Input) SameAddress() bool { return !in.Browser.IsValid() || in.Browser == in.Client }

// Effect is the direction of a Decision.
type Effect string

// The effects.
const (
	Deny  Effect = "deny"
	Allow Effect = "allow" // at once where Stages is empty, else after the people in Stages
)

// Decision is what the policy says of one Input, and why. It is a value: it stays
// true of its Input and Digest after the policy has changed.
type Decision struct {
	Effect  Effect  `json:"effect"`
	Why     string  `json:"why"`              // one sentence for the user; never a secret
	Hint    string  `json:"hint,omitempty"`   // what to do next
	Field   string  `json:"field,omitempty"`  // where Why is about one input that can be mended: "reason", "duration", "ticket"
	Rule    string  `json:"rule,omitempty"`   // the rule that allowed or forbade; empty for the default deny
	At      string  `json:"at,omitempty"`     // file:line of the rule
	Version int     `json:"version"`          // of the bundle
	Digest  string  `json:"digest"`           // "sha256:..." of the MANIFEST
	Config  string  `json:"config,omitempty"` // "sha256:..." of the machine's proxy.hcl
	Stages  []Stage `json:"stages,omitempty"`

	Longest        time.Duration   `json:"longest"`  // upper bound of the grant
	Duration       time.Duration   `json:"duration"` // what is asked for, after defaults
	Scope          Scope           `json:"scope"`
	RequestTimeout time.Duration   `json:"request_timeout"`      // a pending request times out after this
	Hold           time.Duration   `json:"hold,omitempty"`       // a connection waits so long for its request; 0: until that has its outcome
	Warnings       []time.Duration `json:"warnings,omitempty"`   // before the end, longest first: 5m, 1m
	Extensions     int             `json:"extensions,omitempty"` // how often the grant may be lengthened
	BreakGlass     bool            `json:"break_glass,omitempty"`
	Review         People          `json:"review,omitzero"` // of a break-glass grant: who looks at it afterwards
	ReviewWithin   time.Duration   `json:"review_within,omitempty"`
	// Errors are conditions that could not be evaluated: each is a policy.error entry.
	// Such a rule did not apply, such a forbid did.
	Errors []string `json:"errors,omitempty"`
}

// Automatic reports that no person is asked.
func (d Decision) Automatic() bool { return d.Effect == Allow && len(d.Stages) == 0 }

// A Stage asks for Count distinct people out of From. Stages are passed in order.
type Stage struct {
	Count int    `json:"count"`
	From  People `json:"from"`
}

// People names users: by group, by e-mail. Somebody is among them who matches any.
type People struct {
	Groups []string `json:"groups,omitempty"`
	Emails []string `json:"emails,omitempty"`
}

// Has reports whether u is one of these people. Workloads never are.
func (p People) Has(u identity.User) bool { return u.Kind == identity.Person && p.names(u) }

func (p People) names(u identity.User) bool {
	for _, group := range p.Groups {
		if u.In(group) {
			return true
		}
	}
	email := lowerASCII(u.Email)
	return email != "" && slices.ContainsFunc(p.Emails, func(e string) bool { return lowerASCII(e) == email })
}

// lowerASCII makes e-mails comparable: a forbid must not be escaped by a capital
// letter. Only ASCII, because folding more would make two mailboxes one.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// String names them as sentences do: "dba, bob@example.com".
func (p People) String() string {
	return strings.Join(append(slices.Clone(p.Groups), p.Emails...), ", ")
}

// String is "1 of dba".
func (s Stage) String() string { return fmt.Sprintf("%d of %s", s.Count, s.From) }

// Progress says which stage a request is in after some people's yes, in their
// order, and how many more that stage asks for. Past the last stage missing is 0.
// Nobody counts twice, in whatever stages and by whatever groups, and the requester
// never does.
func (d Decision) Progress(requester identity.User, yes []identity.User) (stage, missing int) {
	counted := []identity.User{requester}
	for stage = range d.Stages {
		missing = d.Stages[stage].Count
		for _, u := range yes {
			if missing > 0 && d.Stages[stage].From.Has(u) && !slices.ContainsFunc(counted, u.Same) {
				counted = append(counted, u)
				missing--
			}
		}
		if missing > 0 {
			return stage, missing
		}
	}
	return len(d.Stages), 0
}

// Right is something that a person may do with what is not theirs.
type Right string

// The rights; a policy grants them by `right` blocks. Approving is not among
// them: it follows from the stages of a request's own rule.
const (
	RightReview Right = "review" // see recordings
	RightCut    Right = "cut"    // revoke grants, kill sessions
	RightAudit  Right = "audit"  // see the log and everybody's requests, grants and sessions
	RightUsers  Right = "users"  // list and disable users
)
