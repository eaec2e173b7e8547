package oidc_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/oidc"
)

func TestWrongClientSecret(t *testing.T) {
	w := newWorld(t)
	w.config.ClientSecret = func(context.Context) ([]byte, error) { return []byte(secret + "x"), nil }
	r := w.party(t)
	attempt, _ := r.Begin(t.Context(), oidc.Beginning{})
	_, err := r.Finish(t.Context(), attempt.Binding, w.answer(t, attempt.URL, "alice"))
	says(t, err, "client_id or client secret")
}

func TestUnreadableClientSecret(t *testing.T) {
	w := newWorld(t)
	w.config.ClientSecret = func(context.Context) ([]byte, error) { return nil, errors.New("file:/x: no such file") }
	_, err := w.party(t).Begin(t.Context(), oidc.Beginning{})
	says(t, err, "client secret: file:/x")
}

func TestWrongCA(t *testing.T) {
	w := newWorld(t)
	_, stranger := pki(t)
	w.config.HTTPClient = stranger
	_, err := w.party(t).Begin(t.Context(), oidc.Beginning{})
	says(t, err, "from an authority that the gate does not know")
}

func TestWrongIssuer(t *testing.T) {
	w := newWorld(t)
	w.config.Issuer += "/"
	_, err := w.party(t).Begin(t.Context(), oidc.Beginning{})
	says(t, err, "is not the configured one")
}

func TestProviderDownAtStartIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	w.config.Issuer = "https://" + addr
	r := w.party(t) // the gate starts
	_, err = r.Begin(t.Context(), oidc.Beginning{})
	says(t, err, "does not answer; try again")
	if !errors.Is(err, identity.ErrUnreachable) {
		t.Errorf("err = %v; want ErrUnreachable", err)
	}
}

func TestSilentProviderDoesNotHoldTheSignIn(t *testing.T) {
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	w.config.Issuer = "https://" + listener.Addr().String()
	r := w.party(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = r.Begin(ctx, oidc.Beginning{})
	says(t, err, "does not answer")
}

func TestConfigIsChecked(t *testing.T) {
	w := newWorld(t)
	good := w.config
	for want, change := range map[string]func(*oidc.Config){
		"must begin with https://":            func(c *oidc.Config) { c.Issuer = "http://idp.example.com" },
		"must have no user, query":            func(c *oidc.Config) { c.Issuer = "https://idp.example.com/#x" },
		"is no URL":                           func(c *oidc.Config) { c.RedirectURL = "" },
		"client_id is missing":                func(c *oidc.Config) { c.ClientID = "" },
		"standing is \"never\"":               func(c *oidc.Config) { c.Standing = "never" },
		"max_age is missing":                  func(c *oidc.Config) { c.Standing = oidc.BySignIn },
		"kind is \"robot\"":                   func(c *oidc.Config) { c.Kind = "robot" },
		"a workload issuer needs an audience": func(c *oidc.Config) { c.Kind, c.ClientID = identity.Workload, "" },
	} {
		c := good
		change(&c)
		if _, err := oidc.New([]oidc.Config{c}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v; want %q", err, want)
		}
	}
	if _, err := oidc.New([]oidc.Config{good, good}); err == nil || !strings.Contains(err.Error(), "configured twice") {
		t.Errorf("twice: err = %v", err)
	}
}

func TestSeveralIssuersNeedAPersonClaim(t *testing.T) {
	w := newWorld(t)
	one, two := w.config, w.config
	two.Issuer = "https://other.example.com"
	one.Person = "employee_number"
	if _, err := oidc.New([]oidc.Config{one, two}); err == nil || !strings.Contains(err.Error(), "need a person claim") {
		t.Errorf("err = %v", err)
	}
	two.Person = "employee_number"
	r, err := oidc.New([]oidc.Config{one, two})
	if err != nil || !slices.Equal(r.Issuers(), []string{one.Issuer, two.Issuer}) {
		t.Errorf("%v", err)
	}
	// and one that lacks it signs in nobody
	attempt, err := r.Begin(t.Context(), oidc.Beginning{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Finish(t.Context(), attempt.Binding, w.answer(t, attempt.URL, "alice"))
	says(t, err, "which joins the accounts of one person, is missing")
}

func TestUnknownIssuer(t *testing.T) {
	w := newWorld(t)
	_, err := w.party(t).Begin(t.Context(), oidc.Beginning{Issuer: "https://other.example.com"})
	says(t, err, "no such identity provider")
}

func TestStandsAloneIsDeclared(t *testing.T) {
	w := newWorld(t)
	if r := w.party(t); r.StandsAlone(w.config.Issuer) || r.StandsAlone("https://other.example.com") {
		t.Error("an issuer stands alone that is not declared so")
	}
	w.config.Standing, w.config.MaxAge = oidc.BySignIn, time.Hour
	r := w.party(t)
	if !r.StandsAlone(w.config.Issuer) {
		t.Error("the declared issuer does not stand alone")
	}
	if signed := w.signIn(t, r, "alice"); signed.Refresh != "" || signed.Expires.Sub(signed.At) != time.Hour {
		t.Errorf("a refresh token: %t; expires after %s", signed.Refresh != "", signed.Expires.Sub(signed.At))
	}
}

func TestMissingRefreshToken(t *testing.T) {
	w := newWorld(t)
	w.config.Scopes = []string{"profile", "email"}
	r := w.party(t)
	attempt, _ := r.Begin(t.Context(), oidc.Beginning{})
	_, err := r.Finish(t.Context(), attempt.Binding, w.answer(t, attempt.URL, "alice"))
	says(t, err, "gave no refresh token")
}

func TestMissingGroups(t *testing.T) {
	w := newWorld(t)
	w.config.Groups = "roles"
	r := w.party(t)
	attempt, _ := r.Begin(t.Context(), oidc.Beginning{})
	_, err := r.Finish(t.Context(), attempt.Binding, w.answer(t, attempt.URL, "alice"))
	says(t, err, `the claim "roles" must be a list of group names`)
}
