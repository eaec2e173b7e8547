package identity

import (
	"crypto/x509"

	"golang.org/x/crypto/ssh"
)

// ProofKind is the way in which somebody showed who they are. Rules can ask for
// some of them: rule { proof = ["certificate", "token"] }.
type ProofKind string

// The proofs of flows.md.
const (
	ByBrowser     ProofKind = "browser"     // signs in at a link that the held client shows
	ByCertificate ProofKind = "certificate" // short-lived client certificate from `sallyport login`
	ByToken       ProofKind = "token"       // grant token, as a password or bearer token
	ByOAuth       ProofKind = "oauth"       // libpq 18's OAUTHBEARER
	ByWorkload    ProofKind = "workload"    // a CI job's OIDC JWT
)

// A Proof is what a client showed, not yet judged: the gate verifies it.
// With ByBrowser nothing is shown yet; the gate sends the client a link.
type Proof struct {
	Kind ProofKind
	// Certificate is the leaf that the client proved possession of in its
	// handshake. Protocols check nothing else about it.
	Certificate *x509.Certificate
	// SSH is the same for SSH: a certificate whose key the client has signed with.
	SSH *ssh.Certificate
	// Token is the grant token or JWT as the client sent it.
	Token Token
	// SignIn, with ByBrowser, is the sign-in whose cookie this very connection shows:
	// HTTP needs no link. Empty elsewhere.
	SignIn string
}

// A Token is a bearer secret. It never prints.
type Token string

const hidden = "(hidden)"

// String hides the token from logs and errors.
func (t Token) String() string { return hidden }

// GoString hides the token from %#v.
func (t Token) GoString() string { return hidden }

// MarshalText hides the token from encoders; Reveal is the only way out.
func (t Token) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Reveal returns the secret itself, for the one reply that hands it to its owner.
func (t Token) Reveal() string { return string(t) }
