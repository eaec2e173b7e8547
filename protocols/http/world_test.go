package http

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

const rules = `
rule "use" {
  target  = { names = ["app", "other"] }
  role    = ["user"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}
rule "careful" {
  target  = { name = "app" }
  role    = ["careful"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  approve {
    count = 1
    from  = { groups = ["dba"] }
  }
}
rule "look" {
  target  = { name = "app" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  scope { read_only = true }
}
rule "some" {
  target  = { name = "app" }
  role    = ["some"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  scope {
    methods = ["GET", "POST"]
    paths   = ["/public/**", "/items/*/name"]
  }
}
rule "query" {
  target  = { name = "app" }
  role    = ["query"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  scope { query = ["index=public-*", "index=own", "page?=7", "sum?=a+b"] }
}
right "cut"    { who = { groups = ["security"] } }
right "review" { who = { groups = ["security"] } }
right "users"  { who = { groups = ["security"] } }
`

var here = netip.MustParseAddr("127.0.0.1")

// options of a world.
type options struct {
	extra   string // of the target's options
	roles   string // of the target
	secrets credential.Set
	files   map[string][]byte // of the bundle
	pages   func(w *world) http.Handler
	tls     bool     // the target speaks TLS and HTTP/2
	front   string   // where a proxy before the gate listens; then the gate is plaintext
	pass    bool     // the front passes TLS on, with a header of the PROXY protocol
	trusted []string // trusted_proxies
	address string   // of another target than the handler
	limits  limits   // zero: the usual ones
	perUser int      // requests_per_user
	meter   *meter   // of the clients' connections; nil: none
	host    string   // of the application; default: app.localhost
	idle    string
	ci      *gatetest.CI

	asksCertificate bool // the target, of whoever connects
}

// world is a gate with an HTTP listener in front of an application.
type world struct {
	*gatetest.Fixture
	gate   string // https://gate.localhost:port
	app    string // https://app.localhost:port
	other  string
	addr   string // 127.0.0.1:port, where clients dial
	listen string // of the gate itself: behind a proxy it is another
	roots  *x509.CertPool
	caPEM  []byte
	cert   tls.Certificate
	pair   []byte // cert and its key, PEM
	server *proxy.Server
	target *httptest.Server
}

// later is a handler that is known after its listener is bound.
type later struct{ proxy.Handler }

func own(l *later) *handler { return l.Handler.(*handler) } //nolint:forcetypeassert // Configure makes no other

func newWorld(t testing.TB, app http.Handler, o options) *world {
	t.Helper()
	w := &world{server: &proxy.Server{}}
	ca := w.certificates(t)
	w.target = httptest.NewUnstartedServer(app)
	var address string
	how := `tls { mode = "off" }`
	if o.tls {
		w.target.EnableHTTP2 = true
		w.target.TLS = &tls.Config{Certificates: []tls.Certificate{w.cert}}
		if o.asksCertificate {
			w.target.TLS.ClientAuth = tls.RequireAnyClientCert
		}
		w.target.StartTLS()
		how = `tls {
    ca          = "ca.pem"
    server_name = "app.localhost"
  }`
	} else {
		w.target.Start()
	}
	address = w.target.Listener.Addr().String()
	t.Cleanup(w.target.Close)
	if o.address != "" {
		address = o.address
	}
	handler := &later{}
	listening := proxy.Handler(handler)
	if o.meter != nil {
		o.meter.later, listening = handler, o.meter
	}
	must(t, w.server.Listen(t.Context(), proxy.Listener{Name: Name, Address: "127.0.0.1:0", Handler: listening}))
	w.listen = w.server.Addrs()[0].String()
	if w.addr = w.listen; o.front != "" {
		w.addr = o.front
	}
	_, port, _ := net.SplitHostPort(w.addr)
	if o.host == "" {
		o.host = "app.localhost"
	}
	w.gate, w.app, w.other = "https://gate.localhost:"+port, "https://"+o.host+":"+port, "https://other.localhost:"+port
	files := map[string][]byte{"policy/ca.pem": ca}
	for name, text := range o.files {
		files[name] = text
	}
	if o.roles == "" {
		o.roles = `role "user" {}`
	}
	all := rules
	if o.ci != nil {
		all += pipelineRule
	}
	w.Fixture = gatetest.New(t, gatetest.Options{
		CI: o.ci,
		Targets: fmt.Sprintf(`
target "app" {
  protocol = "http"
  address  = %q
  %s
  options {
    host = %q
    role = "user"
    %s
  }
  %s
  role "careful" {}
  role "reader" {}
  role "some" {}
  role "query" {}
}
target "other" {
  protocol = "http"
  address  = "127.0.0.1:1"
  tls { mode = "off" }
  options { host = "other.localhost" }
  role "user" {}
}
`, address, how, o.host, o.extra, o.roles),
		Rules: all, Files: files, Secrets: o.secrets, Scopes: map[string][]string{Name: Protocol{}.Scopes()},
		Config: func(c *session.Config) { c.URL = w.gate },
	})
	config := proxy.Config{
		Gate: w.Gate, URL: w.gate, Targets: w.Policy().Targets,
		TLS: &tls.Config{Certificates: []tls.Certificate{w.cert}, MinVersion: tls.VersionTLS12},
	}
	if o.front != "" && !o.pass {
		config.TLS, config.Plaintext = nil, true
	}
	config.Options = func(into any) error {
		l := into.(*listenerOptions) //nolint:forcetypeassert // ours
		l.TrustedProxies, l.ProxyProtocol, l.RequestsPerUser, l.Idle = o.trusted, o.pass, o.perUser, o.idle
		return nil
	}
	if o.pages != nil {
		config.Pages = o.pages(w)
	}
	var err error
	handler.Handler, err = Protocol{}.Configure(config)
	must(t, err)
	if o.limits != (limits{}) {
		own(handler).limits = o.limits
	}
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(context.Background()) }()
	t.Cleanup(func() {
		w.target.CloseClientConnections()
		must(t, w.server.Close())
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Error(err)
		}
	})
	return w
}

