package policy

import (
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/identity"
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
	Claims        map[string]string // the name in rules -> the claim in the token
	Standing      string            // "refresh": asked again every 15 minutes; "sign-in": never
	GreatestAge   time.Duration     // of a sign-in that may open something
	CA            []byte            // PEM; nil: the system's roots
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

func (s *set) readIssuers(f *findings, blocks []*hclsyntax.Block, src sources) {
	slices.SortFunc(blocks, func(a, b *hclsyntax.Block) int { return slices.Compare(a.Labels, b.Labels) })
	for _, b := range blocks {
		name, ok := f.labels(b, 1)
		if !ok || !s.unique(f, b, name) {
			continue
		}
		i := readIssuer(f, b, name, src)
		if other, twice := s.issuers[i.URL]; twice {
			f.bad(b.DefRange(), "One issuer", "Issuer %s has this url already.", other.Name)
			continue
		}
		s.identity.Issuers = append(s.identity.Issuers, i)
		s.issuers[i.URL] = &i
		if i.Kind == identity.Person {
			s.persons++
		}
		s.claims = append(s.claims, sortedKeys(i.Claims)...)
	}
	slices.Sort(s.claims)
	s.claims = slices.Compact(s.claims)
	for _, i := range s.identity.Issuers {
		if s.persons > 1 && i.Kind == identity.Person && i.PersonClaim == "" {
			f.bad(s.places["issuer "+i.Name], "Who is one person?", "With several issuers one person has several accounts, and could approve their own request: issuer %s needs person_claim, a claim that is the same for one person at all of them.", i.Name)
		}
	}
}

func readIssuer(f *findings, b *hclsyntax.Block, name string, src sources) Issuer {
	what := "issuer " + name
	if !nameForm.MatchString(name) {
		f.bad(b.LabelRanges[0], "Not a name", "Names are of lower-case letters, digits, dots, dashes and underscores.")
	}
	f.blocks(b, what)
	r := f.block(b, what)
	i := Issuer{Name: name, URL: r.need("url"), Kind: identity.Kind(r.word("kind", string(identity.Person), string(identity.Workload))), Claims: r.texts("claims"), CA: readCA(f, r, src)}
	checkURL(f, r, "url", i.URL)
	for _, key := range sortedKeys(i.Claims) {
		if !wordForm.MatchString(key) {
			f.bad(r.where("claims"), "Not a name", "%q is not of lower-case letters, digits, dashes and underscores.", key)
		}
	}
	if i.Kind == identity.Workload {
		i.Audiences = r.list("audiences")
		if i.Audiences == nil {
			f.bad(r.at, "Missing", "%s needs audiences: a token that was made for somebody else proves nothing here.", what)
		}
		r.done()
		return i
	}
	i.ClientID = r.need("client_id")
	i.ClientSecret = r.str("client_secret")
	i.Scopes = r.list("scopes")
	if i.Scopes == nil {
		i.Scopes = []string{"openid", "email", "profile", "groups", "offline_access"}
	}
	if !slices.Contains(i.Scopes, "openid") {
		f.bad(r.where("scopes"), "Missing", "Without the scope \"openid\" nobody is identified.")
	}
	i.EmailClaim, i.NameClaim = either(r.str("email_claim"), "email"), either(r.str("name_claim"), "name")
	i.GroupsClaim, i.PersonClaim = either(r.str("groups_claim"), "groups"), r.str("person_claim")
	i.EmailVerified = r.word("email_verified", "required", "assumed") == "required"
	i.Standing = r.word("standing", standingRefresh, standingSignIn)
	if i.Standing == standingSignIn && !r.has("greatest_age") {
		f.bad(r.where("standing"), "Missing", "With standing = \"sign-in\" nobody asks the issuer again: write greatest_age, the age up to which a sign-in may open a session.")
	}
	i.GreatestAge = r.span("greatest_age", 12*time.Hour, time.Minute, 7*day)
	r.done()
	return i
}
