package http

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// Nothing of the gate's own on a target's host can be framed, so that nobody clicks what
// they do not see; and in a frame nobody is signed in. What the target says of its own
// pages is left to it.
func TestClickjacking(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Frame-Options", "SAMEORIGIN")
		_, _ = io.WriteString(w, "application")
	}), options{})
	browser, by := w.browser(t, gatetest.Alice)
	unframed := func(what string, s said) {
		t.Helper()
		if s.status < 400 || s.head.Get("X-Frame-Options") != "DENY" || !strings.Contains(s.head.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s: %d %v", what, s.status, s.head)
		}
	}
	unframed("no such page", ask(t, browser, http.MethodGet, w.app+"/.sallyport/x", html))
	unframed("a code that is none", ask(t, browser, http.MethodGet, w.app+"/.sallyport/enter?code=x", html))
	unframed("another site's form", ask(t, browser, http.MethodPost, w.app+"/", html, "Sec-Fetch-Site: cross-site"))
	nonce := encode(make([]byte, 32))
	for _, dest := range []string{"iframe", "frame", "object", "embed", "image", "script"} {
		s := ask(t, browser, http.MethodGet, w.gate+"/.sallyport/open?target=app&nonce="+nonce, html, "Sec-Fetch-Dest: "+dest)
		s.refused(t, http.StatusBadRequest, "in a browser&#39;s window")
		unframed("signing in within "+dest, s)
	}
	page, _ := walk(t, browser, w.app+"/")
	if page.body != "application" || page.head.Get("X-Frame-Options") != "SAMEORIGIN" || page.head.Get("Content-Security-Policy") != "" {
		t.Errorf("the application's page came as %d %v", page.status, page.head)
	}
	reader, _ := w.browser(t, gatetest.Alice)
	walk(t, reader, w.app+"/.sallyport/begin?role=reader&to=/")
	unframed("outside the scope", ask(t, reader, http.MethodPost, w.app+"/", html))
	must(t, w.SignOut(t.Context(), by.ID, "signed out"))
	eventually(t, "the session goes on", func() bool {
		list, err := w.Sessions(t.Context(), w.SignIn(t, gatetest.Sam), session.Filter{State: "live", User: gatetest.Alice.ID(), Role: "user"})
		must(t, err)
		return len(list) == 0
	})
	ended := ask(t, browser, http.MethodGet, w.app+"/", html)
	ended.refused(t, http.StatusForbidden, "You are signed out")
	unframed("an ended session", ended)
}

// What a target is given, and what its pages can have a browser send, is nothing to the
// gate's own API.
func TestTargetReachesNoAPI(t *testing.T) {
	app := newSeen()
	w, _, issuer := withPages(t, app)
	alice := gatetest.Alice
	alice.Issuer = issuer
	browser, by := w.browser(t, alice)
	walk(t, browser, w.app+"/")
	identity := app.last(t).Header.Get(identityHeader)
	ask(t, browser, http.MethodGet, w.gate+"/api/v1/grants").refused(t, http.StatusOK, "grants")
	// A page of the target's, in the person's browser, with the person's cookies.
	for _, from := range []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Site: cross-site", "Origin: " + w.app, "Origin: null"} {
		s := ask(t, browser, http.MethodPost, w.gate+"/api/v1/requests", from, "Content-Type: application/json")
		s.refused(t, http.StatusForbidden, "This came from another site")
		if s.head.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("another site may read %v", s.head)
		}
	}
	if s := ask(t, browser, http.MethodGet, w.gate+"/api/v1/grants", "Origin: "+w.app); s.head.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another site may read %v", s.head)
	}
	socket := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-Websocket-Version: 13", "Sec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	ask(t, browser, http.MethodGet, w.gate+"/live", append(socket, "Origin: "+w.app)...).refused(t, http.StatusForbidden, "")
	// The target itself, with what it was told of the person, and with the person's token.
	grants, err := w.Grants(t.Context(), by, session.Filter{})
	must(t, err)
	token, _, err := w.GrantToken(t.Context(), by, grants[0].ID)
	must(t, err)
	for _, proof := range []string{"Authorization: Bearer " + identity, identityHeader + ": " + identity, "Authorization: Bearer " + token.Reveal(), "X-Forwarded-User: alice@example.com"} {
		if s := ask(t, w.client(t, false), http.MethodGet, w.gate+"/api/v1/grants", proof); s.status != http.StatusUnauthorized {
			t.Errorf("%.40s: %d %s", proof, s.status, s.body)
		}
	}
	// On the target's own host the API's paths are the target's.
	ask(t, browser, http.MethodGet, w.app+"/api/v1/grants").refused(t, http.StatusOK, "application")
	if requests, err := w.Requests(t.Context(), by, session.Filter{State: string(session.RequestPending)}); err != nil || len(requests) > 0 {
		t.Errorf("%d requests were made (%v)", len(requests), err)
	}
}

// Where a target sends somebody is theirs to follow: the gate goes nowhere itself, with
// whatever method and status it is told to.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := newSeen()
	other := newWorld(t, elsewhere, options{})
	inside := other.target.URL
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		code := map[string]int{"/301": 301, "/302": 302, "/303": 303, "/307": 307, "/308": 308, "/300": 300}[r.URL.Path]
		w.Header().Set("Location", inside+"/admin")
		w.WriteHeader(code)
	}), options{})
	alice := w.alice(t)
	for _, path := range []string{"/300", "/301", "/302", "/303", "/307", "/308"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			s := ask(t, alice, method, w.app+path)
			at, err := url.Parse(s.head.Get("Location"))
			must(t, err)
			if s.status/100 != 3 || at.String() != inside+"/admin" {
				t.Errorf("%s %s: %d to %s", method, path, s.status, at)
			}
		}
	}
	elsewhere.none(t)
}
