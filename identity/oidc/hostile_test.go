package oidc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/oidc"
)

// hostile is a provider whose every answer a test can bend: what a careless,
// broken or compromised one may send.
type hostile struct {
	*httptest.Server
	key      *ecdsa.PrivateKey
	party    *oidc.RelyingParty
	metadata map[string]any                               // over the usual discovery document
	jwks     http.HandlerFunc                             // in place of the keys
	userinfo http.HandlerFunc                             // in place of an empty answer
	token    func(w http.ResponseWriter, form url.Values) // in place of the usual answer
	claims   map[string]any                               // over the usual ones
	sign     func(claims map[string]any) string           // in place of the usual signature
	nonce    string
}

func newHostile(t *testing.T, change ...func(*oidc.Config)) *hostile {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{key: key}
	cert, client := pki(t)
	h.Server = httptest.NewUnstartedServer(h.routes())
	h.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	h.StartTLS()
	t.Cleanup(h.Close)
	config := oidc.Config{Issuer: h.URL, ClientID: "web", RedirectURL: callback, HTTPClient: client}
	for _, how := range change {
		how(&config)
	}
	h.party, err = oidc.New([]oidc.Config{config})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hostile) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		all := map[string]any{
			"issuer": h.URL, "authorization_endpoint": h.URL + "/authorize", "token_endpoint": h.URL + "/token",
			"jwks_uri": h.URL + "/keys", "userinfo_endpoint": h.URL + "/userinfo",
			// advertised, and still not taken:
			"id_token_signing_alg_values_supported": []string{"none", "HS256", "RS512", "ES256"},
		}
		maps.Copy(all, h.metadata)
		reply(w, all)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		if h.jwks != nil {
			h.jwks(w, r)
			return
		}
		reply(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: h.key.Public(), KeyID: "1", Use: "sig"}}})
	})
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, r *http.Request) {
		if h.userinfo != nil {
			h.userinfo(w, r)
			return
		}
		http.Error(w, "off", http.StatusForbidden)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		if h.token != nil {
			h.token(w, r.PostForm)
			return
		}
		reply(w, map[string]any{"access_token": "access-1", "token_type": "Bearer", "refresh_token": "r2", "id_token": h.idToken()})
	})
	return mux
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func (h *hostile) idToken() string {
	now := time.Now()
	all := map[string]any{
		"iss": h.URL, "sub": "alice", "aud": "web", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "nonce": h.nonce,
		"email": "alice@example.com", "email_verified": true, "groups": []string{"engineering"}, "auth_time": now.Unix(),
	}
	for name, value := range h.claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	if h.sign != nil {
		return h.sign(all)
	}
	return signed(jose.ES256, jose.JSONWebKey{Key: h.key, KeyID: "1"}, "JWT", all)
}

func signed(alg jose.SignatureAlgorithm, key any, kind string, claims map[string]any) string {
	options := &jose.SignerOptions{}
	if kind != "" {
		options = options.WithType(jose.ContentType(kind))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		panic(err)
	}
	payload, _ := json.Marshal(claims)
	object, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	text, _ := object.CompactSerialize()
	return text
}

// finish begins a sign-in and ends it with the provider's answer, as bent.
func (h *hostile) finish(t *testing.T, begin oidc.Beginning, bend func(url.Values)) (oidc.SignedIn, error) {
	t.Helper()
	attempt, err := h.party.Begin(t.Context(), begin)
	if err != nil {
		return oidc.SignedIn{}, err
	}
	asked, _ := url.Parse(attempt.URL)
	h.nonce = asked.Query().Get("nonce")
	answer := url.Values{"state": {asked.Query().Get("state")}, "code": {"c"}}
	if bend != nil {
		bend(answer)
	}
	return h.party.Finish(t.Context(), attempt.Binding, answer)
}

// refused demands that a sign-in fails with text.
func (h *hostile) refused(t *testing.T, text string) {
	t.Helper()
	got, err := h.finish(t, oidc.Beginning{}, nil)
	says(t, err, text)
	if !got.User.IsZero() || got.Refresh != "" {
		t.Errorf("something came of it: %+v", got.User)
	}
}

func (h *hostile) accepted(t *testing.T) oidc.SignedIn {
	t.Helper()
	got, err := h.finish(t, oidc.Beginning{}, nil)
	if err != nil {
		t.Fatalf("a right sign-in is refused: %v", err)
	}
	return got
}

func TestHostileProviderCanBehave(t *testing.T) {
	if got := newHostile(t).accepted(t); got.User.Email != "alice@example.com" {
		t.Errorf("user is %+v", got.User)
	}
}

