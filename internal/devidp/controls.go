package devidp

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Disable makes the provider no longer vouch for the user: sign-in, refresh and
// userinfo fail from now on.
func (p *Provider) Disable(name string) error {
	return p.store.change(name, func(a *account) { a.disabled = true })
}

// Enable undoes Disable. Refresh tokens from before work again.
func (p *Provider) Enable(name string) error {
	return p.store.change(name, func(a *account) { a.disabled = false })
}

// SetGroups changes the user's groups; a gate sees it at its next refresh.
func (p *Provider) SetGroups(name string, groups ...string) error {
	return p.store.change(name, func(a *account) { a.Groups = slices.Clone(groups) })
}

// AskedBefore makes the provider say that it asked for the user so long ago, as one does
// that has a session of its own; where it is told to ask (prompt=login) it says that it did.
func (p *Provider) AskedBefore(name string, ago time.Duration) error {
	return p.store.change(name, func(a *account) { a.asked = ago })
}

// ForgetRefreshTokens makes every refresh fail; people can sign in again.
func (p *Provider) ForgetRefreshTokens() {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	clear(p.store.refresh)
}

// RotateKeys signs with a new key from now on; the keys before still verify.
func (p *Provider) RotateKeys() error {
	key, err := newSigningKey()
	if err != nil {
		return err
	}
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.store.keys = append(p.store.keys, key)
	return nil
}

// SetClock moves the provider's clock ahead of this machine's, or behind it, in the
// tokens that people's sign-ins get.
func (p *Provider) SetClock(ahead time.Duration) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.store.ahead = ahead
}

// WorkloadToken makes a JWT as a pipeline gets it: good for five minutes, for that
// subject and audience, with whatever other claims; those win over the usual ones.
func (p *Provider) WorkloadToken(subject, audience string, claims map[string]any) (string, error) {
	now := time.Now()
	all := map[string]any{
		"iss": p.url, "sub": subject, "aud": audience,
		"iat": now.Unix(), "exp": now.Add(accessLife).Unix(),
	}
	maps.Copy(all, claims)
	return p.store.sign(all)
}

func (s *store) change(name string, how func(*account)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, ok := s.users[name]
	if !ok {
		return fmt.Errorf("there is no user %q", name)
	}
	how(user)
	return nil
}
