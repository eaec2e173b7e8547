package web

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/oidc"
	"github.com/sallyport/sallyport/internal/devidp"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/bundle"
	gated "github.com/sallyport/sallyport/protocols/http"
	"github.com/sallyport/sallyport/session"
	"github.com/sallyport/sallyport/store"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// rules is the policy of the tests. ISSUER and CA stand for the provider's.
const rules = `
issuer "dev" {
  url       = "ISSUER"
  client_id = "sallyport"
}
target "orders" {
  protocol = "postgres"
  address  = "/tmp/no-such-socket"
  role "reader" {}
  role "writer" {}
}
target "billing" {
  protocol = "postgres"
  address  = "/tmp/no-such-socket"
  role "writer" {}
}
target "web-1" {
  protocol = "ssh"
  address  = "127.0.0.1:1"
  role "deploy" {}
  role "admin" {}
}
target "grafana" {
  protocol = "http"
  address  = "127.0.0.1:1"
  options {
    host      = "grafana.example"
    websocket = true
  }
  role "viewer" {}
}
rule "others" {
  target  = { name = "web-1" }
  role    = ["deploy"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}
rule "admins" {
  target  = { name = "web-1" }
  role    = ["admin"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  approve {
    from = { groups = ["dba"] }
  }
}
rule "pages" {
  target  = { name = "grafana" }
  role    = ["viewer"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}
rule "orders-read" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  reason  = "required"
  approve {
    count = 1
    from  = { groups = ["dba"] }
  }
}
rule "orders-write" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { groups = ["dba"] }
  longest = "30m"
}
rule "billing-write" {
  target  = { name = "billing" }
  role    = ["writer"]
  who     = { groups = ["engineering"] }
  longest = "2h"
  approve {
    count = 2
    from  = { groups = ["dba"] }
  }
}
break_glass "sev1" {
  target  = { name = "billing" }
  role    = ["writer"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  reason  = "required"
  review  = { groups = ["security"], within = "24h" }
}
right "review" { who = { groups = ["security"] } }
right "audit"  { who = { groups = ["security"] } }
right "cut"    { who = { groups = ["security"] } }
right "users"  { who = { groups = ["security"] } }
`

// fixture is a real gate with its pages, its store and log on disk, and a real
// OpenID provider; only the target is missing.
type fixture struct {
	web    *Web
	gate   *session.Gate
	log    *audit.Log
	base   string
	roots  *x509.CertPool
	people map[string]devidp.User
	idp    *devidp.Provider
	sshCA  *identity.SSHCA
	ahead  atomic.Int64 // nanoseconds that the pages' clock is ahead
}

