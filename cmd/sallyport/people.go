package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/oidc"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// A relyingParty is the one that the policy of now describes.
type relyingParty struct {
	config  *config.Config
	secrets *secrets
	now     atomic.Pointer[described]
}

type described struct {
	identity policy.Identity
	party    *oidc.RelyingParty
}

func newRelyingParty(c *config.Config, s *secrets, p *policy.Policy) (*relyingParty, error) {
	r := &relyingParty{config: c, secrets: s}
	return r, r.follow(p)
}

// secrets are the credentials of the configuration that was read last.
type secrets struct {
	now atomic.Pointer[credential.Set]
}

func newSecrets(set credential.Set) *secrets {
	s := &secrets{}
	s.now.Store(&set)
	return s
}

// Read makes it session.Config.Credentials.
func (s *secrets) Read(ctx context.Context, name string) (credential.Secret, error) {
	return s.now.Load().Read(ctx, name)
}

func (r *relyingParty) current() (*oidc.RelyingParty, error) { return r.now.Load().party, nil }

// follow takes the issuers of a policy. Where they are the same, sign-ins that are
// under way go on.
func (r *relyingParty) follow(p *policy.Policy) error {
	said := p.Identity()
	if before := r.now.Load(); before != nil && reflect.DeepEqual(before.identity, said) {
		return nil
	}
	var configs []oidc.Config
	for _, i := range said.Issuers {
		c, err := r.issuer(i)
		if err != nil {
			return err
		}
		configs = append(configs, c)
	}
	party, err := oidc.New(configs)
	if err != nil {
		return fmt.Errorf("identity provider: %w", err)
	}
	r.now.Store(&described{identity: said, party: party})
	return nil
}

// issuer joins what the signed policy says of an issuer with what this machine keeps.
func (r *relyingParty) issuer(i policy.Issuer) (oidc.Config, error) {
	c := oidc.Config{
		Issuer: i.URL, ClientID: i.ClientID, RedirectURL: r.config.Gate.URL + "/callback", Scopes: i.Scopes,
		Groups: i.GroupsClaim, Email: i.EmailClaim, Person: i.PersonClaim, Name: i.NameClaim, Claims: i.Claims, Audiences: i.Audiences,
		AllowUnverifiedEmail: !i.EmailVerified, AssumeAuthTime: !i.AuthTime, Standing: i.Standing, MaxAge: i.GreatestAge, Kind: i.Kind,
	}
	if i.ClientSecret != "" {
		if _, found := (*r.secrets.now.Load())[i.ClientSecret]; !found {
			return c, fmt.Errorf("the policy's issuer %s needs the credential %q; add to %s: credential %q { from = \"file:...\" }", i.Name, i.ClientSecret, r.config.Path, i.ClientSecret)
		}
		c.ClientSecret = func(ctx context.Context) ([]byte, error) {
			secret, err := r.secrets.Read(ctx, i.ClientSecret)
			return secret.Reveal(), err
		}
	}
	if i.CA != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(i.CA) {
			return c, fmt.Errorf("the CA of issuer %s holds no certificate", i.Name)
		}
		c.HTTPClient = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		}}
	}
	return c, nil
}

// Refresh and StandsAlone make it identity.Issuers, for whatever policy is current.
func (r *relyingParty) Refresh(ctx context.Context, u identity.User, refresh identity.Token) (identity.User, identity.Token, error) {
	return r.now.Load().party.Refresh(ctx, u, refresh)
}

// ForUs and VerifyWorkload make it session.Workloads.
func (r *relyingParty) ForUs(token identity.Token) bool { return r.now.Load().party.ForUs(token) }

func (r *relyingParty) VerifyWorkload(ctx context.Context, token identity.Token) (identity.User, time.Time, error) {
	return r.now.Load().party.VerifyWorkload(ctx, token)
}

func (r *relyingParty) StandsAlone(issuer string) bool { return r.now.Load().party.StandsAlone(issuer) }

// standing is the gate as the refresher needs it.
type standing struct{ *session.Gate }

func (s standing) StandingSignIns(ctx context.Context) ([]identity.SignIn, error) {
	return s.Standing(ctx)
}

func (p *program) refresher() *identity.Refresher {
	return &identity.Refresher{Standing: standing{p.gate}, Issuers: p.people, Sealer: p.sealer, Logger: p.logger}
}
