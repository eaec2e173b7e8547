// Package credential finds the secrets that targets ask for, at the moment a
// session needs them. A Secret never prints: not in logs, errors, JSON or %#v.
package credential

import (
	"context"
	"errors"
)

const hidden = "(hidden)"

// A Secret is a password, key or token for a target.
type Secret struct{ value []byte }

// NewSecret keeps a copy of value.
func NewSecret(value []byte) Secret { return Secret{value: append([]byte(nil), value...)} }

// Reveal returns the secret's bytes; the caller must not keep or change them.
func (s Secret) Reveal() []byte { return s.value }

// IsZero reports that there is no secret.
func (s Secret) IsZero() bool { return len(s.value) == 0 }

// String hides the secret.
func (s Secret) String() string { return hidden }

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return hidden }

// MarshalText hides the secret from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// ErrUnknown says that no credential of that name is configured.
var ErrUnknown = errors.New("no such credential")

// A Source finds one secret. Read is called once for each session that needs it,
// so a rotated secret is used at once. Errors name the place, never the content.
type Source interface {
	Read(ctx context.Context) (Secret, error)
	// Where names the place for people: "env:ORDERS_PASSWORD", "file:/etc/...".
	Where() string
}

// A Set maps the credential names of the signed policy to where this machine
// keeps them (proxy.hcl).
type Set map[string]Source

// Read finds the named secret. The error is ErrUnknown where the name is not set up.
func (s Set) Read(ctx context.Context, name string) (Secret, error) {
	source, ok := s[name]
	if !ok {
		return Secret{}, ErrUnknown
	}
	return source.Read(ctx)
}
