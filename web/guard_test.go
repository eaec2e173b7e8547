package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/session"
)

// filled is a route's path with identifiers that exist, or not.
func filled(path, id string) string {
	path = strings.ReplaceAll(path, "{id}", id)
	path = strings.ReplaceAll(path, "{file}", "style.css")
	return strings.ReplaceAll(path, "{$}", "")
}

// Class: clickjacking; headers of every answer, errors among them.
func TestHeadersOfEveryAnswer(t *testing.T) {
	f := start(t)
	b := f.as(t, "sam")
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, r := range f.web.routes {
		if r.path == "/live" || r.path == "/logout" || r.path == "/api/v1/sign-ins/end" {
			continue
		}
		a := b.do(r.method, filled(r.path, "nothing"), nil, map[string]string{"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"})
		for name, part := range map[string]string{
			"Content-Security-Policy": "frame-ancestors 'none'", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "no-referrer", "Strict-Transport-Security": "max-age=",
		} {
			if !strings.Contains(a.header.Get(name), part) {
				t.Errorf("%s %s (%d): %s is %q", r.method, r.path, a.status, name, a.header.Get(name))
			}
		}
		csp := a.header.Get("Content-Security-Policy")
		if strings.Contains(csp, "unsafe-") || !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "base-uri 'none'") {
			t.Errorf("%s: policy %s", r.path, csp)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s lets other origins read", r.path)
		}
		if r.path != "/static/{file}" && a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be kept by caches", r.path)
		}
	}
}

// counts is all that a decision could change.
func (f *fixture) counts(t *testing.T) map[string]int {
	t.Helper()
	entries, err := f.log.Entries(t.Context(), 0, 1<<20)
	fatal(t, err)
	n := map[string]int{}
	for _, e := range entries {
		n[e.Type]++
	}
	delete(n, audit.RecordingViewed) // looking is an entry by itself
	delete(n, audit.NodeAlive)
	return n
}

func same(t *testing.T, what string, before, after map[string]int) {
	t.Helper()
	a, _ := json.Marshal(before)
	b, _ := json.Marshal(after)
	if string(a) != string(b) {
		t.Errorf("%s changed the record:\n%s\n%s", what, a, b)
	}
}

// Class: a GET decides.
func TestGETNeverDecides(t *testing.T) {
	f := start(t)
	alice, bob, sam := f.as(t, "alice"), f.as(t, "bob"), f.as(t, "sam")
	pending := alice.ask("orders", "reader", "INC-2")
	grant := f.granted(t, alice, bob)
	hold := f.connect(t, "orders", "reader", "127.0.0.1:5000")
	alice.get(hold.link).want(t, 200)
	before := f.counts(t)
	query := "?verdict=yes&phrase=" + strings.ReplaceAll(hold.phrase, " ", "+") + "&reason=x&access=orders+as+writer&target=orders&role=writer&why=x&user=" + f.idp.URL() + "%23alice&for=30"
	for _, who := range []*browser{alice, bob, sam} {
		who.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for _, r := range f.web.routes {
			if r.path == "/login" || r.path == "/callback" {
				continue
			}
			for _, id := range []string{pending, grant, strings.TrimPrefix(hold.link, "/h/")} {
				for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
					if a := who.do(method, filled(r.path, id)+query, nil, nil); a.status >= 500 {
						t.Errorf("%s %s: %d %s", method, r.path, a.status, a.body)
					}
				}
			}
		}
	}
	same(t, "a GET", before, f.counts(t))
	if r := decode[session.Request](t, alice.api("GET", "/api/v1/requests/"+pending, "", nil)); r.State != session.RequestPending {
		t.Errorf("the request is %s", r.State)
	}
	select {
	case err := <-hold.opened:
		t.Errorf("the held connection went on: %v", err)
	default:
	}
}

