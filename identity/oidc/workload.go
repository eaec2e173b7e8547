package oidc

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport/sallyport/identity"
)

// VerifyWorkload says which pipeline a JWT is of: one of a configured workload
// issuer, for its audience, not over. A token can be shown again until it ends, so
// issuers should make them short. The error is a *Failure.
func (r *RelyingParty) VerifyWorkload(ctx context.Context, shown identity.Token) (identity.User, error) {
	const say = "that workload token is not valid; get a new one from the pipeline's issuer"
	raw := shown.Reveal()
	if len(raw) > maxWorkload {
		return identity.User{}, fail(say, errors.New("it is too long"))
	}
	name, err := unverifiedIssuer(raw)
	if err != nil {
		return identity.User{}, fail(say, err)
	}
	i, ok := r.issuers[name]
	if !ok || i.config.Kind != identity.Workload {
		return identity.User{}, fail(say, errors.New("its issuer is not configured for workloads"))
	}
	m, err := i.discover(ctx)
	if err != nil {
		return identity.User{}, err
	}
	t, err := i.verify(i.context(ctx), m, raw, expected{audiences: i.config.Audiences, most: maxWorkload})
	if err != nil {
		return identity.User{}, fail(say, err)
	}
	user, err := i.config.user(t.claims)
	if err != nil {
		return identity.User{}, fail(say, err)
	}
	return user, nil
}

// unverifiedIssuer reads iss only to choose whose keys judge the token.
func unverifiedIssuer(raw string) (string, error) {
	jws, err := jose.ParseSignedCompact(raw, algorithms())
	if err != nil {
		return "", errors.New("it is no signed JWT")
	}
	var said struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &said); err != nil {
		return "", errors.New("its claims are no JSON object")
	}
	return said.Issuer, nil
}
