package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	maxIDToken  = 64 << 10 // bytes; hundreds of groups fit
	maxWorkload = 8 << 10  // bytes; it comes from anybody, as a password
	// skew is how far the clocks of gate and provider may lie apart.
	skew = time.Minute
)

// claims is a token's or userinfo's JSON object, not yet understood.
type claims map[string]json.RawMessage

// A token is one whose signature, issuer, audience and times are right.
type token struct {
	*goidc.IDToken
	claims claims
}

// expected is what a token must say beyond being the issuer's.
type expected struct {
	audiences []string // one of these
	azp       string   // an ID token: azp, if there, is this
	most      int      // bytes
}

// verify is the whole judgement of a JWT: the library checks form and signature, and
// everything it says is checked here, each with its own sentence.
func (i *issuer) verify(ctx context.Context, m *metadata, raw string, want expected) (token, error) {
	if len(raw) > want.most {
		return token{}, fmt.Errorf("the token is longer than %d bytes", want.most)
	}
	if err := checkType(raw); err != nil {
		return token{}, err
	}
	keys := &watched{set: m.keys}
	verifier := goidc.NewVerifier(i.config.Issuer, keys, &goidc.Config{
		SupportedSigningAlgs: signatures,
		SkipIssuerCheck:      true, // all three below, with our words
		SkipClientIDCheck:    true,
		SkipExpiryCheck:      true,
	})
	id, err := verifier.Verify(ctx, raw)
	if err != nil {
		return token{}, keys.explain(err)
	}
	t := token{IDToken: id}
	if err := id.Claims(&t.claims); err != nil {
		return token{}, errors.New("the token's claims are no JSON object")
	}
	if id.Issuer != i.config.Issuer {
		return token{}, errors.New("the token is another issuer's")
	}
	if !slices.ContainsFunc(id.Audience, func(a string) bool { return slices.Contains(want.audiences, a) }) {
		return token{}, errors.New("the token is for another audience")
	}
	if err := t.checkParty(want); err != nil {
		return token{}, err
	}
	return t, t.checkTimes(time.Now())
}

// checkType refuses JWTs that are something else by their own word: an access token
// (at+jwt, RFC 9068) or a logout token is signed by the same key.
func checkType(raw string) error {
	jws, err := jose.ParseSignedCompact(raw, algorithms())
	if err != nil || len(jws.Signatures) != 1 {
		return errors.New("the token is no JWT signed with " + strings.Join(signatures, ", "))
	}
	kind, there := jws.Signatures[0].Protected.ExtraHeaders[jose.HeaderType]
	if !there {
		return nil
	}
	if text, ok := kind.(string); !ok || !strings.EqualFold(text, "JWT") {
		return errors.New("the token is of another type")
	}
	return nil
}

func algorithms() []jose.SignatureAlgorithm {
	list := make([]jose.SignatureAlgorithm, len(signatures))
	for i, name := range signatures {
		list[i] = jose.SignatureAlgorithm(name)
	}
	return list
}

// checkParty is OpenID Connect Core section 3.1.3.7, steps 4 and 5: a token that
// another client obtained may name this gate among its audiences.
func (t token) checkParty(want expected) error {
	if want.azp == "" {
		return nil
	}
	azp, err := t.claims.text("azp")
	if err != nil {
		return err
	}
	if azp == "" && len(t.Audience) > 1 {
		return errors.New("the token has several audiences and does not say for which it was made (azp)")
	}
	if azp != "" && azp != want.azp {
		return errors.New("the token was made for another client (azp)")
	}
	return nil
}

func (t token) checkTimes(now time.Time) error {
	var notBefore struct {
		NBF *float64 `json:"nbf"`
	}
	if err := t.IDToken.Claims(&notBefore); err != nil {
		return errors.New("the token's nbf is no number")
	}
	switch {
	case t.Expiry.IsZero() || t.Expiry.Unix() == 0:
		return errors.New("the token has no end (exp)")
	case !now.Before(t.Expiry.Add(skew)):
		return fmt.Errorf("the token ended at %s and it is %s here; if it is new, set the clocks of gate and provider", stamp(t.Expiry), stamp(now))
	case t.IssuedAt.IsZero() || t.IssuedAt.Unix() == 0:
		return errors.New("the token does not say when it was made (iat)")
	case t.IssuedAt.After(now.Add(skew)):
		return fmt.Errorf("the token was made at %s, which is yet to come: it is %s here; set the clocks of gate and provider", stamp(t.IssuedAt), stamp(now))
	case notBefore.NBF != nil && time.Unix(int64(*notBefore.NBF), 0).After(now.Add(skew)):
		return errors.New("the token is not valid yet (nbf)")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }

// watched keeps the error of fetching keys, which go-oidc turns into text: a
// provider that does not answer is not a bad signature.
type watched struct {
	set goidc.KeySet
	err error
}

func (w *watched) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := w.set.VerifySignature(ctx, jwt)
	if err != nil && strings.HasPrefix(err.Error(), "fetching keys") {
		w.err = err
	}
	return payload, err
}

func (w *watched) explain(error) error {
	if w.err == nil {
		return errors.New("the token's form or signature is wrong")
	}
	// go-oidc keeps no status of a bad answer: that, too, is none.
	return fmt.Errorf("signing keys: %w", clean(w.err))
}
