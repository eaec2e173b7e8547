package devidp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/sallyport/sallyport/identity"
)

const (
	requestLife = 10 * time.Minute
	accessLife  = 5 * time.Minute
	refreshLife = 24 * time.Hour
)

// store is what the library asks for (op.Storage), in memory. The library calls its
// methods in this order for a sign-in: CreateAuthRequest; our login page; then
// AuthRequestByID, SaveAuthCode; AuthRequestByCode, CreateAccessAndRefreshTokens,
// SetUserinfoFromRequest, DeleteAuthRequest. For a refresh: TokenRequestByRefreshToken,
// CreateAccessAndRefreshTokens, SetUserinfoFromRequest.
type store struct {
	issuer  string
	clients map[string]Client

	mu       sync.Mutex
	users    map[string]*account
	requests map[string]*request
	codes    map[string]string // code -> request
	tokens   map[string]issued // access tokens by id
	refresh  map[string]issued // refresh tokens by value
	keys     []*signingKey     // the last one signs; those before still verify
	ahead    time.Duration     // of the clock
}

type account struct {
	User
	disabled bool
	asked    time.Duration // ago, in a session of the provider's own
}

// issued is what an access or refresh token stands for.
type issued struct {
	client, user string
	scopes       []string
	authTime     time.Time
	ends         time.Time
}

func newStore(c Config, issuer string) (*store, error) {
	s := &store{
		issuer: issuer, clients: map[string]Client{}, users: map[string]*account{},
		requests: map[string]*request{}, codes: map[string]string{},
		tokens: map[string]issued{}, refresh: map[string]issued{},
	}
	for _, client := range c.Clients {
		s.clients[client.ID] = client
	}
	for _, user := range c.Users {
		s.users[user.Name] = &account{User: user}
	}
	key, err := newSigningKey()
	if err != nil {
		return nil, err
	}
	s.keys = []*signingKey{key}
	return s, nil
}

var (
	_ op.Storage                   = (*store)(nil)
	_ op.CanSetUserinfoFromRequest = (*store)(nil)
)

// signIn checks the password for a request that waits for one.
func (s *store) signIn(id, username, password string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.requests[id]
	if !ok || time.Since(r.began) > requestLife {
		return errors.New("this sign-in is over; go back to where you came from and begin again")
	}
	if name, _, isMail := strings.Cut(username, "@"); isMail && s.users[name] != nil && s.users[name].Email == username {
		username = name // people know their address
	}
	user, ok := s.users[username]
	if !ok || user.disabled || user.Password == "" || user.Password != password {
		return errors.New("that user or password is wrong")
	}
	r.user, r.authTime = username, time.Now()
	if !slices.Contains(r.ask.Prompt, oidc.PromptLogin) {
		r.authTime = r.authTime.Add(-user.asked)
	}
	return nil
}

func (s *store) waits(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.requests[id]
	return ok
}

func (s *store) CreateAuthRequest(_ context.Context, ask *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if slices.Contains(ask.Prompt, oidc.PromptNone) {
		return nil, oidc.ErrLoginRequired()
	}
	r := &request{id: identity.NewID(), ask: ask, began: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	s.requests[r.id] = r
	return r, nil
}

// sweep forgets what is over, so that a long demo does not grow.
func (s *store) sweep() {
	now := time.Now()
	for id, r := range s.requests {
		if now.Sub(r.began) > requestLife {
			delete(s.requests, id)
		}
	}
	for code, id := range s.codes {
		if s.requests[id] == nil {
			delete(s.codes, code)
		}
	}
	for _, table := range []map[string]issued{s.tokens, s.refresh} {
		for key, token := range table {
			if now.After(token.ends) {
				delete(table, key)
			}
		}
	}
}

func (s *store) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.requests[id]
	if !ok {
		return nil, errors.New("there is no such request")
	}
	copied := *r
	return &copied, nil
}

func (s *store) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	id, ok := s.codes[code]
	delete(s.codes, code) // a code works once, whatever comes of it
	s.mu.Unlock()
	if !ok {
		return nil, oidc.ErrInvalidGrant().WithDescription("this code is used or over")
	}
	return s.AuthRequestByID(ctx, id)
}

