package oidc

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/oauth2"

	"github.com/sallyport/sallyport/identity"
)

// Refresh reads the user again by refresh token: groups, e-mail, and whether the
// account still stands. It implements identity.Issuers. The token that comes back
// replaces the old one; it is empty where the old one goes on.
//
// An identity.ErrUnreachable in the error says that nothing is known of the user;
// there may be a new token even so.
// Every other error is the provider's no, or an answer that cannot be trusted.
func (r *RelyingParty) Refresh(ctx context.Context, u identity.User, refresh identity.Token) (identity.User, identity.Token, error) {
	i, err := r.person(u.Issuer)
	if err != nil {
		return identity.User{}, "", err
	}
	m, err := i.discover(ctx)
	if err != nil {
		return identity.User{}, "", err
	}
	client, err := i.oauth(ctx, m)
	if err != nil {
		return identity.User{}, "", err
	}
	reply, err := client.TokenSource(i.context(ctx), &oauth2.Token{RefreshToken: refresh.Reveal()}).Token()
	if err != nil {
		return identity.User{}, "", i.tokenFailure(err)
	}
	// oauth2 gives the old token back where the answer has none.
	next := identity.Token(reply.RefreshToken)
	if next == refresh {
		next = ""
	}
	said, err := i.readAgain(ctx, m, reply, u)
	if err != nil {
		// Providers that rotate have spent the old token by now: the new one goes
		// back even if they then fail to say who it is about.
		return identity.User{}, next, err
	}
	user, err := i.understood(said)
	if err != nil {
		return identity.User{}, next, err
	}
	return user, next, nil
}

// readAgain prefers userinfo: many providers repeat in a refreshed ID token what was
// true at the sign-in, and some leave the token out (Core section 12.2).
func (i *issuer) readAgain(ctx context.Context, m *metadata, reply *oauth2.Token, u identity.User) (claims, error) {
	var said claims
	if raw, _ := reply.Extra("id_token").(string); raw != "" {
		t, err := i.idToken(ctx, m, reply)
		if err != nil {
			return nil, err
		}
		said = t.claims
	}
	if said == nil {
		if m.UserInfoURL == "" {
			return nil, i.refuse("said nothing about you", errors.New("neither ID token nor userinfo"))
		}
		said = claims{"sub": fmt.Appendf(nil, "%q", u.Subject)}
	}
	if !sameSubject(said, u.Subject) {
		return nil, i.refuse("answered about another account", nil)
	}
	return i.withUserInfo(ctx, m, reply, said)
}
