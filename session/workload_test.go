package session_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

const pipelineRules = gatetest.Rules + `
rule "deploy" {
  target  = { name = "orders" }
  role    = ["owner"]
  who     = { claims = { repository = "shop/app", ref = "refs/heads/main" } }
  longest = "10m"
}
rule "explain" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { claims = { repository = "shop/app" } }
  longest = "10m"
  reason  = "required"
}
rule "migrate" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { claims = { repository = "shop/app" } }
  longest = "10m"
  approve {
    count = 1
    from  = { groups = ["dba"] }
  }
}
`

func pipelines(t *testing.T) (*gatetest.Fixture, *gatetest.CI) {
	t.Helper()
	ci := gatetest.NewCI(t)
	return gatetest.New(t, gatetest.Options{CI: ci, Rules: pipelineRules}), ci
}

func shows(role string, token identity.Token) session.Ask {
	return askWith(role, identity.Proof{Kind: identity.ByToken, Token: token}, "")
}

func TestPipelineIsLetInByRule(t *testing.T) {
	f, ci := pipelines(t)
	token := ci.Token(t, nil)
	for range 3 {
		s, err := f.Open(t.Context(), shows("owner", token), nil)
		if err != nil {
			t.Fatal(err)
		}
		if u := s.User(); u.Kind != identity.Workload || u.Claims["repository"] != "shop/app" || !s.Proves() {
			t.Fatalf("user %+v", u)
		}
		if err := s.Run(t.Context(), func(context.Context, *session.Upstream) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n, m := f.Count(t, audit.SignedIn), f.Count(t, audit.GrantActive); n != 1 || m != 1 {
		t.Errorf("three connections with one token made %d sign-ins and %d grants", n, m)
	}
	users, err := f.Users(t.Context(), f.SignIn(t, gatetest.Sam))
	if err != nil || len(users) != 2 {
		t.Fatalf("accounts: %+v, %v", users, err)
	}
	for _, e := range f.Events(t) {
		if strings.Contains(string(e.Body), token.Reveal()) {
			t.Fatal("the token is in the log")
		}
	}
}

func TestPipelineTokensThatProveNothing(t *testing.T) {
	f, ci := pipelines(t)
	other := gatetest.NewCI(t)
	whole := ci.Token(t, nil)
	for name, token := range map[string]identity.Token{
		"another audience":      ci.Token(t, map[string]any{"aud": "https://other.example.com"}),
		"another issuer":        other.Token(t, nil),
		"issuer forged":         other.Token(t, map[string]any{"iss": ci.URL()}),
		"over":                  ci.Token(t, map[string]any{"exp": time.Now().Add(-2 * time.Minute).Unix()}),
		"a person's issuer":     ci.Token(t, map[string]any{"iss": gatetest.Alice.Issuer, "sub": "alice"}),
		"cut":                   whole[:len(whole)-9],
		"longer than is looked": ci.Token(t, map[string]any{"pad": strings.Repeat("x", 9000)}),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Open(t.Context(), shows("owner", token), nil)
			wantSays(t, err, "that workload token proves nothing here")
			if !errors.Is(err, session.ErrBadToken) {
				t.Errorf("protocols would let it in first: %v", err)
			}
		})
	}
	if n := f.Count(t, audit.SignedIn); n != 0 {
		t.Errorf("%d sign-ins", n)
	}
}

func TestPipelineOfAnotherBranchIsRefused(t *testing.T) {
	f, ci := pipelines(t)
	_, err := f.Open(t.Context(), shows("owner", ci.Token(t, map[string]any{"ref": "refs/heads/evil"})), nil)
	wantSays(t, err, "no rule lets you use orders as owner")
}

