package postgres

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"fmt"
	"testing"
)

// What is kept is told apart by all that it was made of: a password that was replaced is
// not answered for by the old one. And it does not grow for ever.
func TestSaltedPasswords(t *testing.T) {
	var s saltedPasswords
	for range 2 {
		for _, c := range []struct {
			password, salt string
			iterations     int
		}{{"secret", "salt", 10}, {"secreT", "salt", 10}, {"secret", "Salt", 10}, {"secret", "salt", 11}, {"secrets", "alt", 10}, {"", "secretsalt", 10}} {
			want, err := pbkdf2.Key(sha256.New, c.password, []byte(c.salt), c.iterations, sha256.Size)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.of([]byte(c.password), []byte(c.salt), c.iterations); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%+v: %x, %v", c, got, err)
			}
		}
	}
	for i := range 2 * maxSalted {
		if _, err := s.of([]byte("secret"), fmt.Append(nil, i), 1); err != nil {
			t.Fatal(err)
		}
		if len(s.kept) > maxSalted {
			t.Fatalf("%d are kept", len(s.kept))
		}
	}
}