func start(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{people: map[string]devidp.User{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(t, err)
	f.base = "https://" + listener.Addr().String()

	caPEM, caKey, err := identity.NewServerCA("test", time.Hour)
	fatal(t, err)
	serverCA, err := identity.LoadServerCA(caPEM, caKey)
	fatal(t, err)
	certPEM, keyPEM, err := serverCA.IssueServer(nil, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour)
	fatal(t, err)
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	fatal(t, err)
	f.roots = x509.NewCertPool()
	f.roots.AppendCertsFromPEM(caPEM)

	people := devidp.People()
	for i := range people {
		if people[i].Name == "alice" {
			people[i].FullName = `Alice <script>alert("name")</script>`
		}
		f.people[people[i].Name] = people[i]
	}
	f.idp, err = devidp.Start(devidp.Config{Addr: "127.0.0.1:0", Certificate: cert, Users: people, Clients: []devidp.Client{
		{ID: "sallyport", RedirectURLs: []string{f.base + "/callback"}},
	}})
	fatal(t, err)
	t.Cleanup(func() { _ = f.idp.Close() })
	party, err := oidc.New([]oidc.Config{{
		Issuer: f.idp.URL(), ClientID: "sallyport", RedirectURL: f.base + "/callback",
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.roots}}},
	}})
	fatal(t, err)

	fatal(t, audit.Init(filepath.Join(dir, "audit"), "test.example/audit"))
	f.log, err = audit.Open(audit.Config{Dir: filepath.Join(dir, "audit"), Node: "gate"})
	fatal(t, err)
	t.Cleanup(func() { _ = f.log.Close() })
	recordings, err := audit.OpenRecordings(filepath.Join(dir, "recordings"), f.log, audit.RecordingOptions{})
	fatal(t, err)
	t.Cleanup(func() { _ = recordings.Close() })
	db, err := store.Open(filepath.Join(dir, "state.db"), f.log)
	fatal(t, err)
	t.Cleanup(func() { _ = db.Close() })

	loginPEM, loginKey, err := identity.NewCA("login", time.Hour)
	fatal(t, err)
	ca, err := identity.LoadCA(loginPEM, loginKey)
	fatal(t, err)
	sshPEM, err := identity.NewSSHCA()
	fatal(t, err)
	f.sshCA, err = identity.LoadSSHCA(sshPEM)
	fatal(t, err)
	var key [32]byte
	_, _ = rand.Read(key[:])
	sealer, err := identity.NewSealer(key)
	fatal(t, err)

	f.gate, err = session.New(session.Config{
		Store: db, Log: f.log, Recordings: recordings, URL: f.base, Scopes: map[string][]string{"postgres": nil, "ssh": {"channels", "forward", "listen"}, "http": nil},
		Certificate: func(c *x509.Certificate) (string, error) { return ca.Verify(c, time.Now()) },
	}, policyOf(t, filepath.Join(dir, "policy"), strings.ReplaceAll(rules, "ISSUER", f.idp.URL())))
	fatal(t, err)
	fatal(t, f.gate.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = f.gate.Stop(ctx, 0)
	})
	f.web, err = New(Config{
		Verify: func(ctx context.Context, session string) (audit.Report, error) {
			return audit.Verify(ctx, filepath.Join(dir, "audit"), audit.VerifyOptions{Recordings: filepath.Join(dir, "recordings"), Session: session})
		},
		Gate: f.gate, Log: f.log, Recordings: recordings, CA: ca, Sealer: sealer, SSHCA: f.sshCA, HostCA: f.sshCA.PublicKey(), URL: f.base,
		Issuer:    func() (*oidc.RelyingParty, error) { return party, nil },
		Addresses: map[string]string{"postgres": "127.0.0.1:5432", "ssh": "gate.example:2222"}, RootCA: "/etc/it's mine/ca.pem",
		TargetURL: func(t policy.Target) string { return gated.Address(f.base, t) },
		Now:       func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) },
	})
	fatal(t, err)
	server := Server(f.web, &tls.Config{Certificates: []tls.Certificate{cert}})
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close(); f.web.Close(); <-done })
	return f
}