// Class: cross-site request forgery, over every route that changes something.
func TestCrossOriginPostsAreRefused(t *testing.T) {
	f := start(t)
	sam := f.as(t, "sam")
	before := f.counts(t)
	for _, r := range f.web.routes {
		if r.method != "POST" {
			continue
		}
		for _, header := range []map[string]string{
			{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
		} {
			header["Content-Type"] = "application/x-www-form-urlencoded"
			sam.do("POST", filled(r.path, "x"), strings.NewReader("user=x"), header).want(t, 403, "This came from another site")
		}
	}
	same(t, "a post from another site", before, f.counts(t))
	sam.get("/").want(t, 200) // still signed in
}

// Class: another name for the gate (DNS rebinding).
func TestOtherHostsAreRefused(t *testing.T) {
	f := start(t)
	b := f.browser(t)
	request, err := http.NewRequestWithContext(t.Context(), "GET", f.base+"/", nil)
	fatal(t, err)
	request.Host = "evil.example"
	reply, err := b.client.Do(request)
	fatal(t, err)
	read(t, reply).want(t, 421, "his gate's pages are at "+f.base)
	for _, path := range []string{"/healthz", "/readyz"} {
		request, err = http.NewRequestWithContext(t.Context(), "GET", f.base+path, nil)
		fatal(t, err)
		request.Host = "10.0.0.1"
		reply, err = b.client.Do(request)
		fatal(t, err)
		read(t, reply).want(t, 200, "ok")
	}
}

// Class: websocket CSRF.
func TestWebsocketTakesOwnOriginOnly(t *testing.T) {
	f := start(t)
	alice := f.as(t, "alice")
	dial := func(origin, cookie string) (*websocket.Conn, int) {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		if cookie != "" {
			header.Set("Cookie", cookieName+"="+cookie)
		}
		dialer := websocket.Dialer{TLSClientConfig: alice.client.Transport.(*http.Transport).TLSClientConfig.Clone(), HandshakeTimeout: patience}
		dialer.TLSClientConfig.NextProtos = nil
		conn, reply, err := dialer.DialContext(t.Context(), "wss"+strings.TrimPrefix(f.base, "https")+"/live", header)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
			return conn, 101
		}
		if reply == nil {
			t.Fatal(err)
		}
		return nil, reply.StatusCode
	}
	cookie := alice.cookie(cookieName)
	for _, origin := range []string{"https://evil.example", "", "null", strings.Replace(f.base, "https", "http", 1), f.base + ".evil.example"} {
		if _, status := dial(origin, cookie); status != 403 {
			t.Errorf("origin %q: %d", origin, status)
		}
	}
	if _, status := dial(f.base, ""); status != 401 {
		t.Errorf("without a cookie: %d", status)
	}
	conn, status := dial(f.base, cookie)
	if status != 101 {
		t.Fatalf("own origin: %d", status)
	}
	id := alice.ask("orders", "reader", "secret reason")
	fatal(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, message, err := conn.ReadMessage()
	fatal(t, err)
	if text := string(message); !strings.Contains(text, "request") || strings.Contains(text, id) || strings.Contains(text, "secret") {
		t.Errorf("the page is told %q", text)
	}
	alice.post("/logout").want(t, 200)
	for err == nil {
		_, _, err = conn.ReadMessage()
	}
	if !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
		t.Errorf("after signing out the websocket ends with %v", err)
	}
}

