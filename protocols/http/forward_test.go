package http

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

func TestScope(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{extra: "websocket = true"})
	alice := w.alice(t)
	upgrade := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-Websocket-Version: 13", "Sec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for _, one := range []struct {
		role, method, path string
		headers            []string
		words              string // empty: passes
	}{
		{"reader", http.MethodGet, "/", nil, ""},
		{"reader", http.MethodHead, "/", nil, ""},
		{"reader", http.MethodOptions, "/", nil, ""},
		{"reader", http.MethodPost, "/", nil, "read-only"},
		{"reader", http.MethodDelete, "/", nil, "read-only"},
		{"reader", "PROPFIND", "/", nil, "read-only"},
		{"reader", "get", "/", nil, "read-only"},
		{"reader", http.MethodGet, "/", upgrade, "read-only"},
		{"some", http.MethodPost, "/public/x", nil, ""},
		{"some", http.MethodPut, "/public/x", nil, "does not have the method PUT"},
		{"some", http.MethodGet, "/public/x", upgrade, "does not have the method WEBSOCKET"},
		{"some", http.MethodGet, "/private", nil, "does not have this path"},
	} {
		s := ask(t, alice, one.method, w.app+one.path, append(one.headers, roleHeader+": "+one.role)...)
		if one.words == "" {
			if s.status != http.StatusOK {
				t.Errorf("%+v: %d %s", one, s.status, s.body)
			}
			app.last(t)
			continue
		}
		s.refused(t, http.StatusForbidden, one.words)
		if p := s.problem(t); p.Open != w.gate+"/requests/new?target=app" {
			t.Errorf("it is not offered to ask for more: %+v", p)
		}
		app.none(t)
	}
	// What a framework takes for another method does not go on.
	ask(t, alice, http.MethodGet, w.app+"/", roleHeader+": reader", "X-Http-Method-Override: DELETE", "X_Original_Url: /admin").refused(t, http.StatusOK, "application")
	if got := app.last(t); got.Header.Get("X-Http-Method-Override") != "" || got.Header.Get("X_Original_Url") != "" {
		t.Errorf("the application was told %v", got.Header)
	}
}

func TestWebsocketsAreDeclared(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	ask(t, w.alice(t), http.MethodGet, w.app+"/", "Connection: Upgrade", "Upgrade: websocket", "Sec-Websocket-Version: 13", "Sec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ==").
		refused(t, http.StatusForbidden, "lets no websockets through")
	app.none(t)
}

// The JWT is one that a target can check with the key set, and with nothing else.
func TestIdentity(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	alice := w.alice(t)
	ask(t, alice, http.MethodGet, w.app+"/").refused(t, http.StatusOK, "application")
	token, err := jwt.ParseSigned(app.last(t).Header.Get(identityHeader), []jose.SignatureAlgorithm{jose.ES256})
	must(t, err)
	var set jose.JSONWebKeySet
	must(t, json.Unmarshal([]byte(ask(t, w.client(t, false), http.MethodGet, w.gate+pathKeys).body), &set))
	var registered jwt.Claims
	var own claims
	must(t, token.Claims(set.Key(token.Headers[0].KeyID)[0], &registered, &own))
	must(t, registered.ValidateWithLeeway(jwt.Expected{Issuer: w.gate, AnyAudience: jwt.Audience{"app"}, Subject: gatetest.Alice.ID(), Time: time.Now()}, 0))
	ask(t, alice, http.MethodGet, w.app+"/").refused(t, http.StatusOK, "application")
	token, err = jwt.ParseSigned(app.last(t).Header.Get(identityHeader), []jose.SignatureAlgorithm{jose.ES256})
	must(t, err)
	var next jwt.Claims
	var same claims
	must(t, token.Claims(set.Key(token.Headers[0].KeyID)[0], &next, &same))
	if next.ID == registered.ID || next.ID == "" || same.Session != own.Session {
		t.Errorf("the next request's is %+v", next)
	}
	if own.Email != "alice@example.com" || own.Role != "user" || registered.ID == "" || own.Session == "" || registered.Expiry.Time().Sub(registered.IssuedAt.Time()) != time.Minute {
		t.Errorf("%+v", own)
	}
}