func TestTokenOfAnotherSignIn(t *testing.T) {
	h := newHostile(t)
	for _, nonce := range []any{"another", "", nil} {
		h.claims = map[string]any{"nonce": nonce}
		h.refused(t, "token of another sign-in (nonce)")
	}
}

func TestTokenOfAnotherIssuer(t *testing.T) {
	h := newHostile(t)
	for _, iss := range []any{"https://other.example.com", h.URL + "/", "", nil} {
		h.claims = map[string]any{"iss": iss}
		h.refused(t, "another issuer's")
	}
}

func TestTokenForAnotherAudience(t *testing.T) {
	h := newHostile(t)
	for _, aud := range []any{"other", []string{"other", "WEB"}, []string{}, nil} {
		h.claims = map[string]any{"aud": aud}
		h.refused(t, "for another audience")
	}
}

func TestTokenMadeForAnotherClient(t *testing.T) {
	h := newHostile(t)
	h.claims = map[string]any{"azp": "other"}
	h.refused(t, "made for another client (azp)")
	h.claims = map[string]any{"aud": []string{"web", "other"}, "azp": "other"}
	h.refused(t, "made for another client (azp)")
	h.claims = map[string]any{"aud": []string{"web", "other"}}
	h.refused(t, "several audiences")
	h.claims = map[string]any{"azp": 5}
	h.refused(t, "must be a string")
	h.claims = map[string]any{"aud": []string{"web", "other"}, "azp": "web"}
	h.accepted(t)
}

func TestExpiredToken(t *testing.T) {
	h := newHostile(t)
	h.claims = map[string]any{"exp": time.Now().Add(-2 * time.Minute).Unix()}
	h.refused(t, "set the clocks of gate and provider")
	h.claims = map[string]any{"iat": time.Now().Add(10 * time.Minute).Unix()}
	h.refused(t, "which is yet to come")
	h.claims = map[string]any{"exp": nil}
	h.refused(t, "has no end (exp)")
	h.claims = map[string]any{"iat": nil}
	h.refused(t, "does not say when it was made")
	h.claims = map[string]any{"nbf": time.Now().Add(10 * time.Minute).Unix()}
	h.refused(t, "not valid yet (nbf)")
	h.claims = map[string]any{"nbf": "soon"}
	h.refused(t, "token")
	// A clock that is half a minute off is no reason to refuse anybody.
	h.claims = map[string]any{"exp": time.Now().Add(-30 * time.Second).Unix(), "iat": time.Now().Add(30 * time.Second).Unix()}
	h.accepted(t)
}

func TestUnsignedToken(t *testing.T) {
	h := newHostile(t)
	const want = "is no JWT signed with"
	segment := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	for _, alg := range []string{"none", "None", "NONE", ""} {
		h.sign = func(all map[string]any) string {
			return segment(map[string]string{"alg": alg, "typ": "JWT"}) + "." + segment(all) + "."
		}
		h.refused(t, want)
	}
}

func TestPublicKeyAsHMACSecret(t *testing.T) {
	h := newHostile(t)
	spki, _ := x509.MarshalPKIXPublicKey(h.key.Public())
	for _, key := range [][]byte{spki, elliptic.Marshal(elliptic.P256(), h.key.X, h.key.Y), []byte(strings.Repeat("web", 20))} { //nolint:staticcheck // the attack uses this form
		h.sign = func(all map[string]any) string { return signed(jose.HS256, key, "JWT", all) }
		h.refused(t, "is no JWT signed with")
	}
}

func TestSignatureOfAnotherKey(t *testing.T) {
	h := newHostile(t)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	const want = "form or signature is wrong"
	h.sign = func(all map[string]any) string {
		return signed(jose.ES256, jose.JSONWebKey{Key: other, KeyID: "1"}, "JWT", all)
	}
	h.refused(t, want)
	h.sign = func(all map[string]any) string { return signed(jose.ES256, other, "JWT", all) } // no key id
	h.refused(t, want)
	h.sign = func(all map[string]any) string { // a key of its own in the header
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: other}, &jose.SignerOptions{EmbedJWK: true})
		if err != nil {
			t.Fatal(err)
		}
		payload, _ := json.Marshal(all)
		object, _ := signer.Sign(payload)
		text, _ := object.CompactSerialize()
		return text
	}
	h.refused(t, want)
	h.sign = func(all map[string]any) string { // claims changed after signing
		parts := strings.Split(signed(jose.ES256, jose.JSONWebKey{Key: h.key, KeyID: "1"}, "JWT", all), ".")
		all["sub"] = "root"
		payload, _ := json.Marshal(all)
		parts[1] = base64.RawURLEncoding.EncodeToString(payload)
		return strings.Join(parts, ".")
	}
	h.refused(t, want)
}