// Class: stored XSS in a reason or user name.
func TestStoredXSS(t *testing.T) {
	f := start(t)
	alice, bob, sam := f.as(t, "alice"), f.as(t, "bob"), f.as(t, "sam")
	reason := `</blockquote><script>alert(1)</script><img src=x onerror=alert(2)>" onfocus="alert(3)' {{.}} javascript:alert(4)`
	id := alice.ask("orders", "reader", reason)
	raw := []string{"<script>alert", "<img src=x", `" onfocus="`, "</blockquote><script"}
	for _, page := range []answer{
		bob.get("/requests/" + id), bob.get("/requests"), bob.get("/"), alice.get("/"), sam.get("/users"), sam.get("/log"), sam.get("/requests"),
		alice.get("/requests/new?target=" + strings.ReplaceAll(reason, " ", "+") + "&reason=%3Cscript%3Ealert(1)&ticket=%22%20onfocus=%22x"),
		bob.get("/requests/" + id + "?word=%22%20onfocus=%22x%3Cscript%3Ealert"),
	} {
		page.want(t, 200).lacks(t, raw...)
	}
	bob.get("/requests/"+id).want(t, 200, "&lt;script&gt;alert(1)&lt;/script&gt;")
	sam.get("/users").want(t, 200, "Alice &lt;script&gt;")
	bob.get("/<script>alert(1)</script>").want(t, 404).lacks(t, raw...)
}

// Class: terminal escapes and direction marks that make a name look like another.
func TestControlCharactersAreShown(t *testing.T) {
	for in, want := range map[string]string{
		"a\x1b[31mb":        `a\u{1b}[31mb`,
		"user\u202egnp.exe": `user\u{202e}gnp.exe`,
		"zero\u200bwidth":   `zero\u{200b}width`,
		"c1\u009b":          `c1\u{9b}`,
		"two\nlines\tÄé€漢😀": "two\nlines\tÄé€漢😀",
		"line\u2028sep":     `line\u{2028}sep`,
	} {
		if got := visible(in); got != want {
			t.Errorf("visible(%q) = %q, want %q", in, got, want)
		}
	}
	f := start(t)
	f.as(t, "alice").post("/requests/new", "access", "orders as reader", "reason", "a\x1b[31mb\u202ec").want(t, 422, "printable").lacks(t, "\x1b", "\u202e")
}

// Class: a token's kind opens what is not its own: grant tokens cannot read, ask or
// approve; API tokens cannot connect.
func TestTokenKindsStayApart(t *testing.T) {
	f := start(t)
	alice, bob := f.as(t, "alice"), f.as(t, "bob")
	grant := f.granted(t, alice, bob)
	token := decode[struct{ Token string }](t, alice.api("POST", "/api/v1/grants/"+grant+"/token", "", nil).want(t, 201)).Token
	nobody := f.browser(t)
	for _, r := range f.web.routes {
		if r.access != bearer {
			continue
		}
		for _, bad := range []string{token, "spa_" + token[4:], "x"} {
			nobody.api(r.method, filled(r.path, grant), bad, nil).want(t, 401, "sallyport login")
		}
	}
	nobody.api("GET", "/api/v1/whoami", token, nil).want(t, 401, "A grant token only opens connections")
	// A bad token is not made good by a cookie beside it.
	alice.api("GET", "/api/v1/whoami", token, nil).want(t, 401)
	// Pages take no token at all.
	nobody.do("GET", "/grants", nil, map[string]string{"Authorization": "Bearer " + f.login(t, "alice"), "Accept": "application/json"}).want(t, 401, "You are not signed in")

	api := f.login(t, "alice")
	for _, scheme := range []string{"Basic", "Token", ""} {
		nobody.do("GET", "/api/v1/whoami", nil, map[string]string{"Authorization": scheme + " " + api}).want(t, 401, "sallyport login")
	}
	_, err := f.gate.Open(t.Context(), session.Ask{Target: "orders", Role: "reader", Proof: identity.Proof{Kind: identity.ByToken, Token: identity.Token(api)}}, nil)
	if say, _ := session.Message(err); !strings.Contains(say, "that token is not valid") {
		t.Errorf("an API token at a target's door: %v", err)
	}
}

