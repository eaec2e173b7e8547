package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestNewIDIsURLSafe(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		if !ValidID(id) {
			t.Fatalf("NewID gave %q, which ValidID refuses", id)
		}
		if seen[id] {
			t.Fatalf("NewID gave %q twice", id)
		}
		seen[id] = true
	}
	for _, bad := range []string{"", "short", strings.Repeat("a", 23), strings.Repeat("-", 22), strings.Repeat("a", 21) + "/"} {
		if ValidID(bad) {
			t.Errorf("ValidID(%q) is true", bad)
		}
	}
}

func TestTokenPurposes(t *testing.T) {
	for purpose, prefix := range map[TokenPurpose]string{ForGrant: "spg_", ForAPI: "spa_"} {
		token, hash := NewToken(purpose)
		if !strings.HasPrefix(token.Reveal(), prefix) {
			t.Errorf("a token for %s begins with %q", purpose, token.Reveal()[:4])
		}
		if HashToken(token) != hash {
			t.Errorf("HashToken differs from the hash that NewToken gave")
		}
		got, err := PurposeOf(token)
		if err != nil || got != purpose {
			t.Errorf("PurposeOf = %q, %v; want %q", got, err, purpose)
		}
	}
}

func TestTokenWithTypoIsNoToken(t *testing.T) {
	token, _ := NewToken(ForGrant)
	whole := token.Reveal()
	for at := range whole {
		changed := []byte(whole)
		changed[at] ^= 1
		if _, err := PurposeOf(Token(changed)); !errors.Is(err, ErrNotToken) {
			t.Errorf("sign %d changed: err = %v", at, err)
		}
	}
	for _, bad := range []string{"", whole[:52], whole + "0", " " + whole, strings.Repeat("x", 1<<20)} {
		if _, err := PurposeOf(Token(bad)); !errors.Is(err, ErrNotToken) {
			t.Errorf("%d signs: err = %v", len(bad), err)
		}
	}
}

func TestTokenOfUnknownPurposeIsNoToken(t *testing.T) {
	body := "spx_" + strings.Repeat("a", secretLength)
	if _, err := PurposeOf(Token(body + checksum(body))); !errors.Is(err, ErrNotToken) {
		t.Errorf("err = %v", err)
	}
	body = "spg_" + strings.Repeat("!", secretLength)
	if _, err := PurposeOf(Token(body + checksum(body))); !errors.Is(err, ErrNotToken) {
		t.Errorf("signs outside base 62: err = %v", err)
	}
}

func TestTokenNeverPrints(t *testing.T) {
	token, _ := NewToken(ForAPI)
	for _, format := range []string{"%v", "%s", "%q", "%#v", "%+v", "%x"} {
		if text := fmt.Sprintf(format, token); strings.Contains(text, token.Reveal()) || strings.Contains(text, fmt.Sprintf("%x", token.Reveal())) {
			t.Errorf("%s prints the token", format)
		}
	}
}

func TestPhrasesShareNoWord(t *testing.T) {
	places := map[int]int{}
	for range 2000 {
		right, three := NewPhrases()
		at := slices.Index(three, right)
		if at < 0 || len(three) != 3 {
			t.Fatalf("%q is not among %q", right, three)
		}
		places[at]++
		seen := map[string]bool{}
		for _, phrase := range three {
			words := strings.Fields(phrase)
			if len(words) != 2 {
				t.Fatalf("%q is not two words", phrase)
			}
			for _, word := range words {
				if seen[word] {
					t.Fatalf("%q is in two of %q", word, three)
				}
				seen[word] = true
			}
		}
	}
	for at := range 3 {
		if places[at] < 500 {
			t.Errorf("the right phrase is at place %d only %d times of 2000", at, places[at])
		}
	}
}

func TestWordsAreShortAndDistinct(t *testing.T) {
	all := append(slices.Clone(adjectives), nouns...)
	if len(adjectives) != 256 || len(nouns) != 256 {
		t.Errorf("%d adjectives and %d nouns; want 256 each", len(adjectives), len(nouns))
	}
	seen := map[string]bool{}
	for _, word := range all {
		if seen[word] {
			t.Errorf("%q is there twice", word)
		}
		seen[word] = true
		if len(word) < 3 || len(word) > 8 || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz") != "" {
			t.Errorf("%q is not 3 to 8 small letters", word)
		}
	}
}

func TestSealedTokenOpensOnlyForItsSignIn(t *testing.T) {
	sealer, err := NewSealer([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	sealed := sealer.Seal("refresh-secret", "one")
	if strings.Contains(string(sealed), "refresh") {
		t.Error("the sealed token is readable")
	}
	if got, err := sealer.Open(sealed, "one"); err != nil || got.Reveal() != "refresh-secret" {
		t.Errorf("Open = %q, %v", got.Reveal(), err)
	}
	other, _ := NewSealer([32]byte{2})
	changed := slices.Clone(sealed)
	changed[len(changed)-1] ^= 1
	versioned := slices.Clone(sealed)
	versioned[0] = 9
	for name, try := range map[string]func() (Token, error){
		"another sign-in": func() (Token, error) { return sealer.Open(sealed, "two") },
		"another key":     func() (Token, error) { return other.Open(sealed, "one") },
		"changed":         func() (Token, error) { return sealer.Open(changed, "one") },
		"version":         func() (Token, error) { return sealer.Open(versioned, "one") },
		"empty":           func() (Token, error) { return sealer.Open(nil, "one") },
		"cut":             func() (Token, error) { return sealer.Open(sealed[:5], "one") },
	} {
		if got, err := try(); !errors.Is(err, ErrSeal) || got != "" {
			t.Errorf("%s: Open = %q, %v; want ErrSeal", name, got.Reveal(), err)
		}
	}
}

func FuzzPurposeOf(f *testing.F) {
	token, _ := NewToken(ForGrant)
	f.Add(token.Reveal())
	f.Add("spa_")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		purpose, err := PurposeOf(Token(s))
		if err != nil {
			if purpose != "" {
				t.Errorf("a purpose %q beside an error", purpose)
			}
			return
		}
		if len(s) != tokenLength || !strings.HasPrefix(s, prefixOf(purpose)) {
			t.Errorf("%q was taken for a token", s)
		}
	})
}
