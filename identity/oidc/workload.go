package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport/sallyport/identity"
)

// ForUs reports that a JWT names a configured workload issuer and one of its audiences.
// It believes nothing: it tells a pipeline's proof from a credential that is meant for
// somebody else, so that neither ends up with the other.
func (r *RelyingParty) ForUs(shown identity.Token) bool {
	said, err := unverified(shown.Reveal())
	if err != nil {
		return false
	}
	i, ok := r.issuers[said.Issuer]
	return ok && i.config.Kind == identity.Workload && slices.ContainsFunc(said.Audience, func(a string) bool { return slices.Contains(i.config.Audiences, a) })
}

// VerifyWorkload says which pipeline a JWT is of: one of a configured workload
// issuer, for its audience, not over. ends is when it stops proving anything, with the
// skew of clocks in it. A token can be shown again until then, so issuers should make
// them short. The error is a *Failure.
func (r *RelyingParty) VerifyWorkload(ctx context.Context, shown identity.Token) (user identity.User, ends time.Time, err error) {
	const say = "that workload token is not valid; get a new one from the pipeline's issuer"
	raw := shown.Reveal()
	said, err := unverified(raw)
	if err != nil {
		return identity.User{}, time.Time{}, fail(say, err)
	}
	i, ok := r.issuers[said.Issuer]
	if !ok || i.config.Kind != identity.Workload {
		return identity.User{}, time.Time{}, fail(say, errors.New("its issuer is not configured for workloads"))
	}
	m, err := i.discover(ctx)
	if err != nil {
		return identity.User{}, time.Time{}, err
	}
	t, err := i.verify(i.context(ctx), m, raw, expected{audiences: i.config.Audiences, most: maxWorkload})
	if err != nil {
		return identity.User{}, time.Time{}, unproven(say, err)
	}
	if user, err = i.config.user(t.claims); err != nil {
		return identity.User{}, time.Time{}, fail(say, err)
	}
	return user, t.Expiry.Add(skew), nil
}

// claimed is what a token says of itself, before anybody has checked it.
type claimed struct {
	Issuer   string    `json:"iss"`
	Audience audiences `json:"aud"`
}

// audiences are one string or a list of them (RFC 7519, section 4.1.3).
type audiences []string

func (a *audiences) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

// unverified reads iss and aud only to choose whose keys judge the token.
func unverified(raw string) (claimed, error) {
	if len(raw) > maxWorkload {
		return claimed{}, errors.New("it is too long")
	}
	jws, err := jose.ParseSignedCompact(raw, algorithms())
	if err != nil {
		return claimed{}, errors.New("it is no signed JWT")
	}
	var said claimed
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &said); err != nil {
		return claimed{}, errors.New("its claims are no JSON object")
	}
	return said, nil
}
