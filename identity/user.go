// Package identity says who somebody is: a User known by OIDC, the Proof that a
// client showed, and the tokens and certificates that the gate itself hands out.
//
// It decides nothing. Whether a user may do something is the policy's word, and
// whether that word is acted on is the gate's (package session).
package identity

import (
	"slices"
	"strings"
)

// Kind tells people from machines: an agent or a pipeline never approves.
type Kind string

// The kinds of user.
const (
	Person   Kind = "person"
	Workload Kind = "workload"
)

// A User is a person or a machine known by OIDC. Issuer and Subject together are
// the identity (OpenID Connect Core 1.0, section 5.7); e-mail and name are only
// for people to read and for rules to match, and can change.
type User struct {
	Issuer  string            `json:"issuer"`
	Subject string            `json:"subject"`
	Person  string            `json:"person,omitempty"` // joins the accounts of one person across issuers; empty with a single issuer
	Email   string            `json:"email,omitempty"`
	Name    string            `json:"name,omitempty"`
	Groups  []string          `json:"groups,omitempty"`
	Kind    Kind              `json:"kind"`
	Claims  map[string]string `json:"claims,omitempty"` // those that identity.hcl maps, for rules
}

// ID is the stable key of the account: issuer and subject.
func (u User) ID() string { return u.Issuer + "#" + u.Subject }

// PersonID is the stable key of the human being behind the account, by which
// approvals are counted and self-approval is refused.
func (u User) PersonID() string {
	if u.Person != "" {
		return "person#" + u.Person
	}
	return u.ID()
}

// Same reports whether u and v are one person, whatever accounts they use.
func (u User) Same(v User) bool { return u.ID() == v.ID() || u.PersonID() == v.PersonID() }

// In reports whether the user is in the group. Group names are compared exactly.
func (u User) In(group string) bool { return slices.Contains(u.Groups, group) }

// String is how people see the user: the e-mail, else the subject.
func (u User) String() string {
	if u.Email != "" {
		return u.Email
	}
	return u.Subject
}

// Short is the e-mail's local part, for headings and lists of people.
func (u User) Short() string {
	local, _, found := strings.Cut(u.Email, "@")
	if found {
		return local
	}
	return u.String()
}

// OwnerClaim is the name under which identity.hcl maps the claim that says which person
// set a pipeline going: their e-mail, or their subject at the gate's own issuer.
const OwnerClaim = "owner"

// Owner is who set a pipeline going, as its issuer says; empty for people.
func (u User) Owner() string {
	if u.Kind != Workload {
		return ""
	}
	return u.Claims[OwnerClaim]
}

// OwnedBy reports whether v is the person who set this pipeline going: they decide on
// its requests no more than on their own. Capitals do not make it somebody else.
func (u User) OwnedBy(v User) bool {
	owner := u.Owner()
	return owner != "" && (strings.EqualFold(owner, v.Email) || strings.EqualFold(owner, v.Subject) || strings.EqualFold(owner, v.Person))
}

// IsZero reports that nobody is named.
func (u User) IsZero() bool { return u.Issuer == "" && u.Subject == "" }
