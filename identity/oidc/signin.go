package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/sallyport/sallyport/identity"
)

const (
	maxReturn = 2048 // bytes of a path to return to
	maxCode   = 4096 // bytes of an authorization code
	secretLen = 44   // signs of two identifiers: 256 bits
)

// A Beginning says how a sign-in begins.
type Beginning struct {
	Issuer   string // empty: the first that is configured
	ReturnTo string // a path of the gate, where the browser goes afterwards; empty: /
	// Binding is the pre-sign-in cookie that the browser already shows, so that
	// sign-ins in two of its tabs both work. Empty, or not ours: a new one is made.
	Binding string
	// Fresh makes the provider ask for the person again, whatever session it has:
	// for approving, which needs a sign-in at most 10 minutes old.
	Fresh bool
	// Source is the browser's address: attempts are bounded for each network, so that
	// one does not push out another's. Zero: not known.
	Source netip.Addr
}

// An Attempt is a sign-in that has begun.
type Attempt struct {
	URL     string    // at the provider; send the browser there
	Binding string    // to be set as a cookie: __Host-, Secure, HttpOnly, SameSite=Lax
	Ends    time.Time // the cookie's end, and the attempt's
}

// A SignedIn is a person whom the provider vouches for.
type SignedIn struct {
	User identity.User
	// Refresh is empty where the issuer is declared with standing = "sign-in".
	Refresh identity.Token
	At      time.Time // when the provider was asked: SignIn.Created and Checked
	// Authenticated is when the provider last asked the person (auth_time); zero: it does not say.
	Authenticated time.Time
	Expires       time.Time // SignIn.Expires
	ReturnTo      string    // a path of the gate
}