// Where the policy says for how long, one JWT serves a session's requests, and nobody
// else's; and it is never near its end.
func TestIdentityIsKept(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{extra: `identity_for = "30s"`})
	identity := func(c *http.Client) string {
		t.Helper()
		ask(t, c, http.MethodGet, w.app+"/").refused(t, http.StatusOK, "application")
		return app.last(t).Header.Get(identityHeader)
	}
	alice := w.alice(t)
	if first := identity(alice); first == "" || identity(alice) != first || identity(w.alice(t)) == first {
		t.Error("an identity is not kept, or for another session")
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := newSigner()
		must(t, err)
		l := &live{h: &handler{signer: s}, site: &site{targetOptions: targetOptions{IdentityFor: "20s"}}, claims: claims{}.begin()}
		var before string
		for second := range 100 {
			text, err := l.identity()
			must(t, err)
			if fresh := second%20 == 0; fresh == (text == before) {
				t.Errorf("after %d s the identity is new: %v", second, text != before)
			}
			before = text
			<-time.After(time.Second)
		}
	})
}

// A key is in the set before it signs anything, so that a target which reads the set now
// and then knows it, and after its last token's end; then it is gone.
func TestKeysChange(t *testing.T) {
	s, err := newSigner()
	must(t, err)
	begun := s.keys[0].from
	set := func(after time.Duration) (set jose.JSONWebKeySet) {
		t.Helper()
		answer := httptest.NewRecorder()
		s.jwks(answer, begun.Add(after))
		must(t, json.Unmarshal(answer.Body.Bytes(), &set))
		return set
	}
	sign := func(after time.Duration) *jwt.JSONWebToken {
		t.Helper()
		text, err := s.sign(claims{Subject: "alice"}.begin(), begun.Add(after))
		must(t, err)
		token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
		must(t, err)
		return token
	}
	checks := func(token *jwt.JSONWebToken, set jose.JSONWebKeySet) bool {
		keys := set.Key(token.Headers[0].KeyID)
		return len(keys) == 1 && token.Claims(keys[0]) == nil
	}
	first := sign(0)
	read := set(keyLife - keyLead)
	last := sign(keyLife - time.Second)
	second := sign(keyLife)
	if first.Headers[0].KeyID != last.Headers[0].KeyID || second.Headers[0].KeyID == last.Headers[0].KeyID {
		t.Error("the key does not change after a day, or before")
	}
	if !checks(first, read) || !checks(second, read) {
		t.Error("a target that has read the keys an hour ago does not know the new one")
	}
	if now := set(keyLife + jwtLife); !checks(last, now) || !checks(second, now) {
		t.Error("a token of the old key cannot be checked")
	}
	if late := set(keyLife + keyLinger + time.Second); checks(last, late) || !checks(second, late) {
		t.Error("the old key stays")
	}
	// After days in which nobody asked, the next key waits until targets can know it.
	quiet := sign(10 * keyLife)
	known := set(10 * keyLife)
	if next := sign(10*keyLife + keyLead); next.Headers[0].KeyID == quiet.Headers[0].KeyID || !checks(next, known) {
		t.Error("the key after a quiet time signs before targets can know it")
	}
}

// A target over HTTP/2 and TLS; credentials, early hints and methods as they are.
func TestForwarding(t *testing.T) {
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintf(w, "%s %s %s %s %s %s", r.Method, r.Proto, r.URL.RequestURI(), r.Host, r.Header.Get("Authorization"), body)
	})
	w := newWorld(t, app, options{tls: true, extra: "http2 = true", roles: `role "user" {
    account    = "robot"
    credential = "app"
    options { auth = "basic" }
  }`, secrets: credential.Set{"app": fixed("secret")}})
	alice := w.alice(t)
	hints := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints && h.Get("Link") == "</style.css>" {
			hints++
		}
		return nil
	}})
	r, err := http.NewRequestWithContext(ctx, http.MethodPatch, w.app+"/a%20b?c=d;e", strings.NewReader("body"))
	must(t, err)
	r.Header.Set("Authorization", "Bearer of-the-client")
	res, err := alice.Do(r)
	must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	want := "PATCH HTTP/2.0 /a%20b?c=d;e " + strings.TrimPrefix(w.app, "https://") + " Basic cm9ib3Q6c2VjcmV0 body"
	if string(body) != want || res.StatusCode != http.StatusTeapot || hints != 1 {
		t.Errorf("got %d %q, %d hints", res.StatusCode, body, hints)
	}
}

// fixed is a credential source with one value.
type fixed string

func (f fixed) Read(context.Context) (credential.Secret, error) {
	return credential.NewSecret([]byte(f)), nil
}
func (f fixed) Where() string { return "test" }

// What a client hangs up on is hung up on at the target.
func TestCancellation(t *testing.T) {
	gone := make(chan struct{})
	w := newWorld(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(gone)
	}), options{})
	alice := w.alice(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.app+"/", http.NoBody)
	must(t, err)
	if _, err := alice.Do(r); !errors.Is(err, context.DeadlineExceeded) { //nolint:bodyclose // there is none
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the target goes on")
	}
}