// Class: a remembered yes that matches too widely; a remembered yes for one token opens
// for the user's other tokens.
func TestAYesForOneRunOpensNothingForTheNext(t *testing.T) {
	f, ci := pipelines(t)
	bob := f.SignIn(t, gatetest.Bob)
	first := shows("writer", ci.Token(t, nil))
	first.NoWait = true
	_, err := f.Open(t.Context(), first, nil)
	var held *session.Held
	if !errors.As(err, &held) {
		t.Fatal(err)
	}
	other := shows("writer", ci.Token(t, map[string]any{"run_id": "3"}))
	other.NoWait = true
	var theirs *session.Held
	if _, err := f.Open(t.Context(), other, nil); !errors.As(err, &theirs) || theirs.Request == held.Request {
		t.Fatalf("another run waits for the same yes: %v", err)
	}
	// The same run with a fresh token waits for the same yes, and is served by it.
	fresh := ci.Token(t, map[string]any{"jti": "2"})
	again := shows("writer", fresh)
	again.NoWait = true
	var same *session.Held
	if _, err := f.Open(t.Context(), again, nil); !errors.As(err, &same) || same.Request != held.Request {
		t.Fatalf("the same run asks anew: %v", err)
	}
	if _, err := f.Decide(t.Context(), bob, held.Request, session.Verdict{Yes: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(t.Context(), again, nil); err != nil {
		t.Fatal(err)
	}
	next := shows("writer", ci.Token(t, map[string]any{"run_id": "2"}))
	next.NoWait = true
	if _, err := f.Open(t.Context(), next, nil); !errors.As(err, &same) || same.Request == held.Request {
		t.Fatalf("another run: %v", err)
	}
	// A policy that changes judges each run by its own claims.
	if err := f.Reload(t.Context(), f.Sign(t, pipelineRules), audit.Event{Type: audit.PolicyLoaded, Actor: "gate"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(t.Context(), again, nil); err != nil {
		t.Fatal(err)
	}
}

func TestNobodyApprovesAPipelineThatTheySetGoing(t *testing.T) {
	f, ci := pipelines(t)
	a := shows("writer", ci.Token(t, map[string]any{"owner": "Bob@example.com"}))
	a.NoWait = true
	_, err := f.Open(t.Context(), a, nil)
	var held *session.Held
	if !errors.As(err, &held) {
		t.Fatal(err)
	}
	_, err = f.Decide(t.Context(), f.SignIn(t, gatetest.Bob), held.Request, session.Verdict{Yes: true})
	wantSays(t, err, "nobody decides on a request of a pipeline that they set going")
	if _, err := f.Decide(t.Context(), f.SignIn(t, gatetest.Carol), held.Request, session.Verdict{Yes: true}); err != nil {
		t.Fatal(err)
	}
}

func TestADisabledPipelineIsShutOut(t *testing.T) {
	f, ci := pipelines(t)
	token := ci.Token(t, nil)
	s, err := f.Open(t.Context(), shows("owner", token), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := run(s)
	<-r.up
	if err := f.Disable(t.Context(), f.SignIn(t, gatetest.Sam), s.User().ID(), "leaked"); err != nil {
		t.Fatal(err)
	}
	wantSays(t, <-r.ended, "your account was disabled by sam@example.com: leaked")
	_, err = f.Open(t.Context(), shows("owner", token), nil)
	wantSays(t, err, "that workload token proves nothing here")
	_, err = f.Open(t.Context(), shows("owner", ci.Token(t, map[string]any{"jti": "2"})), nil)
	wantSays(t, err, "your account is disabled at this gate")
}

func TestPipelinesSignInEndsWithItsToken(t *testing.T) {
	f, ci := pipelines(t)
	changes := f.Watch(t.Context())
	token := ci.Token(t, map[string]any{"ref": "refs/heads/evil", "exp": time.Now().Add(-58 * time.Second).Unix()}) // a minute of skew
	_, err := f.Open(t.Context(), shows("owner", token), nil)
	wantSays(t, err, "no rule lets you use orders as owner")
	for n := 0; n < 2; { // begun, ended
		if c := <-changes; c.Kind == "sign-in" {
			n++
		}
	}
	if n := f.Count(t, audit.SignedOut); n != 1 {
		t.Errorf("%d entries of the end", n)
	}
	_, err = f.Open(t.Context(), shows("owner", token), nil)
	wantSays(t, err, "that workload token proves nothing here")
}

// Clients that cut their passwords take a grant token instead, for the same run only.
func TestPipelineExchangesItsTokenForAGrants(t *testing.T) {
	f, ci := pipelines(t)
	n := session.NewRequest{Target: "orders", Role: "owner"}
	token, _, err := f.WorkloadToken(t.Context(), ci.Token(t, nil), here, n)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(t.Context(), shows("owner", token), nil); err != nil {
		t.Fatal(err)
	}
	_, err = f.Open(t.Context(), shows("writer", token), nil)
	wantSays(t, err, "that token is not valid")
	_, err = f.SignInByToken(t.Context(), ci.Token(t, nil))
	wantSays(t, err, "that is not a token of this gate")
	_, _, err = f.WorkloadToken(t.Context(), ci.Token(t, nil), here, session.NewRequest{Target: "orders", Role: "reader"})
	wantSays(t, err, "say why you need this")
	token, _, err = f.WorkloadToken(t.Context(), ci.Token(t, nil), here, session.NewRequest{Target: "orders", Role: "reader", Reason: "release 7"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := f.Open(t.Context(), shows("reader", token), nil); err != nil || s.Grant().Reason != "release 7" {
		t.Fatalf("%v", err)
	}
	_, _, err = f.WorkloadToken(t.Context(), ci.Token(t, map[string]any{"aud": "https://other.example.com"}), here, n)
	wantSays(t, err, "that workload token proves nothing here")
	_, _, err = f.WorkloadToken(t.Context(), ci.Token(t, nil), here, session.NewRequest{Target: "orders", Role: "writer"})
	wantSays(t, err, "waits for 1 of: dba")
}