func (w *world) certificates(t testing.TB) []byte {
	t.Helper()
	caPEM, caKey, err := identity.NewServerCA("test CA", time.Hour)
	must(t, err)
	ca, err := identity.LoadServerCA(caPEM, caKey)
	must(t, err)
	certPEM, keyPEM, err := ca.IssueServer([]string{"gate.localhost", "app.localhost", "other.localhost", "localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour)
	must(t, err)
	w.cert, err = tls.X509KeyPair(certPEM, keyPEM)
	must(t, err)
	w.pair = append(certPEM, keyPEM...)
	w.roots, w.caPEM = x509.NewCertPool(), caPEM
	w.roots.AppendCertsFromPEM(caPEM)
	return caPEM
}

// certificate is a client certificate of a sign-in.
func (w *world) certificate(t testing.TB, s identity.SignIn) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, _, err := w.CA.Issue(key.Public(), s.User, s.ID, time.Now().Add(time.Hour))
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client follows no redirects and keeps cookies; with two it speaks HTTP/2.
func (w *world) client(t testing.TB, two bool, certs ...tls.Certificate) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	must(t, err)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.roots, Certificates: certs}, ForceAttemptHTTP2: two, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, w.addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// from is a client with another address.
func (w *world) from(t testing.TB, addr string) *http.Client {
	t.Helper()
	c := w.client(t, false)
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) { //nolint:forcetypeassert // ours
		return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}).DialContext(ctx, network, w.addr)
	}
	return c
}

func mustURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	must(t, err)
	return u
}

// alice is a client with a certificate of hers.
func (w *world) alice(t testing.TB) *http.Client {
	t.Helper()
	return w.client(t, false, w.certificate(t, w.SignIn(t, gatetest.Alice)))
}

// browser is a client that has signed in at the gate's own name.
func (w *world) browser(t testing.TB, u identity.User) (*http.Client, identity.SignIn) {
	t.Helper()
	secret, now := newSecret(), time.Now()
	s := identity.SignIn{ID: identity.NewID(), User: u, Via: "browser", Created: now, Checked: now, Expires: now.Add(time.Hour), Cookie: hash(secret), Address: "127.0.0.1"}
	must(t, w.Gate.SignIn(t.Context(), s))
	c := w.client(t, false)
	base, _ := url.Parse(w.gate)
	c.Jar.SetCookies(base, []*http.Cookie{{Name: gateCookie, Value: secret, Path: "/", Secure: true}})
	return c, s
}

// A said is an answer, read whole.
type said struct {
	status int
	head   http.Header
	body   string
}

