package identity

import "time"

// A SignIn is one sign-in by OIDC, kept on the server: a browser's session or a
// `sallyport login`. Grants, certificates and tokens that it opened end with it.
type SignIn struct {
	ID      string    `json:"id"` // 128 random bits; never the cookie's value
	User    User      `json:"user"`
	Via     string    `json:"via"` // "browser" or "cli"
	Created time.Time `json:"created"`
	// Authenticated is when the issuer last asked the person for their password or the
	// like, which its own session can put long before Created; zero: it does not say.
	Authenticated time.Time `json:"authenticated,omitzero"`
	Checked       time.Time `json:"checked"` // groups and standing were last read then
	Expires       time.Time `json:"expires"` // the greatest age of a sign-in
	Ended         time.Time `json:"ended,omitzero"`
	EndedBy       string    `json:"ended_by,omitempty"`
	Cookie        [32]byte  `json:"cookie"` // SHA-256 of the cookie's value; zero for "cli"
	Address       string    `json:"address"`
	// Refresh is the issuer's refresh token, sealed by the gate's key; nil where the
	// issuer gives none and identity.hcl says standing = "sign-in".
	Refresh []byte `json:"refresh,omitempty"`
}

// Stands reports that the sign-in opens things at the time now. One that can be read
// again and was not for StandingLimit opens nothing, whatever keeps the Refresher:
// an issuer that is slow, many sign-ins, a gate that was down.
func (s SignIn) Stands(now time.Time) bool {
	if len(s.Refresh) > 0 && now.Sub(s.Checked) >= StandingLimit {
		return false
	}
	return s.Ended.IsZero() && now.Before(s.Expires)
}

// TokenPurpose keeps the kinds of token apart: a grant token only opens
// connections, an API token never does.
type TokenPurpose string

// The purposes.
const (
	ForGrant TokenPurpose = "grant"
	ForAPI   TokenPurpose = "api"
)

// A TokenRecord is what is kept of a token; the secret itself is not.
type TokenRecord struct {
	ID      string       `json:"id"`
	Hash    [32]byte     `json:"hash"` // SHA-256 of the whole token
	Purpose TokenPurpose `json:"purpose"`
	User    string       `json:"user"` // User.ID
	SignIn  string       `json:"sign_in,omitempty"`
	Grant   string       `json:"grant,omitempty"` // for ForGrant: the only grant it opens
	Created time.Time    `json:"created"`
	Expires time.Time    `json:"expires"`
	Ended   time.Time    `json:"ended,omitzero"`
}

// An Account is what is kept of a user between sign-ins.
type Account struct {
	User       User      `json:"user"` // as last seen
	FirstSeen  time.Time `json:"first_seen"`
	LastSeen   time.Time `json:"last_seen"`
	Disabled   time.Time `json:"disabled,omitzero"`
	DisabledBy string    `json:"disabled_by,omitempty"`
}
