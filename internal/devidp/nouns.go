package devidp

import (
	"net/url"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

func scopes() []string {
	return []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeEmail, oidc.ScopeOfflineAccess}
}

// request is one authorization request (op.AuthRequest).
type request struct {
	id       string
	ask      *oidc.AuthRequest
	began    time.Time
	user     string // empty until the password was right
	authTime time.Time
}

func (r *request) GetID() string          { return r.id }
func (r *request) GetACR() string         { return "" }
func (r *request) GetAudience() []string  { return []string{r.ask.ClientID} }
func (r *request) GetAuthTime() time.Time { return r.authTime }
func (r *request) GetClientID() string    { return r.ask.ClientID }
func (r *request) GetNonce() string       { return r.ask.Nonce }
func (r *request) GetRedirectURI() string { return r.ask.RedirectURI }
func (r *request) GetScopes() []string    { return r.ask.Scopes }
func (r *request) GetState() string       { return r.ask.State }
func (r *request) GetSubject() string     { return r.user }
func (r *request) Done() bool             { return r.user != "" }

func (r *request) GetResponseType() oidc.ResponseType { return r.ask.ResponseType }
func (r *request) GetResponseMode() oidc.ResponseMode { return r.ask.ResponseMode }

func (r *request) GetAMR() []string {
	if r.Done() {
		return []string{"pwd"}
	}
	return nil
}

func (r *request) GetCodeChallenge() *oidc.CodeChallenge {
	if r.ask.CodeChallenge == "" {
		return nil
	}
	return &oidc.CodeChallenge{Challenge: r.ask.CodeChallenge, Method: r.ask.CodeChallengeMethod}
}

// renewal is one use of a refresh token (op.RefreshTokenRequest).
type renewal struct{ issued }

func (r *renewal) GetAMR() []string               { return []string{"pwd"} }
func (r *renewal) GetAudience() []string          { return []string{r.client} }
func (r *renewal) GetAuthTime() time.Time         { return r.authTime }
func (r *renewal) GetClientID() string            { return r.client }
func (r *renewal) GetScopes() []string            { return r.scopes }
func (r *renewal) GetSubject() string             { return r.user }
func (r *renewal) SetCurrentScopes(list []string) { r.scopes = list }

// client is a Client as the library sees it (op.Client).
type client struct {
	Client
	ahead time.Duration // of the provider's clock
}

func (c *client) GetID() string                       { return c.ID }
func (c *client) RedirectURIs() []string              { return c.RedirectURLs }
func (c *client) PostLogoutRedirectURIs() []string    { return nil }
func (c *client) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }
func (c *client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

func (c *client) LoginURL(id string) string           { return loginPath + "?id=" + url.QueryEscape(id) }
func (c *client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeBearer }
func (c *client) IDTokenLifetime() time.Duration      { return accessLife + 2*c.ahead } // the library takes ClockSkew off the end as well
func (c *client) DevMode() bool                       { return false }
func (c *client) IsScopeAllowed(string) bool          { return false }
func (c *client) ClockSkew() time.Duration            { return -c.ahead }

// IDTokenUserinfoClaimsAssertion puts e-mail and groups into the ID token too, as
// most providers do that gates are used with.
func (c *client) IDTokenUserinfoClaimsAssertion() bool { return true }

func (c *client) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}
}

func (c *client) AuthMethod() oidc.AuthMethod {
	if c.Secret == "" {
		return oidc.AuthMethodNone
	}
	return oidc.AuthMethodBasic
}

func (c *client) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func(list []string) []string { return list }
}

func (c *client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(list []string) []string { return list }
}