func TestBodyLimit(t *testing.T) {
	w := newWorld(t, newSeen(), options{extra: "max_body = 1000"})
	alice := w.alice(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.app+"/", io.LimitReader(zeros{}, 1001))
	must(t, err)
	res, err := alice.Do(r)
	must(t, err)
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	said{res.StatusCode, res.Header, string(body)}.refused(t, http.StatusRequestEntityTooLarge, "longer than this target takes")
}

// A browser's sign-in is good from where it was given, and for its own person.
func TestVisitorsAddress(t *testing.T) {
	w := newWorld(t, newSeen(), options{})
	browser, _ := w.browser(t, gatetest.Alice)
	walk(t, browser, w.app+"/")
	for _, cookie := range browser.Jar.Cookies(mustURL(t, w.app)) {
		if cookie.Name == visitorCookie {
			ask(t, w.client(t, false), http.MethodGet, w.app+"/", "Cookie: "+cookie.String()).refused(t, http.StatusOK, "application")
			ask(t, w.client(t, false), http.MethodGet, w.app+"/", "Cookie: "+cookie.String()+"; "+cookie.String()).refused(t, http.StatusUnauthorized, "Nothing is opened yet")
			ask(t, w.from(t, "127.0.0.2"), http.MethodGet, w.app+"/", "Cookie: "+cookie.String()).refused(t, http.StatusUnauthorized, "Nothing is opened yet")
		}
	}
}

// A program with a certificate is answered with its request, which stays; one that
// waits is let in by the yes; and its wait's end takes nothing away.
func TestPreferWait(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	by := w.SignIn(t, gatetest.Alice)
	bob := w.SignIn(t, gatetest.Bob)
	c := w.client(t, false, w.certificate(t, by))
	role := roleHeader + ": careful"
	s := ask(t, c, http.MethodGet, w.app+"/", role)
	s.refused(t, http.StatusForbidden, "waits for 1 of: dba")
	p := s.problem(t)
	if p.Request == "" || p.Open != w.gate+"/requests/"+p.Request {
		t.Errorf("%+v", p)
	}
	again := ask(t, c, http.MethodGet, w.app+"/", role, "Prefer: respond-async, wait=1").problem(t)
	if again.Request != p.Request {
		t.Errorf("the wait's end made another request: %+v", again)
	}
	answer := make(chan said, 1)
	go func() {
		s, err := try(t, c, http.MethodGet, w.app+"/", role, "Prefer: wait=20")
		if err != nil {
			t.Error(err)
		}
		answer <- s
	}()
	eventually(t, "nobody waits", func() bool {
		r, err := w.Request(t.Context(), by, p.Request)
		must(t, err)
		return r.Waiting
	})
	app.none(t)
	_, err := w.Decide(t.Context(), bob, p.Request, session.Verdict{Yes: true})
	must(t, err)
	(<-answer).refused(t, http.StatusOK, "application")
	app.last(t)
}

// A role that is not clear is asked for, by page or by problem.
func TestRoleIsChosen(t *testing.T) {
	w := newWorld(t, newSeen(), options{})
	ask(t, w.alice(t), http.MethodGet, w.app+"/", roleHeader+": ../x").refused(t, http.StatusForbidden, "is no name of a role")
	// The newest grant decides where nothing is said.
	by := w.SignIn(t, gatetest.Alice)
	_, err := w.Gate.Ask(t.Context(), by, here, session.NewRequest{Target: "app", Role: "reader"})
	must(t, err)
	c := w.client(t, false, w.certificate(t, by))
	ask(t, c, http.MethodPost, w.app+"/").refused(t, http.StatusForbidden, "read-only")
}

// Nobody's proof is another's: sessions are per certificate, and a sign-in that ended opens nothing.
func TestProofsStayApart(t *testing.T) {
	w := newWorld(t, newSeen(), options{})
	ask(t, w.alice(t), http.MethodGet, w.app+"/").refused(t, http.StatusOK, "application")
	bob := w.client(t, false, w.certificate(t, w.SignIn(t, gatetest.Bob)))
	if s := ask(t, bob, http.MethodGet, w.app+"/"); s.status != http.StatusForbidden {
		t.Errorf("bob got %d %s", s.status, s.body)
	}
	stranger := w.SignIn(t, gatetest.Alice)
	cert := w.certificate(t, stranger)
	must(t, w.SignOut(t.Context(), stranger.ID, "signed out"))
	ask(t, w.client(t, false, cert), http.MethodGet, w.app+"/").refused(t, http.StatusForbidden, "certificate has ended")
}
