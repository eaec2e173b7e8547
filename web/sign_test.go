package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/devidp"
)

// Class: session hijack by a known id (fixation); sign-in state shared between users.
func TestSessionIsRotatedAtSignIn(t *testing.T) {
	f := start(t)
	b := f.browser(t)
	planted := newSecret()
	b.setCookie(cookieName, planted)
	b.signIn("/login", "alice").want(t, 200, "alice")
	first := b.cookie(cookieName)
	if first == planted || len(first) != 43 {
		t.Fatalf("the cookie after sign-in is the planted one, or not 256 bits: %q", first)
	}
	other := f.browser(t)
	other.setCookie(cookieName, planted)
	other.api("GET", "/api/v1/whoami", "", nil).want(t, 401, "not signed in")
	b.signIn("/login?again=1", "alice").want(t, 200)
	if second := b.cookie(cookieName); second == first {
		t.Fatal("a second sign-in kept the cookie")
	}
	for _, kept := range []string{"__Host-sallyport-begin"} {
		if b.cookie(kept) == b.cookie(cookieName) {
			t.Fatal("both cookies have one value")
		}
	}
}

// The sign-in of somebody else in the same browser ends with the next one.
func TestNextPersonEndsTheSignInBefore(t *testing.T) {
	f := start(t)
	b := f.as(t, "alice")
	alice := b.cookie(cookieName)
	b.signIn("/login?again=1", "bob").want(t, 200, "bob")
	other := f.browser(t)
	other.setCookie(cookieName, alice)
	other.api("GET", "/api/v1/whoami", "", nil).want(t, 401)
}

// Class: login CSRF, replayed state; SSO identity not bound to the login that started it.
func TestLoginCSRF(t *testing.T) {
	f := start(t)
	attacker := f.browser(t)
	// The attacker stops before the callback, and sends its address to the victim.
	attacker.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == "/callback" {
			return http.ErrUseLastResponse
		}
		return nil
	}
	reply, err := devidp.SignInBrowser(attacker.client, f.base+"/login", "bob", f.people["bob"].Password)
	fatal(t, err)
	callback := read(t, reply).want(t, 302).header.Get("Location")

	victim := f.browser(t)
	victim.get(callback).want(t, 400, "This sign-in was not begun in this browser")
	if victim.cookie(cookieName) != "" {
		t.Fatal("the victim's browser was signed in by the attacker's address")
	}
	begun := f.browser(t)
	begun.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	begun.get("/login").want(t, 303)
	begun.get(callback).want(t, 403, "begun in another browser")
	if begun.cookie(cookieName) != "" {
		t.Fatal("another browser's sign-in was taken")
	}
	// It was used up by that; also replaying one's own is refused.
	attacker.get(callback).want(t, 403, "used already")
}

// Class: cookie flags.
func TestCookieFlags(t *testing.T) {
	f := start(t)
	b := f.browser(t)
	seen := map[string]bool{}
	check := func(h http.Header) {
		for _, line := range h["Set-Cookie"] {
			name, _, _ := strings.Cut(line, "=")
			seen[name] = true
			for _, flag := range []string{"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} {
				if !strings.Contains(line, "; "+flag) {
					t.Errorf("%s lacks %s: %s", name, flag, line)
				}
			}
			if strings.Contains(line, "Domain=") || !strings.HasPrefix(name, "__Host-") {
				t.Errorf("%s is not bound to this host", line)
			}
		}
	}
	b.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		check(r.Response.Header)
		return nil
	}
	b.signIn("/login", "alice").want(t, 200)
	check(b.post("/logout").want(t, 200, "You are signed out").header)
	if !seen[cookieName] || !seen[beginName] {
		t.Fatalf("cookies seen: %v", seen)
	}
}

func TestLogoutEndsTheSignIn(t *testing.T) {
	f := start(t)
	b := f.as(t, "alice")
	kept := b.cookie(cookieName)
	b.get("/").want(t, 200)
	b.post("/logout").want(t, 200, "You are signed out")
	if b.cookie(cookieName) != "" {
		t.Error("the browser still has the cookie")
	}
	b.setCookie(cookieName, kept)
	b.api("GET", "/api/v1/whoami", "", nil).want(t, 401)
}

