package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/sallyport/sallyport/identity"
)

const (
	callWait  = 10 * time.Second // for one call to a provider
	maxAnswer = 1 << 20          // bytes of one answer
	// failureKept spares a provider that is down: sign-ins that queued up behind
	// one failed discovery share its error.
	failureKept = 2 * time.Second
)

// signatures are the algorithms taken, whatever a provider advertises: asymmetric
// ones only, so that "none", or a public key used as an HMAC secret, proves nothing.
var signatures = []string{goidc.RS256, goidc.ES256, goidc.EdDSA}

// An issuer is one Config and what discovery found.
type issuer struct {
	config Config
	client *http.Client
	turn   chan struct{} // one discovery at a time; holds the right to the two fields below
	known  *metadata
	failed struct {
		err error
		at  time.Time
	}
}

// metadata is the part of the discovery document that is used.
type metadata struct {
	goidc.ProviderConfig
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	SendsIssuer bool     `json:"authorization_response_iss_parameter_supported"`

	keys *goidc.RemoteKeySet
}

func newIssuer(c Config) *issuer {
	client := http.Client{Transport: http.DefaultTransport}
	if c.HTTPClient != nil {
		client = *c.HTTPClient
	}
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	client.Transport = bounded{client.Transport}
	client.Timeout = callWait
	// An endpoint that redirects would have the client's secret follow.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &issuer{config: c, client: &client, turn: make(chan struct{}, 1)}
}

// bounded cuts every answer at maxAnswer.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

// discover gives the issuer's metadata, fetching it where no earlier call has.
func (i *issuer) discover(ctx context.Context) (*metadata, error) {
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return nil, fail("the identity provider does not answer; try again", clean(ctx.Err()))
	}
	if i.known != nil {
		return i.known, nil
	}
	if i.failed.err != nil && time.Since(i.failed.at) < failureKept {
		return nil, i.failed.err
	}
	m, err := i.fetch(ctx)
	if err != nil {
		if ctx.Err() == nil {
			i.failed.err, i.failed.at = err, time.Now()
		}
		return nil, err
	}
	i.known = m
	return m, nil
}

func (i *issuer) fetch(ctx context.Context) (*metadata, error) {
	var m metadata
	where := strings.TrimSuffix(i.config.Issuer, "/") + "/.well-known/openid-configuration"
	if err := i.getJSON(ctx, where, "", &m); err != nil {
		return nil, fail(noAnswer,
			fmt.Errorf("discovery at %s: %w", i.config.Issuer, err))
	}
	if m.IssuerURL != i.config.Issuer {
		return nil, fail("the identity provider is not the configured one; tell who runs the gate",
			fmt.Errorf("discovery at %s: it calls itself %.200q; the issuer in identity.hcl must be that, to the last sign", i.config.Issuer, m.IssuerURL))
	}
	for _, endpoint := range []string{m.AuthURL, m.TokenURL, m.JWKSURL} {
		if !strings.HasPrefix(endpoint, "https://") {
			return nil, fail("the identity provider is not set up for sign-in; tell who runs the gate",
				fmt.Errorf("discovery at %s: an endpoint is missing or not https: %.200q", i.config.Issuer, endpoint))
		}
	}
	if m.UserInfoURL != "" && !strings.HasPrefix(m.UserInfoURL, "https://") {
		m.UserInfoURL = ""
	}
	m.keys = goidc.NewRemoteKeySet(goidc.ClientContext(context.WithoutCancel(ctx), i.client), m.JWKSURL)
	return &m, nil
}

// getJSON reads one JSON object. Errors are clean.
func (i *issuer) getJSON(ctx context.Context, url, bearer string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return errors.New("its address is no URL")
	}
	request.Header.Set("Accept", "application/json")
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	reply, err := i.client.Do(request)
	if err != nil {
		return clean(err)
	}
	defer func() { _ = reply.Body.Close() }()
	if reply.StatusCode != http.StatusOK {
		return clean(&answered{status: reply.StatusCode})
	}
	kind, _, _ := mime.ParseMediaType(reply.Header.Get("Content-Type"))
	if kind != "application/json" {
		return puzzling("it answered with something other than JSON")
	}
	if err := json.NewDecoder(reply.Body).Decode(into); err != nil {
		return clean(err)
	}
	return nil
}

// oauth is the OAuth client for one exchange, with the secret as it is now.
func (i *issuer) oauth(ctx context.Context, m *metadata) (*oauth2.Config, error) {
	endpoint := oauth2.Endpoint{AuthURL: m.AuthURL, TokenURL: m.TokenURL, AuthStyle: oauth2.AuthStyleInHeader}
	// Never AutoDetect: it tries twice, and a code works once.
	if len(m.AuthMethods) > 0 && !slices.Contains(m.AuthMethods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	c := &oauth2.Config{ClientID: i.config.ClientID, Endpoint: endpoint, RedirectURL: i.config.RedirectURL, Scopes: i.config.Scopes}
	if i.config.ClientSecret == nil {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
		return c, nil
	}
	secret, err := i.config.ClientSecret(ctx)
	if err != nil {
		return nil, fail("the gate cannot sign in at the identity provider; tell who runs the gate", fmt.Errorf("%w: client secret: %w", identity.ErrUnreachable, err))
	}
	c.ClientSecret = string(secret)
	return c, nil
}

// context gives oauth2 and go-oidc the issuer's HTTP client, their way.
func (i *issuer) context(ctx context.Context) context.Context {
	return goidc.ClientContext(ctx, i.client)
}
