package http

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// The parameters of a query are held to the rule, however they are spelled.
func TestScopeOfTheQuery(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
	for _, one := range []struct {
		query string
		words string // empty: passes
	}{
		{"index=public-a", ""},
		{"index=public-a&page=7", ""},
		{"page=7&index=own", ""},
		{"ind%65x=public%2da", ""},
		{"index=public-a+b", ""},
		{"index=own&sum=a%2bb", ""},
		{"index=own&sum=a+b", "does not have this query"}, // some targets read a space
		{"", "only for requests with the parameter index"},
		{"page=7", "only for requests with the parameter index"},
		{"index=secret", "does not have this query"},
		{"index=Public-a", "does not have this query"},
		{"index=", "does not have this query"},
		{"INDEX=public-a", "does not have this query"},
		{"index=public-a&all=1", "does not have this query"},
		{"index=public-a&all", "does not have this query"},
		{"index=public-a&page=x", "does not have this query"},
		{"index=public-a&index=secret", "each parameter of the query once"},
		{"index=public-a&%69ndex=public-b", "each parameter of the query once"},
		{"index[]=public-a", "does not have this query"},
		{"index=public-a;index=secret", "semicolon"},
		{"index=%256fwn", "does not have this query"},
		{"index=%zz", "encoded as it should be"},
		{"%zz=1&index=own", "encoded as it should be"},
	} {
		s := w.raw(t, "app.localhost", "GET /?"+one.query+" HTTP/1.1\r\nHost: "+strings.TrimPrefix(w.app, "https://")+"\r\nSallyport-Role: query\r\nConnection: close\r\n\r\n", cert)
		if one.words == "" {
			if s.status != http.StatusOK {
				t.Errorf("%s: %d %s", one.query, s.status, s.body)
			}
			if got := app.last(t); got.RequestURI != "/?"+one.query {
				t.Errorf("%s was sent on as %s", one.query, got.RequestURI)
			}
			continue
		}
		if s.status < 400 || !strings.Contains(s.body, one.words) {
			t.Errorf("%s: %d %s", one.query, s.status, s.body)
		}
		app.none(t)
	}
}

// Who is refused by the scope is offered to ask for more, and what was given then holds
// at once, without the end of the session that runs.
func TestAskForMore(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	by, bob := w.SignIn(t, gatetest.Alice), w.SignIn(t, gatetest.Bob)
	give := func(readOnly bool) {
		t.Helper()
		r, err := w.Gate.Ask(t.Context(), by, here, session.NewRequest{Target: "app", Role: "careful"})
		must(t, err)
		_, err = w.Decide(t.Context(), bob, r.ID, session.Verdict{Yes: true, Scope: policy.Scope{ReadOnly: readOnly}})
		must(t, err)
	}
	give(true)
	c := w.client(t, false, w.certificate(t, by))
	role := roleHeader + ": careful"
	ask(t, c, http.MethodGet, w.app+"/", role).refused(t, http.StatusOK, "application")
	page := ask(t, c, http.MethodPost, w.app+"/form", role, html)
	page.refused(t, http.StatusForbidden, "Your grant is read-only, and POST may write.")
	page.refused(t, http.StatusForbidden, `<a href="`+w.gate+"/requests/new?target=app&amp;to=%2Fform")
	page.refused(t, http.StatusForbidden, ">Ask for more<")
	s := ask(t, c, http.MethodPost, w.app+"/", role)
	s.refused(t, http.StatusForbidden, "read-only")
	if p := s.problem(t); p.Open != w.gate+"/requests/new?target=app" {
		t.Errorf("offered %+v", p)
	}
	app.last(t)
	app.none(t)
	give(false)
	ask(t, c, http.MethodPost, w.app+"/", role).refused(t, http.StatusOK, "application")
	eventually(t, "the session under the first grant goes on", func() bool {
		list, err := w.Sessions(t.Context(), by, session.Filter{State: "live"})
		must(t, err)
		return len(list) == 1
	})
}

// With loose_paths encoded slashes and empty segments pass as they came. What climbs does
// not, and a grant for some paths has the strict form all the same.
func TestLoosePaths(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{extra: "loose_paths = true"})
	cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
	for _, one := range []struct {
		role, path string
		status     int
	}{
		{"user", "/a%2Fb", 200},
		{"user", "/a%5cb", 200},
		{"user", "/a//b///", 200},
		{"user", "/a%252fb", 200},
		{"user", "/a/../b", 400},
		{"user", "/a/%2e%2e/b", 400},
		{"user", "/a%2f..%2fb", 400},
		{"user", "/a%5C%2e%2E%5Cb", 400},
		{"user", "/a%00b", 400},
		{"some", "/public/a", 200},
		{"some", "/public/a%2fb", 400},
		{"some", "/public//a", 400},
		{"some", "/public/%252e%252e/a", 400},
	} {
		s := w.raw(t, "app.localhost", "GET "+one.path+" HTTP/1.1\r\nHost: "+strings.TrimPrefix(w.app, "https://")+"\r\nSallyport-Role: "+one.role+"\r\nConnection: close\r\n\r\n", cert)
		if s.status != one.status {
			t.Errorf("%s as %s: %d %s", one.path, one.role, s.status, s.body)
		}
		if one.status != http.StatusOK {
			app.none(t)
		} else if got := app.last(t); got.RequestURI != one.path {
			t.Errorf("%s was sent on as %s", one.path, got.RequestURI)
		}
	}
}

// A session of which nothing is asked ends by itself, and the next request opens another
// under the same grant; one that is in use goes on.
func TestIdleSessionsEnd(t *testing.T) {
	w := newWorld(t, liveApp(t), options{idle: "300ms"})
	by := w.SignIn(t, gatetest.Alice)
	sessions := func(state string) []session.Record {
		t.Helper()
		list, err := w.Sessions(t.Context(), by, session.Filter{State: state})
		must(t, err)
		return list
	}
	c := w.client(t, false, w.certificate(t, by))
	ask(t, c, http.MethodGet, w.app+"/").refused(t, http.StatusOK, "application")
	eventually(t, "an idle session goes on", func() bool { return len(sessions("ended")) == 1 })
	if first := sessions("ended")[0]; first.Cause != "closed" {
		t.Errorf("ended: %+v", first)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.app+"/events", http.NoBody)
	must(t, err)
	res, err := c.Do(r)
	must(t, err)
	defer res.Body.Close()
	for begun, buf := time.Now(), make([]byte, 100); time.Since(begun) < time.Second; {
		_, err := res.Body.Read(buf)
		must(t, err)
	}
	if live := sessions("live"); len(live) != 1 || live[0].Grant != sessions("ended")[0].Grant || len(sessions("ended")) != 1 {
		t.Errorf("live %+v, ended %+v", live, sessions("ended"))
	}
}

func TestIdleIsAtMostFiveMinutes(t *testing.T) {
	w := newWorld(t, http.NotFoundHandler(), options{})
	for text, good := range map[string]bool{"": true, "5m": true, "1s": true, "5m1s": false, "0s": false, "-1s": false, "soon": false} {
		_, err := Protocol{}.Configure(proxy.Config{Gate: w.Gate, URL: w.gate, Plaintext: true, Options: func(into any) error {
			into.(*listenerOptions).Idle = text //nolint:forcetypeassert // ours
			return nil
		}})
		if good != (err == nil) || !good && !strings.Contains(err.Error(), "write a duration of at most 5m") {
			t.Errorf("idle = %q: %v", text, err)
		}
	}
}