func TestTokenOfAnotherType(t *testing.T) {
	h := newHostile(t)
	for _, kind := range []string{"at+jwt", "application/at+jwt", "logout+jwt", "dpop+jwt"} {
		h.sign = func(all map[string]any) string {
			return signed(jose.ES256, jose.JSONWebKey{Key: h.key, KeyID: "1"}, kind, all)
		}
		h.refused(t, "of another type")
	}
	for _, kind := range []string{"", "jwt"} {
		h.sign = func(all map[string]any) string {
			return signed(jose.ES256, jose.JSONWebKey{Key: h.key, KeyID: "1"}, kind, all)
		}
		h.accepted(t)
	}
}

func TestSignInWithoutIDToken(t *testing.T) {
	h := newHostile(t)
	h.token = func(w http.ResponseWriter, _ url.Values) {
		reply(w, map[string]any{"access_token": "access-1", "token_type": "Bearer", "refresh_token": "r2"})
	}
	h.refused(t, "sent no ID token")
}

func TestAccessTokenOfAnotherSignIn(t *testing.T) {
	h := newHostile(t)
	sum := sha256.Sum256([]byte("access-2"))
	h.claims = map[string]any{"at_hash": base64.RawURLEncoding.EncodeToString(sum[:16])}
	h.refused(t, "do not belong together (at_hash)")
	sum = sha256.Sum256([]byte("access-1"))
	h.claims = map[string]any{"at_hash": base64.RawURLEncoding.EncodeToString(sum[:16])}
	h.accepted(t)
}