// policyOf makes a bundle with one signature and opens it.
func policyOf(t *testing.T, dir, text string) *policy.Policy {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	fatal(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	fatal(t, err)
	fatal(t, os.MkdirAll(dir, 0o700))
	root, err := bundle.Create(dir, map[string][]byte{"policy/all.hcl": []byte(text)}, 1, time.Now().Add(24*time.Hour), map[string]ssh.Signer{"dana": signer})
	fatal(t, err)
	p, err := policy.Load(dir, policy.Options{Root: policy.RootPin(root), Now: time.Now()})
	fatal(t, err)
	return p
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// browser is one person's: it keeps cookies, follows redirects, and sends the
// headers that browsers send.
type browser struct {
	f      *fixture
	t      *testing.T
	client *http.Client
}

func (f *fixture) browser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	fatal(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{f, t, &http.Client{Jar: jar, Transport: transport, Timeout: patience}}
}

// as is a browser in which that person has signed in.
func (f *fixture) as(t *testing.T, name string) *browser {
	t.Helper()
	b := f.browser(t)
	b.signIn("/login", name)
	return b
}

// signIn signs in at the provider by its form and returns the page at the end.
func (b *browser) signIn(path, name string) answer {
	b.t.Helper()
	reply, err := devidp.SignInBrowser(b.client, b.f.base+path, name, b.f.people[name].Password)
	fatal(b.t, err)
	return read(b.t, reply)
}

// answer is a reply, read.
type answer struct {
	status int
	body   string
	header http.Header
	url    *url.URL
}

func read(t *testing.T, reply *http.Response) answer {
	t.Helper()
	defer func() { _ = reply.Body.Close() }()
	b, err := io.ReadAll(reply.Body)
	fatal(t, err)
	return answer{reply.StatusCode, string(b), reply.Header, reply.Request.URL}
}

func (b *browser) do(method, path string, body io.Reader, header map[string]string) answer {
	b.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = b.f.base + path
	}
	request, err := http.NewRequestWithContext(b.t.Context(), method, path, body)
	fatal(b.t, err)
	request.Header.Set("Accept", "text/html,application/xhtml+xml")
	for name, value := range header {
		request.Header.Set(name, value)
	}
	reply, err := b.client.Do(request)
	fatal(b.t, err)
	return read(b.t, reply)
}

func (b *browser) get(path string) answer { b.t.Helper(); return b.do("GET", path, nil, nil) }

func (b *browser) post(path string, fields ...string) answer {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.do("POST", path, strings.NewReader(form.Encode()), map[string]string{
		"Content-Type": "application/x-www-form-urlencoded", "Origin": b.f.base, "Sec-Fetch-Site": "same-origin",
	})
}

// api calls the JSON API with the cookie, or with a token.
func (b *browser) api(method, path, token string, body any) answer {
	b.t.Helper()
	var send io.Reader
	header := map[string]string{"Accept": "application/json"}
	if body != nil {
		text, err := json.Marshal(body)
		fatal(b.t, err)
		send, header["Content-Type"] = strings.NewReader(string(text)), "application/json"
	}
	if token != "" {
		header["Authorization"] = "Bearer " + token
	}
	return b.do(method, path, send, header)
}

func (a answer) want(t *testing.T, status int, parts ...string) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("%s: status %d, want %d: %s", a.url, a.status, status, a.body)
	}
	for _, part := range parts {
		if !strings.Contains(a.body, part) {
			t.Fatalf("%s lacks %q:\n%s", a.url, part, a.body)
		}
	}
	return a
}

func (a answer) lacks(t *testing.T, parts ...string) answer {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(a.body, part) {
			t.Fatalf("%s has %q:\n%s", a.url, part, a.body)
		}
	}
	return a
}

func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return v
}