// Class: unbounded input.
func TestInputIsBounded(t *testing.T) {
	f := start(t)
	alice := f.as(t, "alice")
	before := f.counts(t)
	long := strings.Repeat("x", session.MaxReason+1)
	alice.post("/requests/new", "access", "orders as reader", "reason", long).want(t, 422, "say it in 1000", long)
	alice.post("/requests/new", "access", "orders as reader", "reason", "ok", "ticket", strings.Repeat("x", 101)).want(t, 422, "say it in 100")
	alice.post("/requests/new", "access", strings.Repeat("x", 200)+" as reader", "reason", "ok").want(t, 422, "longer than 128")
	alice.post("/requests/new", "access", "orders as reader", "reason", strings.Repeat("x", maxField+1)).want(t, 413, "One of the fields is too long")
	alice.post("/requests/new", "access", strings.Repeat("x", maxBody)).want(t, 413, "That is too long")
	alice.post("/requests/new", "access", "orders as reader", "reason", "ok", "for", "9999h").want(t, 422, "a duration looks like"[2:])
	alice.get("/requests?user="+strings.Repeat("x", maxURL)).want(t, 414, "This address is too long")
	alice.get("/requests?limit=501").want(t, 422, "imit is a number")
	alice.get("/requests?user=%ff").want(t, 400, "not text")
	alice.api("POST", "/api/v1/requests", "", map[string]string{"target": "orders", "role": "reader", "reason": long}).want(t, 422, "say it in 1000")
	alice.api("POST", "/api/v1/requests", "", map[string]string{"target": strings.Repeat("x", maxBody)}).want(t, 413, "That is too long")
	alice.api("POST", "/api/v1/requests", "", map[string]string{"unknown": "x"}).want(t, 400)
	alice.do("POST", "/api/v1/requests", strings.NewReader(`{} {}`), map[string]string{"Content-Type": "application/json"}).want(t, 400)
	alice.do("POST", "/api/v1/requests", strings.NewReader(`{}`), map[string]string{"Content-Type": "text/plain"}).want(t, 415)
	alice.do("POST", "/requests/new", strings.NewReader("access=orders+as+reader&reason=x"), map[string]string{"Content-Type": "text/plain"}).want(t, 415)
	// Before anybody is known, too.
	f.browser(t).api("POST", "/api/v1/cli/token", "", map[string]string{"code": strings.Repeat("x", maxBody)}).want(t, 413)
	same(t, "bad input", before, f.counts(t))

	server := Server(f.web, nil)
	if server.ReadHeaderTimeout <= 0 || server.ReadTimeout <= 0 || server.IdleTimeout <= 0 || server.WriteTimeout <= 0 || server.MaxHeaderBytes > 64<<10 {
		t.Error("the server waits for ever, or takes any head")
	}
}

// The memory that command lines' sign-ins take is bounded.
func TestCodesAreBounded(t *testing.T) {
	c := newCodes(time.Now)
	for range maxCodes + 100 {
		c.issue(identity.SignIn{}, cliAsk{})
	}
	if len(c.given) != maxCodes {
		t.Errorf("%d wait", len(c.given))
	}
}

// One sign-in cannot open websockets without end.
func TestSocketsAreBounded(t *testing.T) {
	s := sockets{count: map[string]int{}}
	n := 0
	for n < 10*maxSockets && s.enter("a") {
		n++
	}
	if n != maxSockets || !s.enter("b") {
		t.Errorf("%d websockets of one sign-in, or none of another", n)
	}
	s.leave("a")
	if !s.enter("a") {
		t.Error("a place that is free again is not given")
	}
	s.shut()
	if s.enter("c") {
		t.Error("a websocket opens after the end")
	}
}