// Class: open redirect.
func TestNoOpenRedirect(t *testing.T) {
	f := start(t)
	b := f.browser(t)
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	bad := []string{
		"https://evil.example/", "//evil.example/", `/\evil.example/`, `\\evil.example`, "/\t/evil.example", "/%09/evil.example", "javascript:alert(1)",
		"https:evil.example", "///evil.example", "/\r\nLocation: https://evil.example", "/@evil.example:443//x\\", "http://127.0.0.1:1/", "evil.example", "",
	}
	own, _ := url.Parse(f.base)
	idp, _ := url.Parse(f.idp.URL())
	for _, to := range bad {
		for _, path := range []string{"/login?to=" + url.QueryEscape(to), "/login?again=1&to=" + url.QueryEscape(to), "/?to=" + url.QueryEscape(to), "/h/x?to=" + url.QueryEscape(to), "/" + url.PathEscape(to), "/" + strings.ReplaceAll(url.PathEscape(to), "%2F", "/")} {
			at, err := url.Parse(f.base + path)
			if err != nil {
				continue
			}
			a := b.get(at.String())
			location, err := own.Parse(a.header.Get("Location"))
			if a.header.Get("Location") == "" {
				continue
			}
			if err != nil || location.Host != own.Host && location.Host != idp.Host {
				t.Errorf("%s leads to %s", path, a.header.Get("Location"))
			}
		}
		if got := local(to); !strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//") || strings.Contains(got, "\\") {
			t.Errorf("local(%q) = %q", to, got)
		}
	}
	signedIn := f.browser(t)
	for _, to := range []string{"https://evil.example/", "//evil.example/", `/\evil.example/`} {
		if a := signedIn.signIn("/login?again=1&to="+url.QueryEscape(to), "alice"); a.url.Host != own.Host || a.url.Path != "/" {
			t.Errorf("after signing in for %q: %s", to, a.url)
		}
	}
	if a := signedIn.signIn("/login?again=1&to=/grants", "alice"); a.url.Path != "/grants" {
		t.Errorf("a page of ours is not gone back to: %s", a.url)
	}
	for _, port := range []string{"80", "0", "70000", "08080", "8080@evil.example", "8080/x", "-1", "x"} {
		b.get("/cli/login?host=h&challenge="+strings.Repeat("a", 43)+"&port="+url.QueryEscape(port)).want(t, 400, "not an address that")
	}
}

func FuzzLocal(f *testing.F) {
	for _, s := range []string{"/", "//x", `/\x`, "/a?b=c#d", "https://x", "/%2f/x", "/\x00", "/a//b"} {
		f.Add(s)
	}
	base, _ := url.Parse("https://gate.example/deep/page")
	f.Fuzz(func(t *testing.T, to string) {
		got := local(to)
		u, err := base.Parse(got)
		if err != nil || u.Host != "gate.example" || u.Scheme != "https" || strings.HasPrefix(got, "//") || strings.ContainsAny(got, "\\\r\n\t") {
			t.Fatalf("local(%q) = %q leads to %v", to, got, u)
		}
	})
}

// The command line's sign-in: RFC 8252 and RFC 7636.
func TestCommandLineSignIn(t *testing.T) {
	f := start(t)
	verifier, challenge := pkce()
	b := f.browser(t)
	page := b.get("/cli/login?host=laptop&port=40404&state=xyz&challenge="+challenge).want(t, 200, "Sign in on the command line of", "laptop")
	if !strings.Contains(page.header.Get("Content-Security-Policy"), "http://127.0.0.1:40404") {
		t.Error("browsers would stop the redirect to the loopback port")
	}
	exchange := func(code, verifier string) answer {
		return b.api("POST", "/api/v1/cli/token", "", cliExchange{Code: code, Verifier: verifier})
	}
	code := b.cliCode("alice", challenge)
	if b.cookie(cookieName) != "" {
		t.Error("the browser was signed in too")
	}
	wrong, _ := pkce()
	exchange(code, wrong).want(t, 400, "That code is wrong, was used")
	exchange(code, verifier).want(t, 400, "That code is wrong, was used") // a wrong try used it up

	code = b.cliCode("alice", challenge)
	got := decode[cliCredentials](t, exchange(strings.ToLower(code), verifier).want(t, 200))
	exchange(code, verifier).want(t, 400, "That code is wrong, was used")
	if got.User.Email != "alice@example.com" || got.Certificate != "" {
		t.Errorf("credentials for %s", got.User)
	}
	b.api("GET", "/api/v1/whoami", got.Token, nil).want(t, 200, "alice@example.com", `"via":"cli"`)

	code = b.cliCode("alice", challenge)
	f.ahead.Store(int64(codeLife + time.Second))
	exchange(code, verifier).want(t, 400, "older than five minutes")
}