// cookie is the value of one of the gate's cookies in this browser.
func (b *browser) cookie(name string) string {
	u, _ := url.Parse(b.f.base)
	for _, c := range b.client.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

func (b *browser) setCookie(name, value string) {
	u, _ := url.Parse(b.f.base)
	b.client.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
}

// ask makes a request of this person's and returns its identifier.
func (b *browser) ask(target, role, reason string) string {
	b.t.Helper()
	a := b.post("/requests/new", "access", target+" as "+role, "reason", reason, "for", "30m").want(b.t, 200)
	id := strings.TrimPrefix(a.url.Path, "/requests/")
	if id == a.url.Path || id == "new" {
		b.t.Fatalf("no request was made: %s", a.body)
	}
	return id
}

// granted makes a request that bob approves, and returns the grant.
func (f *fixture) granted(t *testing.T, alice, bob *browser) string {
	t.Helper()
	id := alice.ask("orders", "reader", "INC-1")
	bob.post("/requests/"+id, "verdict", "yes", "for", "30").want(t, 200, "Approved by bob@example.com")
	return decode[session.Request](t, alice.api("GET", "/api/v1/requests/"+id, "", nil).want(t, 200)).Grant
}

// connection is a client that is held at the gate.
type connection struct {
	link   string // the path of its page
	phrase string
	opened chan error
	sess   *session.Session
	hangUp context.CancelFunc
	mu     sync.Mutex
	lines  []string
}

var phraseForm = regexp.MustCompile(`your phrase is  (\S+ \S+)  -`)

// connect opens a held connection to a target, as a protocol does.
func (f *fixture) connect(t *testing.T, target, role, from string) *connection {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	c := &connection{opened: make(chan error, 1), hangUp: cancel}
	shown := make(chan struct{})
	protocol := map[string]string{"web-1": "ssh"}[target]
	if protocol == "" {
		protocol = "postgres"
	}
	go func() {
		sess, err := f.gate.Open(ctx, session.Ask{
			Target: target, Role: role, Proof: identity.Proof{Kind: identity.ByBrowser},
			Client: session.Client{Protocol: protocol, Address: netip.MustParseAddrPort(from), Program: "psql"},
		}, func(line string) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.lines = append(c.lines, line)
			if _, path, ok := strings.Cut(line, f.base); ok && c.link == "" {
				c.link = path
			}
			if found := phraseForm.FindStringSubmatch(line); found != nil {
				c.phrase = found[1]
				close(shown)
			}
			return nil
		})
		c.sess = sess
		c.opened <- err
	}()
	select {
	case <-shown:
	case err := <-c.opened:
		t.Fatalf("not held: %v", err)
	case <-time.After(patience):
		t.Fatal("no phrase was shown")
	}
	return c
}

// wait returns how the connection's wait ended.
func (c *connection) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.opened:
		return err
	case <-time.After(patience):
		t.Fatal("the connection is still held")
		return nil
	}
}

// wrong are the phrases on the page that the terminal does not show.
func (c *connection) wrong(t *testing.T, page string) []string {
	t.Helper()
	var others []string
	for _, found := range regexp.MustCompile(`name="phrase" value="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if found[1] != c.phrase {
			others = append(others, found[1])
		}
	}
	if len(others) != 2 {
		t.Fatalf("the page shows %d other phrases", len(others))
	}
	return others
}

// login runs the command line's side of `sallyport login` and returns an API token.
func (f *fixture) login(t *testing.T, name string, more ...string) string {
	t.Helper()
	b := f.browser(t)
	verifier, challenge := pkce()
	code := b.cliCode(name, challenge, more...)
	got := b.api("POST", "/api/v1/cli/token", "", cliExchange{Code: code, Verifier: verifier}).want(t, 200)
	return decode[cliCredentials](t, got).Token
}

func pkce() (verifier, challenge string) {
	verifier = newSecret()
	sum := sha256.Sum256([]byte(verifier))
	return verifier, base64.RawURLEncoding.EncodeToString(sum[:])
}

var codeForm = regexp.MustCompile(`<code>([A-Z2-7]{4}(?:-[A-Z2-7]{4}){3})</code>`)

// cliCode confirms and signs in, and returns the code that the page shows.
func (b *browser) cliCode(name, challenge string, more ...string) string {
	b.t.Helper()
	form := url.Values{"host": {"laptop"}, "challenge": {challenge}, "state": {"s"}}
	stop := b.client.CheckRedirect
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	to := b.post("/cli/login", "host", form.Get("host"), "challenge", challenge, "state", "s", "fresh", strings.Join(more, "")).want(b.t, 303).header.Get("Location")
	b.client.CheckRedirect = stop
	reply, err := devidp.SignInBrowser(b.client, to, name, b.f.people[name].Password)
	fatal(b.t, err)
	found := codeForm.FindStringSubmatch(read(b.t, reply).want(b.t, 200).body)
	if found == nil {
		b.t.Fatal("the page shows no code")
	}
	return found[1]
}