// Class: seeing the inbox needs the right too; what is not yours is not found.
func TestOthersThingsAreNotFound(t *testing.T) {
	f := start(t)
	alice, bob, carol, sam := f.as(t, "alice"), f.as(t, "bob"), f.as(t, "carol"), f.as(t, "sam")
	id := alice.ask("orders", "reader", "reason of alice")
	bob.get("/").want(t, 200, "reason of alice")
	alice.api("GET", "/api/v1/inbox", "", nil).want(t, 200).lacks(t, id) // nobody decides on their own
	// bob's own automatic grant is nothing of alice's or carol's.
	own := bob.ask("orders", "writer", "reason of bob")
	grant := decode[session.Request](t, bob.api("GET", "/api/v1/requests/"+own, "", nil)).Grant
	for _, who := range []*browser{alice, carol} {
		who.get("/requests/"+own).want(t, 404)
		who.get("/g/"+grant).want(t, 404)
		who.post("/g/"+grant+"/revoke").want(t, 404)
		who.post("/g/"+grant+"/token").want(t, 404)
		who.get("/requests").want(t, 200).lacks(t, "reason of bob")
		who.get("/log").want(t, 403, "does not let you read the record")
		who.api("GET", "/api/v1/log/entries", "", nil).want(t, 403, "does not let you read the record")
		who.api("GET", "/api/v1/log", "", nil).want(t, 403)
		who.get("/users").want(t, 403)
		who.post("/users/disable", "user", f.idp.URL()+"#sam").want(t, 403)
		who.get("/").want(t, 200).lacks(t, `href="/users"`, `href="/log"`, `href="/recordings"`)
	}
	sam.get("/requests/"+id).want(t, 200)
	sam.post("/g/"+grant+"/token").want(t, 404) // the owner's alone
	sam.get("/").want(t, 200, `href="/users"`, `href="/log"`, `href="/recordings"`).lacks(t, "reason of alice")
	sam.post("/requests/"+id, "verdict", "yes").want(t, 403)
}

// Every route of the API is in openapi.yaml, and nothing else is.
func TestOpenAPIListsEveryRoute(t *testing.T) {
	text, err := os.ReadFile("openapi.yaml")
	fatal(t, err)
	described, path := map[string]bool{}, ""
	for line := range strings.Lines(string(text)) {
		if found := regexp.MustCompile(`^  (/api/\S+):$`).FindStringSubmatch(strings.TrimRight(line, "\n")); found != nil {
			path = found[1]
		}
		if found := regexp.MustCompile(`^    (get|post|put|delete|patch):$`).FindStringSubmatch(strings.TrimRight(line, "\n")); found != nil {
			described[strings.ToUpper(found[1])+" "+path] = true
		}
	}
	for _, r := range (&Web{}).apiRoutes() {
		if !described[r.method+" "+r.path] {
			t.Errorf("%s %s is not in openapi.yaml", r.method, r.path)
		}
		delete(described, r.method+" "+r.path)
	}
	for left := range described {
		t.Errorf("openapi.yaml describes %s, which there is not", left)
	}
}

// The certificate is for the key of the request, and for nobody else's.
func TestCommandLineCertificate(t *testing.T) {
	f := start(t)
	b := f.browser(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	fatal(t, err)
	request := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	verifier, challenge := pkce()
	got := decode[cliCredentials](t, b.api("POST", "/api/v1/cli/token", "", cliExchange{Code: b.cliCode("alice", challenge), Verifier: verifier, Request: request}).want(t, 200))
	block, _ := pem.Decode([]byte(got.Certificate))
	cert, err := x509.ParseCertificate(block.Bytes)
	fatal(t, err)
	if !key.PublicKey.Equal(cert.PublicKey) || cert.Subject.CommonName != "alice@example.com" {
		t.Errorf("a certificate for %s", cert.Subject)
	}
	if f.counts(t)[audit.CertIssued] != 1 {
		t.Error("the certificate is not in the log")
	}
	for _, request := range []string{"none", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))} {
		b.api("POST", "/api/v1/cli/token", "", cliExchange{Code: b.cliCode("alice", challenge), Verifier: verifier, Request: request}).want(t, 422, "not a signed PKCS #10 request")
	}
	der[len(der)-1] ^= 1 // the signature no longer proves possession
	request = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	b.api("POST", "/api/v1/cli/token", "", cliExchange{Code: b.cliCode("alice", challenge), Verifier: verifier, Request: request}).want(t, 422, "not a signed PKCS #10 request")
}
