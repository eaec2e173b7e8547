package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/oidc"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// Config is what New needs. SSHCA, HostCA, Addresses, TargetURL, RootCA, Ready, Logger and Now may be left out.
type Config struct {
	Gate       *session.Gate
	Log        *audit.Log
	Recordings *audit.Recordings
	// Issuer is the identity provider to sign in with now; it changes with the
	// signed policy. An error is shown to who signs in as the gate's own trouble.
	// Its redirect URL is URL + "/callback".
	Issuer func() (*oidc.RelyingParty, error)
	// CA makes the client certificates of `sallyport login`; Sealer keeps refresh
	// tokens unreadable in the store.
	CA     *identity.CA
	Sealer *identity.Sealer
	// SSHCA makes their certificates for SSH; nil: there are none.
	SSHCA *identity.SSHCA
	// HostCA is the CA by which ssh knows this gate; nil: it has no SSH listener.
	HostCA ssh.PublicKey
	// Verify checks the record of one session on disk, as `sallyport recordings verify`
	// does: audit.Verify with the folders of this gate.
	Verify func(ctx context.Context, session string) (audit.Report, error)
	// URL is the base of the pages, "https://gate.example.com", without a final
	// slash. Requests for another host are refused, so that no other name (DNS
	// rebinding) can speak to the pages.
	URL string
	// Addresses says, for each protocol, the host:port that clients connect to.
	Addresses map[string]string
	// TargetURL is where a target of HTTP is for browsers and programs; empty: nowhere.
	TargetURL func(policy.Target) string
	// RootCA is the file of the CA that clients verify the gate with, shown in
	// connection strings; empty: the system's roots do.
	RootCA string
	// Ready is asked by /readyz; nil: always ready once the gate has not stopped.
	Ready  func(context.Context) error
	Logger *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Web is the gate's pages and API as an http.Handler. Close ends its websockets.
type Web struct {
	gate    *session.Gate
	log     *audit.Log
	records *audit.Recordings
	config  Config
	logger  *slog.Logger
	now     func() time.Time

	origin  string // "https://host:port"
	host    string
	pages   map[string]*template.Template
	assets  map[string]asset
	routes  []route
	mux     *http.ServeMux
	handler http.Handler

	verify  chan struct{} // one check of the record at a time: each reads all of the log
	codes   *codes
	sockets sockets
	ended   context.Context //nolint:containedctx // only its end is used: it tells the sockets that Close was called
	end     context.CancelFunc
}

// New checks the configuration and builds the pages. It does no I/O.
func New(c Config) (*Web, error) {
	base, err := url.Parse(c.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.Path != "" || base.RawQuery != "" {
		return nil, fmt.Errorf("url %q: want https://host[:port] without a path: the cookies need TLS", c.URL)
	}
	if c.Gate == nil || c.Log == nil || c.Recordings == nil || c.Issuer == nil || c.CA == nil || c.Sealer == nil || c.Verify == nil {
		return nil, errors.New("web: gate, log, recordings, verify, issuer, CA and sealer must be set")
	}
	s := &Web{
		gate: c.Gate, log: c.Log, records: c.Recordings, config: c, logger: c.Logger, now: c.Now,
		origin: c.URL, host: strings.ToLower(base.Host),
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.verify = make(chan struct{}, 1)
	s.codes = newCodes(s.now)
	s.sockets.count = map[string]int{}
	s.ended, s.end = context.WithCancel(context.Background())
	if s.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if s.pages, err = s.loadPages(); err != nil {
		return nil, err
	}
	s.routes = s.allRoutes()
	s.mux = http.NewServeMux()
	for _, r := range s.routes {
		s.mux.Handle(r.method+" "+r.path, s.serve(r))
	}
	s.mux.Handle("/", s.serve(route{path: "/", access: open, do: s.unknown}))
	s.handler = s.guard(s.mux)
	return s, nil
}

// ServeHTTP answers one request.
func (s *Web) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close ends the websockets, which an http.Server no longer knows, and waits for them.
func (s *Web) Close() {
	s.sockets.shut()
	s.end()
	s.sockets.open.Wait()
}

// A visit is one request, and who makes it.
type visit struct {
	w     http.ResponseWriter
	r     *http.Request
	by    identity.SignIn // zero on open routes
	addr  netip.Addr
	route route
}

// api reports that the answer is JSON whatever the Accept header says.
func (v *visit) api() bool { return strings.HasPrefix(v.r.URL.Path, "/api/") }

// id is the {id} of the path.
func (v *visit) id() string { return v.r.PathValue("id") }

// page reports that the caller can read a page.
func (v *visit) page() bool {
	return !v.api() && strings.Contains(v.r.Header.Get("Accept"), "text/html")
}
