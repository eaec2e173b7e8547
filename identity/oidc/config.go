package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"

	"github.com/sallyport/sallyport/identity"
)

// How an issuer lets standing be read again (Config.Standing).
const (
	// ByRefresh reads groups and standing again by refresh token.
	ByRefresh = "refresh"
	// BySignIn is for issuers that give no refresh token: a sign-in stands until
	// MaxAge. It is declared, never assumed.
	BySignIn = "sign-in"
)

// defaultMaxAge is how long a sign-in stands where nothing else is said: a working day.
const defaultMaxAge = 12 * time.Hour

// A Config is one issuer, as the signed policy and proxy.hcl together describe it.
type Config struct {
	// Issuer is compared exactly, as OpenID Connect Discovery section 4.3 asks:
	// https://idp.example.com and https://idp.example.com/ are two issuers.
	Issuer   string
	ClientID string
	// ClientSecret reads the secret each time it is used, so that a rotated one is
	// used at once. Nil for a public client, which PKCE alone protects.
	ClientSecret func(context.Context) ([]byte, error)
	// RedirectURL is the gate's own callback, such as https://gate.example.com/sign-in/callback.
	RedirectURL string
	// Scopes are asked for beside openid. Nil: profile, email, and with ByRefresh
	// offline_access.
	Scopes []string

	// Names of claims. The defaults are "groups", "email" and "name". Person, where
	// set, joins the accounts of one human being across issuers.
	Groups, Email, Name, Person string
	// Claims maps the names that rules use to names of claims.
	Claims map[string]string
	// AllowUnverifiedEmail takes an address without email_verified: only for an
	// issuer whose addresses its users cannot set themselves.
	AllowUnverifiedEmail bool

	// AssumeAuthTime believes an issuer whose tokens never have auth_time that it asked
	// for the person where it was told to (prompt=login).
	AssumeAuthTime bool

	// Standing is ByRefresh (default) or BySignIn.
	Standing string
	// MaxAge is the greatest age of a sign-in. Default 12 h; needed with BySignIn.
	MaxAge time.Duration

	// Kind is Person (default) or Workload: an issuer of JWTs for pipelines, which
	// signs in nobody.
	Kind identity.Kind
	// Audiences are what a workload's token must name one of.
	Audiences []string

	// HTTPClient knows the issuer's CA. Nil: the system's roots.
	HTTPClient *http.Client
}

// A RelyingParty signs people in at the configured issuers. It is safe for
// concurrent use, starts no goroutine, and asks nothing of an issuer before the
// first sign-in there: an issuer that is down does not keep the gate from starting.
type RelyingParty struct {
	issuers  map[string]*issuer
	order    []string // person issuers, as configured: the first is the default
	attempts *attempts
}

// New checks the configuration; it does no I/O. All faults are reported at once.
func New(configs []Config) (*RelyingParty, error) {
	r := &RelyingParty{issuers: map[string]*issuer{}, attempts: newAttempts()}
	var faults []error
	persons := 0
	for _, c := range configs {
		c = withDefaults(c)
		if err := c.check(); err != nil {
			faults = append(faults, fmt.Errorf("issuer %q: %w", c.Issuer, err))
			continue
		}
		if _, twice := r.issuers[c.Issuer]; twice {
			faults = append(faults, fmt.Errorf("issuer %q is configured twice", c.Issuer))
		}
		r.issuers[c.Issuer] = newIssuer(c)
		if c.Kind == identity.Person {
			persons++
			r.order = append(r.order, c.Issuer)
		}
	}
	// Without it one human being could approve with two accounts.
	for _, name := range r.order {
		if persons > 1 && r.issuers[name].config.Person == "" {
			faults = append(faults, fmt.Errorf("issuer %q: several issuers need a person claim each, which joins the accounts of one person", name))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return r, nil
}

// Issuers are the issuers at which people sign in, in the configured order.
func (r *RelyingParty) Issuers() []string { return slices.Clone(r.order) }

// StandsAlone reports that the issuer is declared with standing = "sign-in". An
// issuer that is not configured (any more) does not.
func (r *RelyingParty) StandsAlone(issuer string) bool {
	i, ok := r.issuers[issuer]
	return ok && i.config.Standing == BySignIn
}

func withDefaults(c Config) Config {
	if c.Kind == "" {
		c.Kind = identity.Person
	}
	if c.Standing == "" {
		c.Standing = ByRefresh
	}
	if c.Groups == "" {
		c.Groups = "groups"
	}
	if c.Email == "" {
		c.Email = "email"
	}
	if c.Name == "" {
		c.Name = "name"
	}
	if c.MaxAge == 0 && c.Standing == ByRefresh {
		c.MaxAge = defaultMaxAge
	}
	if c.Scopes == nil {
		c.Scopes = []string{"profile", "email"}
		if c.Standing == ByRefresh {
			c.Scopes = append(c.Scopes, goidc.ScopeOfflineAccess)
		}
	}
	if !slices.Contains(c.Scopes, goidc.ScopeOpenID) {
		c.Scopes = append([]string{goidc.ScopeOpenID}, c.Scopes...)
	}
	return c
}

func (c Config) check() error {
	var faults []error
	add := func(format string, values ...any) { faults = append(faults, fmt.Errorf(format, values...)) }
	if err := plainURL(c.Issuer); err != nil {
		add("the issuer %w", err)
	}
	if c.Kind != identity.Person && c.Kind != identity.Workload {
		add("kind is %q; it is person or workload", c.Kind)
	}
	if c.Kind == identity.Workload {
		if len(c.Audiences) == 0 || slices.Contains(c.Audiences, "") {
			add("a workload issuer needs an audience: without one any token of that issuer would do")
		}
		return errors.Join(faults...)
	}
	if c.ClientID == "" {
		add("client_id is missing")
	}
	if err := plainURL(c.RedirectURL); err != nil {
		add("the redirect URL %w", err)
	}
	if c.Standing != ByRefresh && c.Standing != BySignIn {
		add("standing is %q; it is %q or %q", c.Standing, ByRefresh, BySignIn)
	}
	if c.MaxAge <= 0 {
		add("max_age is missing: with standing = %q it is the only end of a sign-in", BySignIn)
	}
	return errors.Join(faults...)
}

// plainURL allows https and nothing that could be read in two ways. A '#' in an
// issuer would also make User.ID ambiguous.
func plainURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Opaque != "":
		return fmt.Errorf("%q is no URL", text)
	case u.Scheme != "https":
		return fmt.Errorf("%q must begin with https://", text)
	case u.User != nil, u.RawQuery != "", strings.ContainsAny(text, "?#\\ "):
		return fmt.Errorf("%q must have no user, query or fragment", text)
	}
	return nil
}