// ask makes one request; headers are "Name: value".
func ask(t testing.TB, c *http.Client, method, address string, headers ...string) said {
	t.Helper()
	s, err := try(t, c, method, address, headers...)
	must(t, err)
	return s
}

func try(t testing.TB, c *http.Client, method, address string, headers ...string) (said, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, http.NoBody)
	must(t, err)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		r.Header[name] = append(r.Header[name], value)
	}
	res, err := c.Do(r)
	if err != nil {
		return said{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return said{res.StatusCode, res.Header, string(body)}, err
}

// html is what a browser that navigates sends.
const html = "Accept: text/html,*/*"

// walk follows redirects until an answer is none, as a browser does.
func walk(t testing.TB, c *http.Client, address string) (said, string) {
	t.Helper()
	for range 10 {
		s := ask(t, c, http.MethodGet, address, html)
		if s.status != http.StatusSeeOther {
			return s, address
		}
		base, err := url.Parse(address)
		must(t, err)
		next, err := base.Parse(s.head.Get("Location"))
		must(t, err)
		address = next.String()
	}
	t.Fatal("redirects without end")
	return said{}, ""
}

// refused checks our own refusal.
func (s said) refused(t testing.TB, status int, words string) {
	t.Helper()
	if s.status != status || !strings.Contains(s.body, words) {
		t.Errorf("got %d %q, want %d with %q", s.status, s.body, status, words)
	}
}

func (s said) problem(t testing.TB) problem {
	t.Helper()
	if kind := s.head.Get("Content-Type"); kind != "application/problem+json" {
		t.Fatalf("answered %d %s: %s", s.status, kind, s.body)
	}
	var p problem
	must(t, json.Unmarshal([]byte(s.body), &p))
	return p
}

// recorded is what a recording holds, by kind.
type recorded struct {
	requests []audit.Request
	done     []audit.RequestDone
	bodies   []audit.Body
	messages []audit.Message
	raw      string
}

// record is what was recorded of somebody's newest session, of a role and a target
// where they are named, once it is over.
func (w *world) record(t testing.TB, by identity.SignIn, of ...string) (r recorded) {
	t.Helper()
	var id string
	eventually(t, "the session does not end", func() bool {
		filter := session.Filter{State: "ended", User: by.User.ID()}
		if len(of) > 0 {
			filter.Role = of[0]
		}
		if len(of) > 1 {
			filter.Target = of[1]
		}
		list, err := w.Sessions(t.Context(), by, filter)
		must(t, err)
		if len(list) > 0 {
			id = list[0].ID
		}
		return id != ""
	})
	recording, err := w.Recordings.Read(id)
	must(t, err)
	for line, err := range recording.Lines(t.Context()) {
		must(t, err)
		r.raw += string(line.Raw) + "\n"
		switch track := line.Track.(type) {
		case audit.Request:
			r.requests = append(r.requests, track)
		case audit.RequestDone:
			r.done = append(r.done, track)
		case audit.Body:
			r.bodies = append(r.bodies, track)
		case audit.Message:
			r.messages = append(r.messages, track)
		}
	}
	return r
}

// end revokes everything that somebody has, behind the caller's back, and returns
// when that began.
func (w *world) end(t testing.TB, u identity.User) time.Time {
	t.Helper()
	sam := w.SignIn(t, gatetest.Sam)
	list, err := w.Grants(t.Context(), sam, session.Filter{State: string(session.GrantActive), User: u.ID()})
	must(t, err)
	begun, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		for _, g := range list {
			if err := w.Revoke(context.WithoutCancel(t.Context()), sam, g.ID, "enough"); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() { <-done })
	return begun
}

func eventually(t testing.TB, otherwise string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal(otherwise)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// seen keeps the last request that reached an application.
type seen struct {
	requests chan *http.Request
}

func newSeen() *seen { return &seen{make(chan *http.Request, 100)} }

func (s *seen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	s.requests <- r
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, "application")
}

func (s *seen) last(t testing.TB) *http.Request {
	t.Helper()
	select {
	case r := <-s.requests:
		return r
	default:
		t.Fatal("nothing reached the application")
		return nil
	}
}

// none fails where anything has reached the application.
func (s *seen) none(t testing.TB) {
	t.Helper()
	select {
	case r := <-s.requests:
		t.Errorf("%s %s reached the application", r.Method, r.RequestURI)
	default:
	}
}