func (s *store) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[code] = id
	return nil
}

func (s *store) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	return nil
}

func (s *store) CreateAccessToken(_ context.Context, r op.TokenRequest) (string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, token := s.access(r)
	return id, token.ends, nil
}

// access makes an access token. The caller holds mu.
func (s *store) access(r op.TokenRequest) (string, issued) {
	token := issued{user: r.GetSubject(), scopes: r.GetScopes(), ends: time.Now().Add(accessLife)}
	if known, ok := r.(interface {
		GetClientID() string
		GetAuthTime() time.Time
	}); ok {
		token.client, token.authTime = known.GetClientID(), known.GetAuthTime()
	}
	id := identity.NewID()
	s.tokens[id] = token
	return id, token
}

func (s *store) CreateAccessAndRefreshTokens(_ context.Context, r op.TokenRequest, current string) (string, string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if current != "" {
		if _, ok := s.refresh[current]; !ok {
			return "", "", time.Time{}, op.ErrInvalidRefreshToken
		}
		delete(s.refresh, current) // refresh tokens rotate (RFC 9700 section 2.2.2)
	}
	id, token := s.access(r)
	again := token
	again.ends = time.Now().Add(refreshLife)
	next := identity.NewID() + identity.NewID()
	s.refresh[next] = again
	return id, next, token.ends, nil
}

func (s *store) TokenRequestByRefreshToken(_ context.Context, value string) (op.RefreshTokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, ok := s.refresh[value]
	user := s.users[token.user]
	if !ok || time.Now().After(token.ends) || user == nil || user.disabled {
		return nil, op.ErrInvalidRefreshToken
	}
	return &renewal{token}, nil
}

func (s *store) TerminateSession(_ context.Context, user, client string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, table := range []map[string]issued{s.tokens, s.refresh} {
		for key, token := range table {
			if token.user == user && token.client == client {
				delete(table, key)
			}
		}
	}
	return nil
}

func (s *store) RevokeToken(_ context.Context, value, _, client string) *oidc.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, table := range []map[string]issued{s.tokens, s.refresh} {
		if token, ok := table[value]; ok && token.client == client {
			delete(table, value)
		}
	}
	return nil
}

func (s *store) GetRefreshTokenInfo(_ context.Context, client, value string) (string, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, ok := s.refresh[value]
	if !ok || token.client != client {
		return "", "", op.ErrInvalidRefreshToken
	}
	return token.user, value, nil
}

func (s *store) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	c, ok := s.clients[id]
	if !ok {
		return nil, errors.New("there is no such client")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &client{c, s.ahead}, nil
}

func (s *store) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if c, ok := s.clients[id]; !ok || c.Secret == "" || c.Secret != secret {
		return errors.New("that client or secret is wrong")
	}
	return nil
}

func (s *store) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil // the library's older name for the next one
}

func (s *store) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, r op.IDTokenRequest, scopes []string) error {
	return s.describe(info, r.GetSubject(), scopes)
}

func (s *store) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, id, subject, _ string) error {
	s.mu.Lock()
	token, ok := s.tokens[id]
	s.mu.Unlock()
	if !ok || token.user != subject || time.Now().After(token.ends) {
		return errors.New("this access token is over")
	}
	return s.describe(info, token.user, token.scopes)
}

// describe says of a user what the scopes let it.
func (s *store) describe(info *oidc.UserInfo, name string, scopes []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, ok := s.users[name]
	if !ok || user.disabled {
		return fmt.Errorf("there is no user %q", name)
	}
	info.Subject = user.Name
	if slices.Contains(scopes, oidc.ScopeEmail) {
		info.Email, info.EmailVerified = user.Email, oidc.Bool(!user.Unverified)
	}
	if slices.Contains(scopes, oidc.ScopeProfile) {
		info.Name, info.PreferredUsername = user.FullName, user.Name
		info.AppendClaims("groups", slices.Clone(user.Groups))
	}
	return nil
}

func (s *store) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errors.New("introspection is not offered")
}

func (s *store) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, nil
}

func (s *store) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errors.New("clients sign in by secret here")
}

func (s *store) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errors.New("the JWT profile grant is not offered")
}

func (s *store) Health(context.Context) error { return nil }
