package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"
)

// The parts of a token: a prefix that people and secret scanners recognise, 256
// random bits in base 62, and a CRC-32 in base 62, so that a cut or mistyped token
// is told from an unknown one without asking the store.
const (
	grantPrefix   = "spg_"
	apiPrefix     = "spa_"
	prefixLength  = 4
	secretLength  = 43 // 62^43 > 2^256
	checkLength   = 6  // 62^6 > 2^32
	tokenLength   = prefixLength + secretLength + checkLength
	unknownPrefix = ""
)

// ErrNotToken refuses what has not the form of a token of ours: cut, mistyped, or
// something else altogether.
var ErrNotToken = errors.New("this is no token of the gate: a whole one starts with spg_ or spa_ and has 53 signs")

// NewToken makes a token for the purpose and the hash by which it is kept. The
// purpose is ForGrant or ForAPI; anything else is a programming error and panics.
func NewToken(purpose TokenPurpose) (Token, [32]byte) {
	prefix := prefixOf(purpose)
	if prefix == unknownPrefix {
		panic("identity: no token has the purpose " + string(purpose))
	}
	body := prefix + random(32, secretLength)
	token := Token(body + checksum(body))
	return token, HashToken(token)
}

// HashToken is the SHA-256 of the whole token: what is kept and looked up. A slow
// hash adds nothing to 256 random bits.
func HashToken(t Token) [32]byte { return sha256.Sum256([]byte(t)) }

// PurposeOf says what the token is for, by its form alone: whether it is known and
// still good is the gate's word. The error is ErrNotToken.
func PurposeOf(t Token) (TokenPurpose, error) {
	// The length comes first: it bounds all further work on bytes from outside.
	if len(t) != tokenLength {
		return "", ErrNotToken
	}
	body, check := string(t[:tokenLength-checkLength]), string(t[tokenLength-checkLength:])
	if !base62(body[prefixLength:]) {
		return "", ErrNotToken
	}
	if subtle.ConstantTimeCompare([]byte(checksum(body)), []byte(check)) != 1 {
		return "", ErrNotToken
	}
	switch body[:prefixLength] {
	case grantPrefix:
		return ForGrant, nil
	case apiPrefix:
		return ForAPI, nil
	}
	return "", ErrNotToken
}

// IsJWT reports that a token has the outer form of a signed JWT (RFC 7515, section 7.1),
// which no token of the gate has. It says nothing of whether it proves anything.
func (t Token) IsJWT() bool {
	return strings.HasPrefix(string(t), "eyJ") && strings.Count(string(t), ".") == 2
}

func prefixOf(purpose TokenPurpose) string {
	switch purpose {
	case ForGrant:
		return grantPrefix
	case ForAPI:
		return apiPrefix
	}
	return unknownPrefix
}

func checksum(body string) string {
	return pad(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(body)))), checkLength)
}
