package identity

import (
	"crypto/rand"
	"math/big"
	"strings"
)

// idLength is the length of 128 bits in base 62: links are copied by hand and by
// double click, so they hold no sign that ends a word.
const idLength = 22

// NewID makes an identifier of 128 random bits: 22 letters and digits, safe in a
// URL, in a file's name and on a command line.
func NewID() string { return random(16, idLength) }

// NewReference makes five characters that cannot be misread, for a person to pass on.
func NewReference() string {
	const letters = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ" // 32: every byte maps evenly
	b := make([]byte, 5)
	_, _ = rand.Read(b) // never fails (see random)
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b)
}

// ValidID reports whether id has the form that NewID gives.
func ValidID(id string) bool { return len(id) == idLength && base62(id) }

// random writes size random bytes in base 62, with zeros before it up to length.
func random(size, length int) string {
	raw := make([]byte, size)
	_, _ = rand.Read(raw) // never fails: crypto/rand.Read ends the program instead
	return pad(new(big.Int).SetBytes(raw), length)
}

func pad(n *big.Int, length int) string {
	text := n.Text(62)
	return strings.Repeat("0", max(0, length-len(text))) + text
}

func base62(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		default:
			return false
		}
	}
	return true
}
