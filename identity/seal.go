package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
)

// sealVersion is the first byte of everything sealed, so that another way of
// sealing can follow without guessing.
const sealVersion = 1

// ErrSeal refuses what was sealed by another key, for another sign-in, or changed
// since. It says no more, because nothing more can be known.
var ErrSeal = errors.New("the sealed refresh token does not open: it was changed, moved, or sealed by another key")

// A Sealer keeps refresh tokens in the store unreadable without the gate's key
// (AES-256-GCM with random nonces: one key is good for 2^32 tokens).
type Sealer struct{ aead cipher.AEAD }

// NewSealer makes a Sealer from a key of 256 random bits.
func NewSealer(key [32]byte) (*Sealer, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Sealer{aead: aead}, nil
}

// Seal hides a refresh token. It opens only for the same sign-in, so that a row
// moved to somebody else's sign-in gives nothing.
func (s *Sealer) Seal(refresh Token, signIn string) []byte {
	return s.aead.Seal([]byte{sealVersion}, nil, []byte(refresh), []byte(signIn))
}

// Open gives back what Seal hid for that sign-in. The error is ErrSeal.
func (s *Sealer) Open(sealed []byte, signIn string) (Token, error) {
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return "", ErrSeal
	}
	refresh, err := s.aead.Open(nil, nil, sealed[1:], []byte(signIn))
	if err != nil {
		return "", ErrSeal
	}
	return Token(refresh), nil
}
