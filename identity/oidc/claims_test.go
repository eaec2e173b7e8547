package oidc_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/identity/oidc"
)

func TestDeceivingEmail(t *testing.T) {
	h := newHostile(t)
	for _, address := range []any{
		"alice@evil.example@example.com", "alice@example.com@", "@example.com", "alice@", "alice", "аlice@example.com", // a Cyrillic letter
		"alice@exаmple.com", "alice@example.com\n", "alice@example.com, bob@example.com", `"alice@evil"@example.com`, "alice@example.com>",
		" alice@example.com", "alice@example.com\x00", strings.Repeat("a", 250) + "@example.com", "alice\u202e@example.com",
	} {
		h.claims = map[string]any{"email": address}
		h.refused(t, `the claim "email"`)
	}
	for _, address := range []any{[]string{"alice@example.com"}, 7, map[string]string{}, true} {
		h.claims = map[string]any{"email": address}
		h.refused(t, `the claim "email" must be a string`)
	}
	h.claims = map[string]any{"email": "Alice@Example.com"}
	if got := h.accepted(t); got.User.Email != "Alice@Example.com" {
		t.Errorf("the address became %q", got.User.Email)
	}
}

func TestEmailNotVerified(t *testing.T) {
	h := newHostile(t)
	for _, value := range []any{false, "false", "", 1, "TRUE", []bool{true}} {
		h.claims = map[string]any{"email_verified": value}
		h.refused(t, "email_verified")
	}
	h.claims = map[string]any{"email_verified": "true"}
	h.accepted(t)
}

func TestUnusableGroups(t *testing.T) {
	h := newHostile(t)
	for _, value := range []any{"dba", 7, map[string]string{"a": "b"}, []any{"dba", 7}, []any{[]string{"dba"}}, "null"} {
		h.claims = map[string]any{"groups": value}
		h.refused(t, "must be a list of group names")
	}
	h.claims = map[string]any{"groups": json.RawMessage("null")}
	h.refused(t, "must be a list of group names")
	h.claims = map[string]any{"groups": []string{"ok", ""}}
	h.refused(t, "holds a name that is empty")
	h.claims = map[string]any{"groups": []string{strings.Repeat("g", 257)}}
	h.refused(t, "longer than 256 bytes")
	h.claims = map[string]any{"groups": []string{"dba\x1b[2J"}}
	h.refused(t, "not printable")
	h.claims = map[string]any{"groups": make([]string, 1001)}
	h.refused(t, "more than 1000 groups")
	h.claims = map[string]any{"groups": []string{}}
	h.accepted(t)
}

func TestUnusableSubject(t *testing.T) {
	h := newHostile(t)
	for _, value := range []any{"", nil, strings.Repeat("s", 256), "älice", "a\nb", 7} {
		h.claims = map[string]any{"sub": value}
		h.refused(t, "")
	}
	h.claims = map[string]any{"sub": strings.Repeat("s", 256)}
	h.refused(t, "1 to 255 signs")
	h.claims = map[string]any{"sub": "älice"}
	h.refused(t, "must be plain ASCII")
}

func TestDeceivingNameIsLeftOut(t *testing.T) {
	h := newHostile(t)
	for _, value := range []any{"Alice\x1b[31m", "Alice\u202egro.elpmaxe", strings.Repeat("n", 257), 7} {
		h.claims = map[string]any{"name": value}
		if got := h.accepted(t); got.User.Name != "" {
			t.Errorf("the name became %q", got.User.Name)
		}
	}
	h.claims = map[string]any{"name": "Алиса Ångström"}
	if got := h.accepted(t); got.User.Name != "Алиса Ångström" {
		t.Errorf("the name became %q", got.User.Name)
	}
}

func TestMappedClaims(t *testing.T) {
	h := newHostile(t, func(c *oidc.Config) { c.Claims = map[string]string{"level": "lvl", "team": "team"} })
	h.userinfo = func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]any{"sub": "alice"}) }
	h.claims = map[string]any{"lvl": 12345678901234567}
	if got := h.accepted(t); got.User.Claims["level"] != "12345678901234567" || len(got.User.Claims) != 1 {
		t.Errorf("claims are %q", got.User.Claims)
	}
	h.claims = map[string]any{"lvl": []string{"a"}}
	h.refused(t, `the claim "lvl" must be a string`)
	h.claims = map[string]any{"lvl": "a\nb"}
	h.refused(t, `the claim "lvl" is longer than 256 bytes or not printable`)
}

func TestUserinfoAboutSomebodyElse(t *testing.T) {
	h := newHostile(t)
	h.claims = map[string]any{"groups": nil}
	for _, sub := range []any{"mallory", "", nil} {
		h.userinfo = func(w http.ResponseWriter, _ *http.Request) {
			reply(w, map[string]any{"sub": sub, "groups": []string{"dba"}})
		}
		h.refused(t, "told of two people at once")
	}
}

func TestVerifiedEmailIsNotMixedFromTwoPlaces(t *testing.T) {
	h := newHostile(t)
	// The token's address is verified; userinfo's, which replaces it, is not.
	h.claims = map[string]any{"groups": nil}
	h.userinfo = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"sub": "alice", "groups": []string{}, "email": "ceo@example.com"})
	}
	h.refused(t, "email_verified")
	// The other way about.
	h.claims = map[string]any{"email": "ceo@example.com", "email_verified": nil}
	h.userinfo = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"sub": "alice", "email_verified": true})
	}
	h.refused(t, "email_verified")
}