func TestAbsurdSizes(t *testing.T) {
	h := newHostile(t)
	h.claims = map[string]any{"padding": strings.Repeat("x", 80<<10)}
	h.refused(t, "longer than 65536 bytes")

	h = newHostile(t)
	h.token = func(w http.ResponseWriter, _ url.Values) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"` + strings.Repeat("x", 4<<20) + `"}`))
	}
	h.refused(t, "did not complete the sign-in")

	h = newHostile(t)
	h.metadata = map[string]any{"padding": strings.Repeat("x", 2<<20)}
	h.refused(t, "its answer was not understood")

	h = newHostile(t)
	_, err := h.finish(t, oidc.Beginning{}, func(q url.Values) { q.Set("code", strings.Repeat("c", 5000)) })
	says(t, err, "malformed")
}

func TestIssuerOfTheAnswer(t *testing.T) {
	const want = "another identity provider than was asked"
	h := newHostile(t)
	_, err := h.finish(t, oidc.Beginning{}, func(q url.Values) { q.Set("iss", "https://other.example.com") })
	says(t, err, want)
	_, err = h.finish(t, oidc.Beginning{}, func(q url.Values) { q.Set("iss", h.URL) })
	if err != nil {
		t.Error(err)
	}
	h = newHostile(t)
	h.metadata = map[string]any{"authorization_response_iss_parameter_supported": true}
	_, err = h.finish(t, oidc.Beginning{}, nil)
	says(t, err, want)
}

func TestProviderThatDoesNotAskAgain(t *testing.T) {
	h := newHostile(t)
	h.claims = map[string]any{"auth_time": time.Now().Add(-time.Hour).Unix()}
	_, err := h.finish(t, oidc.Beginning{Fresh: true}, nil)
	says(t, err, "did not ask you to sign in again")
	h.claims = map[string]any{"auth_time": nil}
	_, err = h.finish(t, oidc.Beginning{Fresh: true}, nil)
	says(t, err, "has no auth_time")
	if _, err := h.finish(t, oidc.Beginning{}, nil); err != nil {
		t.Error(err)
	}
}

// When the person was asked is what the provider says of it, never when it was used.
func TestWhenThePersonWasAsked(t *testing.T) {
	h := newHostile(t)
	now := time.Now()
	for name, c := range map[string]struct {
		said, want any
	}{
		"an hour ago":     {now.Add(-time.Hour).Unix(), now.Add(-time.Hour).Truncate(time.Second)},
		"it does not say": {nil, time.Time{}},
		"tomorrow":        {now.Add(24 * time.Hour).Unix(), nil},
		"before all time": {-1e300, nil},
	} {
		h.claims = map[string]any{"auth_time": c.said}
		signed, err := h.finish(t, oidc.Beginning{}, nil)
		if err != nil || c.want != nil && !signed.Authenticated.Equal(c.want.(time.Time)) || signed.Authenticated.After(time.Now()) {
			t.Errorf("%s: %v, %v", name, signed.Authenticated, err)
		}
	}
	h.claims = map[string]any{"auth_time": "noon"}
	_, err := h.finish(t, oidc.Beginning{}, nil)
	says(t, err, "auth_time is no number")
}

// A provider that never says when is believed only where that is declared, and only that
// it asked where it was told to.
func TestAuthTimeAssumed(t *testing.T) {
	h := newHostile(t, func(c *oidc.Config) { c.AssumeAuthTime = true })
	h.claims = map[string]any{"auth_time": nil}
	began := time.Now()
	signed, err := h.finish(t, oidc.Beginning{Fresh: true}, nil)
	if err != nil || signed.Authenticated.Before(began) {
		t.Errorf("told to ask: %v, %v", signed.Authenticated, err)
	}
	if signed, err = h.finish(t, oidc.Beginning{}, nil); err != nil || !signed.Authenticated.IsZero() {
		t.Errorf("not told to: %v, %v", signed.Authenticated, err)
	}
	h.claims = map[string]any{"auth_time": time.Now().Add(-time.Hour).Unix()}
	_, err = h.finish(t, oidc.Beginning{Fresh: true}, nil)
	says(t, err, "did not ask you to sign in again")
}

func TestDiscoveryOfAnotherIssuer(t *testing.T) {
	h := newHostile(t)
	h.metadata = map[string]any{"issuer": "https://other.example.com"}
	h.refused(t, "is not the configured one")
}

func TestEndpointsWithoutTLS(t *testing.T) {
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri"} {
		h := newHostile(t)
		h.metadata = map[string]any{name: "http://127.0.0.1:1/"}
		h.refused(t, "an endpoint is missing or not https")
	}
}

func TestEndpointsThatRedirect(t *testing.T) {
	h := newHostile(t)
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer other.Close()
	h.token = func(w http.ResponseWriter, _ url.Values) {
		w.Header().Set("Location", other.URL)
		w.WriteHeader(http.StatusTemporaryRedirect) // keeps the form, and the secret in it
	}
	h.refused(t, "did not complete the sign-in")
	if followed {
		t.Error("the redirect was followed")
	}
}

func TestErrorsQuoteNoProvider(t *testing.T) {
	h := newHostile(t)
	for status, kind := range map[int]string{400: "application/json", 401: "text/plain", 500: "text/html", 200: "text/plain"} {
		h.token = func(w http.ResponseWriter, form url.Values) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"error":"SECRET <b>","error_description":"SECRET %s"}`, form.Get("code_verifier"))
		}
		_, err := h.finish(t, oidc.Beginning{}, nil)
		says(t, err, "identity provider")
		if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

func TestKeysThatDoNotAnswerAreUnreachable(t *testing.T) {
	h := newHostile(t)
	h.jwks = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "SECRET", http.StatusBadGateway) }
	_, err := h.finish(t, oidc.Beginning{}, nil)
	says(t, err, "does not answer; try again")
	says(t, err, "signing keys")
	if !errors.Is(err, identity.ErrUnreachable) || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("err = %v", err)
	}
}

func FuzzVerifyWorkload(f *testing.F) {
	r, err := oidc.New([]oidc.Config{{Issuer: "https://127.0.0.1:1", Kind: identity.Workload, Audiences: []string{"gate"}}})
	if err != nil {
		f.Fatal(err)
	}
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.Add(signed(jose.ES256, key, "JWT", map[string]any{"iss": "https://127.0.0.1:1", "sub": "x", "aud": "gate"}))
	f.Add(signed(jose.ES256, key, "at+jwt", map[string]any{"iss": 7}))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		user, _, err := r.VerifyWorkload(t.Context(), identity.Token(raw))
		var failure *oidc.Failure
		if !errors.As(err, &failure) || !user.IsZero() {
			t.Errorf("%q: %+v, %v", raw, user, err)
		}
	})
}

func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"/", "//x", "/\\x", "/a?b#c", "https://x", "/\tx", "/%2f/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		path, err := oidc.LocalPath(s)
		if err != nil {
			return
		}
		base, _ := url.Parse("https://gate.example.com/sign-in/callback")
		to, err := base.Parse(path)
		if err != nil || to.Scheme != "https" || to.Host != "gate.example.com" || to.User != nil {
			t.Errorf("%q leads to %v, %v", s, to, err)
		}
	})
}
