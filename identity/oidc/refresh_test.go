package oidc_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/identity"
)

func TestRefreshWithoutIDTokenAsksUserinfo(t *testing.T) {
	h := newHostile(t)
	u := h.accepted(t).User
	h.token = func(w http.ResponseWriter, form url.Values) {
		if form.Get("grant_type") != "refresh_token" || form.Get("refresh_token") != "r2" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		reply(w, map[string]any{"access_token": "access-2", "token_type": "Bearer"})
	}
	h.userinfo = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer access-2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		reply(w, map[string]any{"sub": "alice", "email": "alice@example.com", "email_verified": true, "groups": []string{"dba"}})
	}
	user, next, err := h.party.Refresh(t.Context(), u, "r2")
	if err != nil || !user.In("dba") || next != "" {
		t.Errorf("user %+v, new token %t, %v", user, next != "", err)
	}
	h.userinfo = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"sub": "bob", "email": "alice@example.com", "email_verified": true, "groups": []string{"dba"}})
	}
	_, _, err = h.party.Refresh(t.Context(), u, "r2")
	says(t, err, "told of two people at once")
	h.userinfo = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
	_, _, err = h.party.Refresh(t.Context(), u, "r2")
	says(t, err, "did not say who you are")
	if errors.Is(err, identity.ErrUnreachable) {
		t.Errorf("a no of userinfo looks like an outage: %v", err)
	}
	all := map[string]any{"sub": "alice", "email": "alice@example.com", "email_verified": true, "groups": []string{"dba"}}
	h.userinfo = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(all)
	}
	_, _, err = h.party.Refresh(t.Context(), u, "r2")
	says(t, err, "did not say who you are")
	h.userinfo = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_ = json.NewEncoder(w).Encode(all)
	}
	_, _, err = h.party.Refresh(t.Context(), u, "r2")
	says(t, err, "something other than JSON")
}

func TestRefreshThatSaysNothingIsNoAnswer(t *testing.T) {
	h := newHostile(t)
	h.metadata = map[string]any{"userinfo_endpoint": ""}
	u := h.accepted(t).User
	h.token = func(w http.ResponseWriter, _ url.Values) {
		reply(w, map[string]any{"access_token": "access-2", "token_type": "Bearer"})
	}
	_, _, err := h.party.Refresh(t.Context(), u, "r2")
	says(t, err, "said nothing about you")
}

// An ID token that comes with a refresh is checked as the first one was, though userinfo
// would have said enough.
func TestRefreshWithAWrongIDToken(t *testing.T) {
	h := newHostile(t)
	u := h.accepted(t).User
	h.claims = map[string]any{"aud": "another"}
	h.userinfo = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"sub": "alice", "email": "alice@example.com", "email_verified": true, "groups": []string{"dba"}})
	}
	_, _, err := h.party.Refresh(t.Context(), u, "r2")
	says(t, err, "sent a token that is not right")
}

func TestRefreshKeepsTheNewTokenThroughAnOutage(t *testing.T) {
	h := newHostile(t)
	u := h.accepted(t).User
	h.token = func(w http.ResponseWriter, _ url.Values) {
		reply(w, map[string]any{"access_token": "access-2", "token_type": "Bearer", "refresh_token": "r3"})
	}
	h.userinfo = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	_, next, err := h.party.Refresh(t.Context(), u, "r2")
	if next != "r3" || !errors.Is(err, identity.ErrUnreachable) {
		t.Errorf("new token %t, %v", next != "", err)
	}
}

func TestRefreshOutagesAreToldFromRefusals(t *testing.T) {
	h := newHostile(t)
	u := h.accepted(t).User
	for _, c := range []struct {
		status      int
		code        string
		unreachable bool
	}{{500, "", true}, {503, "invalid_grant", true}, {429, "", true}, {400, "temporarily_unavailable", true}, {400, "invalid_grant", false}, {401, "invalid_client", false}, {403, "", false}} {
		h.token = func(w http.ResponseWriter, _ url.Values) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(c.status)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": c.code})
		}
		_, _, err := h.party.Refresh(t.Context(), u, "r2")
		if err == nil || errors.Is(err, identity.ErrUnreachable) != c.unreachable {
			t.Errorf("%d %s: %v", c.status, c.code, err)
		}
	}
}

func TestRefreshAnswersThatMakeNoSenseAreOutages(t *testing.T) {
	h := newHostile(t)
	u := h.accepted(t).User
	for name, answer := range map[string]func(http.ResponseWriter){
		"error page": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<h1>SECRET</h1>"))
		},
		"half": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "500")
			_, _ = w.Write([]byte(`{"access_token":"SECRET`))
		},
		"broken": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		h.token = func(w http.ResponseWriter, _ url.Values) { answer(w) }
		_, _, err := h.party.Refresh(t.Context(), u, "r2")
		if !errors.Is(err, identity.ErrUnreachable) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