// The browser is sent to the loopback port, and nowhere else.
func TestCommandLineRedirect(t *testing.T) {
	f := start(t)
	_, challenge := pkce()
	b := f.browser(t)
	b.client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Port() == "40404" {
			return http.ErrUseLastResponse
		}
		if via[0].Method == "POST" && via[0].URL.Path == "/cli/login" {
			return http.ErrUseLastResponse
		}
		return nil
	}
	to := b.post("/cli/login", "host", "laptop", "port", "40404", "challenge", challenge, "state", "xyz").want(t, 303).header.Get("Location")
	reply, err := devidp.SignInBrowser(b.client, to, "alice", f.people["alice"].Password)
	fatal(t, err)
	back := read(t, reply).want(t, 303).header.Get("Location")
	u, err := url.Parse(back)
	fatal(t, err)
	if u.Scheme != "http" || u.Host != "127.0.0.1:40404" || u.Path != "/callback" || u.Query().Get("state") != "xyz" || len(u.Query().Get("code")) != 19 {
		t.Errorf("the browser is sent to %s", back)
	}
}

// Without the confirming POST there is no code, whoever opens the address.
func TestCommandLineNeedsTheButton(t *testing.T) {
	f := start(t)
	_, challenge := pkce()
	b := f.as(t, "alice")
	b.get("/cli/login?host=laptop&port=40404&challenge="+challenge).want(t, 200, "Sign in on the command line of")
	f.web.codes.mu.Lock()
	defer f.web.codes.mu.Unlock()
	if len(f.web.codes.given) != 0 {
		t.Error("opening the page began something")
	}
}

// Command lines begun by nobody in particular push out no other, and an address of
// somebody's making begins none.
func TestCommandLineSignInSurvivesAFlood(t *testing.T) {
	f := start(t)
	verifier, challenge := pkce()
	b := f.browser(t)
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	to := b.post("/cli/login", "host", "laptop", "challenge", challenge, "state", "s").want(t, 303).header.Get("Location")
	for range maxCodes + 100 {
		r := httptest.NewRequest("POST", f.base+"/cli/login", strings.NewReader(url.Values{"host": {"h"}, "challenge": {challenge}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = "198.51.100.23:4000"
		w := httptest.NewRecorder()
		if f.web.ServeHTTP(w, r); w.Code != http.StatusSeeOther {
			t.Fatalf("the flood was answered %d: %s", w.Code, w.Body)
		}
	}
	b.client.CheckRedirect = nil
	reply, err := devidp.SignInBrowser(b.client, to, "alice", f.people["alice"].Password)
	fatal(t, err)
	code := codeForm.FindStringSubmatch(read(t, reply).want(t, 200).body)
	if code == nil {
		t.Fatal("the page shows no code")
	}
	b.api("POST", "/api/v1/cli/token", "", cliExchange{Code: code[1], Verifier: verifier}).want(t, 200)

	made := cliAsk{Host: "laptop", Challenge: challenge, State: "s"}.path()
	b = f.browser(t)
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range []string{made, strings.Replace(made, "done", "%64one", 1)} {
		to = b.get("/login?to="+url.QueryEscape(path)).want(t, 303).header.Get("Location")
		b.client.CheckRedirect = nil
		reply, err = devidp.SignInBrowser(b.client, to, "alice", f.people["alice"].Password)
		fatal(t, err)
		if page := read(t, reply); codeForm.MatchString(page.body) {
			t.Errorf("%s gave a code without the button", path)
		}
		b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
}
