package catalog

import (
	"net/url"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/strict"
)

// Identity is who may say who somebody is.
type Identity struct {
	Issuers []Issuer // sorted by Name
}

// An Issuer is an OpenID Connect issuer that the policy trusts, and how its claims
// are read. Exactly one User comes out of one token.
type Issuer struct {
	Name         string // in this policy
	URL          string // compared with `iss` exactly (OpenID Connect Core 1.0, section 3.1.3.7)
	Kind         identity.Kind
	ClientID     string   // people: the gate's own client; also the audience
	ClientSecret string   // the name of a credential; empty: a public client
	Audiences    []string // workloads: any one of them is in `aud`
	Scopes       []string // that are asked for; "openid" is always among them
	EmailClaim   string   // default "email"; counts only with email_verified where EmailVerified
	NameClaim    string   // default "name"
	GroupsClaim  string   // default "groups"
	PersonClaim  string   // joins the accounts of one person across issuers; empty with a single issuer
	// EmailVerified asks for the claim email_verified; default true. An issuer that
	// never sends it is one whose e-mails are all verified, or it is none to trust.
	EmailVerified bool
	// AuthTime asks for the claim auth_time, which says when the person was last asked:
	// a yes needs a sign-in of the last ten minutes. Default true.
	AuthTime    bool
	Claims      map[string]string // the name in rules -> the claim in the token
	Standing    string            // "refresh": asked again every 15 minutes; "sign-in": never
	GreatestAge time.Duration     // of a sign-in that may open something
	CA          []byte            // PEM; nil: the system's roots
}

const (
	standingRefresh = "refresh"
	standingSignIn  = "sign-in"
)

// Issuer returns the issuer with a URL, compared exactly.
func (i Identity) Issuer(url string) (Issuer, bool) {
	at := slices.IndexFunc(i.Issuers, func(x Issuer) bool { return x.URL == url })
	if at < 0 {
		return Issuer{}, false
	}
	return i.Issuers[at], true
}

// ReadIssuer reads an issuer block; src are the files of the bundle, for its CA.
func ReadIssuer(f *strict.Findings, b *hclsyntax.Block, name string, src map[string][]byte) Issuer {
	what := "issuer " + name
	if !nameForm.MatchString(name) {
		f.Bad(b.LabelRanges[0], "Not a name", "Names are of lower-case letters, digits, dots, dashes and underscores.")
	}
	f.Blocks(b, what)
	r := f.Block(b, what)
	i := Issuer{Name: name, URL: r.Need("url"), Kind: identity.Kind(r.Word("kind", string(identity.Person), string(identity.Workload))), Claims: r.Texts("claims"), CA: readCA(f, r, src)}
	checkURL(f, r, "url", i.URL)
	for _, key := range strict.SortedKeys(i.Claims) {
		if !wordForm.MatchString(key) {
			f.Bad(r.Where("claims"), "Not a name", "%q is not of lower-case letters, digits, dashes and underscores.", key)
		}
	}
	if i.Kind == identity.Workload {
		i.Audiences = r.List("audiences")
		if i.Audiences == nil {
			f.Bad(r.At, "Missing", "%s needs audiences: a token that was made for somebody else proves nothing here.", what)
		}
		r.Done()
		return i
	}
	i.ClientID = r.Need("client_id")
	i.ClientSecret = r.Str("client_secret")
	i.Scopes = r.List("scopes")
	if i.Scopes == nil {
		i.Scopes = []string{"openid", "email", "profile", "groups", "offline_access"}
	}
	if !slices.Contains(i.Scopes, "openid") {
		f.Bad(r.Where("scopes"), "Missing", "Without the scope \"openid\" nobody is identified.")
	}
	i.EmailClaim, i.NameClaim = either(r.Str("email_claim"), "email"), either(r.Str("name_claim"), "name")
	i.GroupsClaim, i.PersonClaim = either(r.Str("groups_claim"), "groups"), r.Str("person_claim")
	i.EmailVerified = r.Word("email_verified", "required", "assumed") == "required"
	i.AuthTime = r.Word("auth_time", "required", "assumed") == "required"
	i.Standing = r.Word("standing", standingRefresh, standingSignIn)
	if i.Standing == standingSignIn && !r.Has("greatest_age") {
		f.Bad(r.Where("standing"), "Missing", "With standing = \"sign-in\" nobody asks the issuer again: write greatest_age, the age up to which a sign-in may open a session.")
	}
	i.GreatestAge = r.Span("greatest_age", 12*time.Hour, time.Minute, 7*strict.Day)
	r.Done()
	return i
}

// checkURL refuses what is not https, save on this machine's loopback.
func checkURL(f *strict.Findings, r *strict.Fields, name, raw string) {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		f.Bad(r.Where(name), "Not an address", "Write it as the issuer's own configuration has it: https://id.example.com")
	case u.Scheme == "https":
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	default:
		f.Bad(r.Where(name), "Plaintext", "An issuer is reached by https; http is only for loopback addresses.")
	}
}