// Begin starts a sign-in. The error is a *Failure.
func (r *RelyingParty) Begin(ctx context.Context, b Beginning) (Attempt, error) {
	i, err := r.person(b.Issuer)
	if err != nil {
		return Attempt{}, err
	}
	returnTo, err := LocalPath(b.ReturnTo)
	if err != nil {
		return Attempt{}, err
	}
	m, err := i.discover(ctx)
	if err != nil {
		return Attempt{}, err
	}
	client, err := i.oauth(ctx, m)
	if err != nil {
		return Attempt{}, err
	}
	binding := b.Binding
	if len(binding) != secretLen || !identity.ValidID(binding[:secretLen/2]) || !identity.ValidID(binding[secretLen/2:]) {
		binding = secret()
	}
	state := secret()
	at := attempt{
		issuer:   i.config.Issuer,
		binding:  sha256.Sum256([]byte(binding)),
		nonce:    secret(),
		verifier: oauth2.GenerateVerifier(),
		returnTo: returnTo,
		fresh:    b.Fresh,
		began:    time.Now(),
		source:   b.Source,
	}
	options := []oauth2.AuthCodeOption{goidc.Nonce(at.nonce), oauth2.S256ChallengeOption(at.verifier)}
	if b.Fresh {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	r.attempts.put(state, at)
	return Attempt{URL: client.AuthCodeURL(state, options...), Binding: binding, Ends: at.began.Add(attemptLife)}, nil
}

// Finish ends a sign-in with the query of the callback and the value of the
// browser's pre-sign-in cookie. The caller then makes a new session cookie and
// drops this one. The error is a *Failure; nothing is opened by a failed one, and
// its state is used up.
func (r *RelyingParty) Finish(ctx context.Context, binding string, query url.Values) (SignedIn, error) {
	for _, name := range []string{"state", "code", "iss", "error"} {
		if len(query[name]) > 1 {
			return SignedIn{}, fail("the identity provider's answer is malformed; begin again", errors.New(name+" is given twice"))
		}
	}
	at, err := r.attempts.take(query.Get("state"), binding, time.Now())
	if err != nil {
		return SignedIn{}, err
	}
	i, err := r.person(at.issuer)
	if err != nil {
		return SignedIn{}, err
	}
	m, err := i.discover(ctx)
	if err != nil {
		return SignedIn{}, err
	}
	if err := checkAnswer(i, m, query); err != nil {
		return SignedIn{}, err
	}
	asked := time.Now()
	reply, err := i.exchange(ctx, m, query.Get("code"), at.verifier)
	if err != nil {
		return SignedIn{}, err
	}
	user, authenticated, err := i.arrived(ctx, m, reply, at)
	if err != nil {
		return SignedIn{}, err
	}
	signed := SignedIn{User: user, At: asked, Authenticated: authenticated, Expires: asked.Add(i.config.MaxAge), ReturnTo: at.returnTo}
	if i.config.Standing == ByRefresh {
		signed.Refresh = identity.Token(reply.RefreshToken)
		if signed.Refresh == "" {
			return SignedIn{}, i.refuse("gave no refresh token", errors.New("ask for the scope offline_access, or declare standing = \"sign-in\" in identity.hcl"))
		}
	}
	return signed, nil
}

// checkAnswer judges the callback's query, whose state was right.
func checkAnswer(i *issuer, m *metadata, query url.Values) error {
	// RFC 9207: without it an answer of one issuer could be taken for another's.
	iss, there := query["iss"]
	if there && iss[0] != i.config.Issuer || !there && m.SendsIssuer {
		return fail("the answer came from another identity provider than was asked; begin again", errors.New("iss of the answer"))
	}
	if code := query.Get("error"); code != "" {
		if code == "access_denied" {
			return fail("the identity provider says no for this account, or you cancelled; begin again", nil)
		}
		return fail("the identity provider could not sign you in; begin again", &answered{code: plainCode(code)})
	}
	if code := query.Get("code"); code == "" || len(code) > maxCode {
		return fail("the identity provider's answer is malformed; begin again", errors.New("code"))
	}
	return nil
}

func (i *issuer) exchange(ctx context.Context, m *metadata, code, verifier string) (*oauth2.Token, error) {
	client, err := i.oauth(ctx, m)
	if err != nil {
		return nil, err
	}
	reply, err := client.Exchange(i.context(ctx), code, oauth2.VerifierOption(verifier))
	if err != nil {
		return nil, i.tokenFailure(err)
	}
	return reply, nil
}

// arrived makes the user of a token endpoint's first answer, and says when the provider
// last asked the person who they are.
func (i *issuer) arrived(ctx context.Context, m *metadata, reply *oauth2.Token, at attempt) (identity.User, time.Time, error) {
	none := func(err error) (identity.User, time.Time, error) { return identity.User{}, time.Time{}, err }
	t, err := i.idToken(ctx, m, reply)
	if err != nil {
		return none(err)
	}
	if subtle.ConstantTimeCompare([]byte(t.Nonce), []byte(at.nonce)) != 1 {
		return none(i.refuse("sent a token of another sign-in (nonce)", nil))
	}
	authenticated, err := i.config.authenticated(t, at)
	if err != nil {
		return none(i.refuse("did not ask you to sign in again", err))
	}
	said := t.claims
	if i.config.lacks(said) {
		if said, err = i.withUserInfo(ctx, m, reply, said); err != nil {
			return none(err)
		}
	}
	user, err := i.understood(said)
	return user, authenticated, err
}

// authenticated is when the person was last asked (auth_time, Core section 2); zero where
// the token does not say. It holds a provider to prompt=login, which it may ignore (Core
// section 3.1.2.1).
func (c Config) authenticated(t token, at attempt) (time.Time, error) {
	var when struct {
		AuthTime *float64 `json:"auth_time"`
	}
	if err := t.IDToken.Claims(&when); err != nil {
		return time.Time{}, errors.New("its auth_time is no number")
	}
	switch {
	case when.AuthTime == nil && !at.fresh:
		return time.Time{}, nil
	case when.AuthTime == nil && c.AssumeAuthTime:
		return at.began, nil
	case when.AuthTime == nil:
		return time.Time{}, errors.New("its token has no auth_time; if it never has, declare auth_time = \"assumed\" in identity.hcl")
	}
	asked := time.Unix(int64(*when.AuthTime), 0)
	if at.fresh && asked.Before(at.began.Add(-skew)) {
		return time.Time{}, errors.New("auth_time is before this sign-in")
	}
	if now := time.Now(); asked.After(now) { // by a clock that is ahead of ours
		asked = now
	}
	return asked, nil
}

const noAnswer = "the identity provider does not answer; try again, or tell who runs the gate"

// unproven says of a token that it did not pass; without the provider's keys it may well
// be right.
func unproven(say string, err error) *Failure {
	if errors.Is(err, identity.ErrUnreachable) {
		say = noAnswer
	}
	return fail(say, err)
}

func (i *issuer) idToken(ctx context.Context, m *metadata, reply *oauth2.Token) (token, error) {
	raw, _ := reply.Extra("id_token").(string)
	if raw == "" {
		return token{}, i.refuse("sent no ID token", errors.New("the scope openid must be allowed for the client"))
	}
	t, err := i.verify(i.context(ctx), m, raw, expected{audiences: []string{i.config.ClientID}, azp: i.config.ClientID, most: maxIDToken})
	if err != nil {
		return token{}, unproven("the identity provider sent a token that is not right; tell who runs the gate", err)
	}
	if t.AccessTokenHash != "" && t.VerifyAccessToken(reply.AccessToken) != nil {
		return token{}, i.refuse("sent two tokens that do not belong together (at_hash)", nil)
	}
	return t, nil
}

// lacks reports that userinfo must be asked for what the ID token leaves out.
func (c Config) lacks(said claims) bool {
	names := []string{c.Email, c.Groups}
	if !c.AllowUnverifiedEmail {
		names = append(names, "email_verified")
	}
	if c.Person != "" {
		names = append(names, c.Person)
	}
	for _, claim := range c.Claims {
		names = append(names, claim)
	}
	for _, name := range names {
		if _, there := said[name]; !there {
			return true
		}
	}
	return false
}

// withUserInfo adds what userinfo says. It is the newer word, so it wins; but an
// address and its email_verified are never mixed from two places.
func (i *issuer) withUserInfo(ctx context.Context, m *metadata, reply *oauth2.Token, said claims) (claims, error) {
	if m.UserInfoURL == "" {
		return said, nil
	}
	var info claims
	if err := i.getJSON(ctx, m.UserInfoURL, reply.AccessToken, &info); err != nil {
		return nil, i.refuse("did not say who you are", fmt.Errorf("userinfo: %w", err))
	}
	// Core section 5.3.2: without this check the answer could be about anybody.
	if sub, err := info.text("sub"); err != nil || sub == "" || !sameSubject(said, sub) {
		return nil, i.refuse("told of two people at once", errors.New("userinfo: the claim \"sub\" differs from the token's"))
	}
	all := claims{}
	for name, value := range said {
		all[name] = value
	}
	if _, there := info[i.config.Email]; there {
		delete(all, "email_verified")
	} else {
		delete(info, "email_verified")
	}
	for name, value := range info {
		all[name] = value
	}
	return all, nil
}

func sameSubject(said claims, sub string) bool {
	known, err := said.text("sub")
	return err == nil && known == sub
}

func (i *issuer) understood(said claims) (identity.User, error) {
	user, err := i.config.user(said)
	if err != nil {
		return identity.User{}, i.refuse("does not say enough about you", err)
	}
	return user, nil
}

// person finds an issuer at which people sign in.
func (r *RelyingParty) person(name string) (*issuer, error) {
	if name == "" && len(r.order) > 0 {
		name = r.order[0]
	}
	i, ok := r.issuers[name]
	if !ok || i.config.Kind != identity.Person {
		return nil, fail("there is no such identity provider; begin again", nil)
	}
	return i, nil
}

// refuse is a Failure about what the provider did.
func (i *issuer) refuse(what string, err error) *Failure {
	return fail("the identity provider "+what+"; tell who runs the gate", err)
}

// tokenFailure explains an error of the token endpoint.
func (i *issuer) tokenFailure(err error) *Failure {
	err = clean(err)
	var (
		reply  *answered
		puzzle puzzling
	)
	switch {
	case errors.As(err, &puzzle):
	case errors.Is(err, identity.ErrUnreachable):
		return fail(noAnswer, fmt.Errorf("token endpoint of %s: %w", i.config.Issuer, err))
	case errors.As(err, &reply) && (reply.code == "invalid_client" || reply.code == "unauthorized_client"):
		return i.refuse("does not accept this gate", fmt.Errorf("%w: client_id or client secret of %s is wrong", reply, i.config.Issuer))
	case errors.As(err, &reply) && reply.code == "invalid_grant":
		return fail("the identity provider no longer accepts this sign-in; begin again", reply)
	}
	return i.refuse("did not complete the sign-in", fmt.Errorf("token endpoint of %s: %w", i.config.Issuer, err))
}

// LocalPath gives back a path of the gate that a browser stays at the gate with, or
// refuses it: no host, no scheme, nothing that browsers read as one ("//", "/\", a
// tab or line break, which they drop). Empty becomes "/".
func LocalPath(path string) (string, error) {
	if path == "" {
		return "/", nil
	}
	refused := fail("the address to return to is not one of this gate; begin again", nil)
	if len(path) > maxReturn || path[0] != '/' || strings.HasPrefix(path, "//") {
		return "", refused
	}
	for _, c := range []byte(path) {
		if c <= ' ' || c > '~' || c == '\\' {
			return "", refused
		}
	}
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil {
		return "", refused
	}
	return path, nil
}

// secret is 256 random bits as letters and digits.
func secret() string { return identity.NewID() + identity.NewID() }
