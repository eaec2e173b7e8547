package oidc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/oidc"
	"github.com/sallyport/sallyport/internal/devidp"
)

const (
	callback = "https://gate.example.com/sign-in/callback"
	secret   = "web-secret-9d1f"
)

// pki is a CA with one server certificate for loopback, and a client that knows it.
func pki(t *testing.T) (tls.Certificate, *http.Client) {
	t.Helper()
	certPEM, keyPEM, err := identity.NewServerCA("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.LoadServerCA(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	leafPEM, leafKey, err := ca.IssueServer([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(leafPEM, leafKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return cert, &http.Client{Transport: transport}
}

// world is a provider with its people, and a relying party that knows it.
type world struct {
	idp    *devidp.Provider
	client *http.Client
	config oidc.Config
	people []devidp.User
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cert, client := pki(t)
	people := append(devidp.People(), devidp.User{Name: "eve", Email: "eve@example.com", Unverified: true, Password: "p", Groups: []string{"engineering"}})
	idp, err := devidp.Start(devidp.Config{
		Addr: "127.0.0.1:0", Certificate: cert, Users: people,
		Clients: []devidp.Client{{ID: "web", Secret: secret, RedirectURLs: []string{callback}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = idp.Close() })
	return &world{idp: idp, client: client, people: people, config: oidc.Config{
		Issuer: idp.URL(), ClientID: "web", RedirectURL: callback, HTTPClient: client,
		ClientSecret: func(context.Context) ([]byte, error) { return []byte(secret), nil },
		Claims:       map[string]string{"login": "preferred_username"},
	}}
}

func (w *world) party(t *testing.T) *oidc.RelyingParty {
	t.Helper()
	r, err := oidc.New([]oidc.Config{w.config})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// answer signs in at the provider and gives the query of the callback.
func (w *world) answer(t *testing.T, address, name string) url.Values {
	t.Helper()
	at := slices.IndexFunc(w.people, func(u devidp.User) bool { return u.Name == name })
	jar, _ := cookiejar.New(nil)
	browser := *w.client
	browser.Jar = jar
	browser.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), callback) {
			return http.ErrUseLastResponse
		}
		return nil
	}
	reply, err := devidp.SignInBrowser(&browser, address, name, w.people[at].Password)
	if err != nil {
		t.Fatal(err)
	}
	_ = reply.Body.Close()
	back, err := reply.Location()
	if err != nil {
		t.Fatalf("no redirect back: status %d", reply.StatusCode)
	}
	return back.Query()
}

func (w *world) signIn(t *testing.T, r *oidc.RelyingParty, name string) oidc.SignedIn {
	t.Helper()
	attempt, err := r.Begin(t.Context(), oidc.Beginning{ReturnTo: "/h/abc?x=1"})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := r.Finish(t.Context(), attempt.Binding, w.answer(t, attempt.URL, name))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// says demands a *Failure whose sentence or detail holds text, and no secret.
func says(t *testing.T, err error, text string) {
	t.Helper()
	var f *oidc.Failure
	if !errors.As(err, &f) {
		t.Fatalf("err = %v; want a *Failure with %q", err, text)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("err = %v; want %q", err, text)
	}
	if strings.Contains(err.Error(), secret) || strings.Contains(f.Say, "http") {
		t.Errorf("it says too much: %v", err)
	}
}

func TestSignIn(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	signed := w.signIn(t, r, "alice")
	u := signed.User
	if u.ID() != w.idp.URL()+"#alice" || u.Email != "alice@example.com" || u.Name != "Alice Archer" || u.Kind != identity.Person {
		t.Errorf("user is %+v", u)
	}
	if !slices.Equal(u.Groups, []string{"engineering"}) || u.Claims["login"] != "alice" {
		t.Errorf("groups %q, claims %q", u.Groups, u.Claims)
	}
	if signed.ReturnTo != "/h/abc?x=1" || signed.Refresh == "" || signed.Expires.Sub(signed.At) != 12*time.Hour {
		t.Errorf("return to %q, expires %s after", signed.ReturnTo, signed.Expires.Sub(signed.At))
	}
}

func TestFreshSignIn(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	attempt, err := r.Begin(t.Context(), oidc.Beginning{Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	asked, _ := url.Parse(attempt.URL)
	if q := asked.Query(); q.Get("prompt") != "login" || q.Get("max_age") != "0" {
		t.Errorf("asked for %s", asked.RawQuery)
	}
	if _, err := r.Finish(t.Context(), attempt.Binding, w.answer(t, attempt.URL, "bob")); err != nil {
		t.Error(err)
	}
}

func TestPKCEIsAlwaysS256(t *testing.T) {
	w := newWorld(t)
	attempt, err := w.party(t).Begin(t.Context(), oidc.Beginning{})
	if err != nil {
		t.Fatal(err)
	}
	asked, _ := url.Parse(attempt.URL)
	q := asked.Query()
	if q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || q.Get("nonce") == "" || q.Get("state") == "" || q.Get("response_type") != "code" {
		t.Errorf("asked for %s", asked.RawQuery)
	}
}

func TestCodeOfAnotherAttemptIsRefused(t *testing.T) {
	// A stolen code is no use: the provider wants the verifier of the attempt that it was made for.
	w := newWorld(t)
	r := w.party(t)
	first, _ := r.Begin(t.Context(), oidc.Beginning{})
	second, _ := r.Begin(t.Context(), oidc.Beginning{})
	stolen := w.answer(t, first.URL, "alice")
	at, _ := url.Parse(second.URL)
	stolen.Set("state", at.Query().Get("state"))
	_, err := r.Finish(t.Context(), second.Binding, stolen)
	says(t, err, "the identity provider")
	if errors.Is(err, identity.ErrUnreachable) {
		t.Errorf("err = %v", err)
	}
}

func TestLoginCSRF(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	// Mallory begins, signs in as herself, and has the victim's browser open the callback.
	mallory, _ := r.Begin(t.Context(), oidc.Beginning{})
	answer := w.answer(t, mallory.URL, "sam")
	victim, _ := r.Begin(t.Context(), oidc.Beginning{})
	_, err := r.Finish(t.Context(), victim.Binding, answer)
	says(t, err, "begun in another browser")
	_, err = r.Finish(t.Context(), mallory.Binding, answer)
	says(t, err, "used already") // the try used the state up
	_, err = r.Finish(t.Context(), "", answer)
	says(t, err, "used already")
}

func TestSignInWithoutCookieIsRefused(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	attempt, _ := r.Begin(t.Context(), oidc.Beginning{})
	_, err := r.Finish(t.Context(), "", w.answer(t, attempt.URL, "alice"))
	says(t, err, "begun in another browser")
}

func TestReplayedState(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	attempt, _ := r.Begin(t.Context(), oidc.Beginning{})
	answer := w.answer(t, attempt.URL, "alice")
	if _, err := r.Finish(t.Context(), attempt.Binding, answer); err != nil {
		t.Fatal(err)
	}
	_, err := r.Finish(t.Context(), attempt.Binding, answer)
	says(t, err, "used already")
}

func TestTwoTabsOfOneBrowser(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	first, _ := r.Begin(t.Context(), oidc.Beginning{ReturnTo: "/one"})
	second, _ := r.Begin(t.Context(), oidc.Beginning{ReturnTo: "/two", Binding: first.Binding})
	if first.Binding != second.Binding {
		t.Fatal("the second tab got another cookie")
	}
	for address, want := range map[string]string{second.URL: "/two", first.URL: "/one"} {
		signed, err := r.Finish(t.Context(), first.Binding, w.answer(t, address, "alice"))
		if err != nil || signed.ReturnTo != want {
			t.Errorf("returns to %q, %v; want %q", signed.ReturnTo, err, want)
		}
	}
}

func TestPlantedCookieIsNotKept(t *testing.T) {
	w := newWorld(t)
	for _, planted := range []string{"x", strings.Repeat("a", 43), strings.Repeat("=", 44), strings.Repeat("a", 4096)} {
		attempt, err := w.party(t).Begin(t.Context(), oidc.Beginning{Binding: planted})
		if err != nil || attempt.Binding == planted {
			t.Errorf("the cookie %.20q was kept (%v)", planted, err)
		}
	}
}

func TestOpenRedirect(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	for _, bad := range []string{
		"//evil.example.com", "///evil.example.com", "https://evil.example.com/", "/\\evil.example.com", "\\\\evil.example.com", "/\t/evil.example.com",
		"evil.example.com", "javascript:alert(1)", "/ok\r\nLocation: //evil", "/\x00", " /x", "/" + strings.Repeat("a", 2048), "/%zz", "/ü",
	} {
		_, err := r.Begin(t.Context(), oidc.Beginning{ReturnTo: bad})
		says(t, err, "not one of this gate")
	}
	for _, good := range []string{"/", "/h/k3vXw0yq9cT2mB7rJd5LhA", "/requests?state=pending#x", "/a//b", "/x?next=https://other.example.com"} {
		if got, err := oidc.LocalPath(good); err != nil || got != good {
			t.Errorf("LocalPath(%q) = %q, %v", good, got, err)
		}
	}
	if got, err := oidc.LocalPath(""); got != "/" || err != nil {
		t.Errorf("LocalPath(\"\") = %q, %v", got, err)
	}
}

func TestUnverifiedEmail(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	attempt, _ := r.Begin(t.Context(), oidc.Beginning{})
	_, err := r.Finish(t.Context(), attempt.Binding, w.answer(t, attempt.URL, "eve"))
	says(t, err, "does not say that the e-mail address is verified")

	w.config.AllowUnverifiedEmail = true
	if signed := w.signIn(t, w.party(t), "eve"); signed.User.Email != "eve@example.com" {
		t.Errorf("e-mail is %q", signed.User.Email)
	}
}

func TestProviderSaysNo(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	state := func() (string, url.Values) {
		attempt, _ := r.Begin(t.Context(), oidc.Beginning{})
		at, _ := url.Parse(attempt.URL)
		return attempt.Binding, url.Values{"state": {at.Query().Get("state")}}
	}
	binding, answer := state()
	answer.Set("error", "access_denied")
	answer.Set("error_description", "<script>")
	_, err := r.Finish(t.Context(), binding, answer)
	says(t, err, "says no for this account")

	binding, answer = state()
	answer.Set("error", "<script>alert(1)</script>")
	_, err = r.Finish(t.Context(), binding, answer)
	says(t, err, "could not sign you in")
	if strings.Contains(err.Error(), "script") {
		t.Errorf("the provider's text is in %v", err)
	}

	binding, answer = state()
	answer["code"] = []string{"one", "two"}
	_, err = r.Finish(t.Context(), binding, answer)
	says(t, err, "malformed")

	binding, answer = state()
	_, err = r.Finish(t.Context(), binding, answer)
	says(t, err, "malformed")
}

func TestRefreshReadsGroupsAgain(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	signed := w.signIn(t, r, "alice")
	if err := w.idp.SetGroups("alice", "oncall", "engineering"); err != nil {
		t.Fatal(err)
	}
	user, next, err := r.Refresh(t.Context(), signed.User, signed.Refresh)
	if err != nil {
		t.Fatal(err)
	}
	if !user.In("oncall") || user.ID() != signed.User.ID() || next == "" {
		t.Errorf("user %+v, a new token: %t", user, next != "")
	}
	_, _, err = r.Refresh(t.Context(), signed.User, signed.Refresh)
	says(t, err, "no longer accepts") // it rotated
	if _, _, err = r.Refresh(t.Context(), signed.User, next); err != nil {
		t.Error(err)
	}
}

func TestRefreshOfDisabledUserIsRefused(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	signed := w.signIn(t, r, "alice")
	if err := w.idp.Disable("alice"); err != nil {
		t.Fatal(err)
	}
	_, _, err := r.Refresh(t.Context(), signed.User, signed.Refresh)
	says(t, err, "no longer accepts")
	if errors.Is(err, identity.ErrUnreachable) {
		t.Errorf("a disabled user looks like an unreachable provider: %v", err)
	}
}

func TestRefreshWithAnotherUsersTokenIsRefused(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	alice, bob := w.signIn(t, r, "alice"), w.signIn(t, r, "bob")
	_, _, err := r.Refresh(t.Context(), alice.User, bob.Refresh)
	says(t, err, "answered about another account")
}

func TestRefreshWhileProviderIsDownIsUnreachable(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	signed := w.signIn(t, r, "alice")
	_ = w.idp.Close()
	_, _, err := r.Refresh(t.Context(), signed.User, signed.Refresh)
	says(t, err, "does not answer")
	if !errors.Is(err, identity.ErrUnreachable) {
		t.Errorf("err = %v; want ErrUnreachable", err)
	}
}

func TestRotatedKeysAreFetched(t *testing.T) {
	w := newWorld(t)
	r := w.party(t)
	w.signIn(t, r, "alice")
	if err := w.idp.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	w.signIn(t, r, "alice")
}

func TestWorkload(t *testing.T) {
	w := newWorld(t)
	w.config = oidc.Config{Issuer: w.idp.URL(), Kind: identity.Workload, Audiences: []string{"https://second.example.com", "https://gate.example.com"}, HTTPClient: w.client, Claims: map[string]string{"ref": "ref"}}
	r := w.party(t)
	raw, err := w.idp.WorkloadToken("repo:shop:main", "https://gate.example.com", map[string]any{"ref": "main", "groups": []string{"dba"}, "email": "bob@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	user, _, err := r.VerifyWorkload(t.Context(), identity.Token(raw))
	if err != nil {
		t.Fatal(err)
	}
	if user.Kind != identity.Workload || user.Subject != "repo:shop:main" || user.Claims["ref"] != "main" || user.Groups != nil || user.Email != "" {
		t.Errorf("user is %+v", user)
	}
	for want, claims := range map[string]map[string]any{
		"for another audience":          {"aud": "https://other.example.com"},
		"the token ended at":            {"exp": time.Now().Add(-2 * time.Minute).Unix()},
		"which is yet to come":          {"iat": time.Now().Add(time.Hour).Unix()},
		"not valid yet":                 {"nbf": time.Now().Add(time.Hour).Unix()},
		"does not say when it was made": {"iat": 0},
		"has no end":                    {"exp": 0},
		"not configured for workloads":  {"iss": "https://other.example.com"},
		"1 to 255 signs":                {"sub": ""},
	} {
		raw, err := w.idp.WorkloadToken("x", "https://gate.example.com", claims)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = r.VerifyWorkload(t.Context(), identity.Token(raw))
		says(t, err, want)
		if strings.Contains(err.Error(), raw) {
			t.Error("the token is in the error")
		}
	}
	_, _, err = r.VerifyWorkload(t.Context(), identity.Token(strings.Repeat("a", 20000)))
	says(t, err, "too long")
	// Without the provider's keys a token may well be right.
	if err := w.idp.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	if raw, err = w.idp.WorkloadToken("x", "https://gate.example.com", nil); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = r.VerifyWorkload(short, identity.Token(raw))
	says(t, err, "does not answer; try again")
	_, _, err = r.VerifyWorkload(t.Context(), "spg_x")
	says(t, err, "no signed JWT")
	if _, err := r.Begin(t.Context(), oidc.Beginning{Issuer: w.idp.URL()}); err == nil {
		t.Error("a workload issuer signs people in")
	}
}

func TestPersonIssuerMakesNoWorkload(t *testing.T) {
	w := newWorld(t)
	raw, _ := w.idp.WorkloadToken("alice", "web", nil)
	_, _, err := w.party(t).VerifyWorkload(t.Context(), identity.Token(raw))
	says(t, err, "not configured for workloads")
}
