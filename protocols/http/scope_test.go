package http

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/policy"
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
