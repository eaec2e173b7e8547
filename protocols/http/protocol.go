package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/proxy"
)

// Name is the protocol's word in policy and log. Its listener is the "web" one.
const Name = "http"

// perUser is how many requests, streams and websockets one person may have under way.
const perUser = 512

// maxIdle is how long a session may live with nothing asked of it.
const maxIdle = 5 * time.Minute

// Protocol is HTTP, for protocols.All.
type Protocol struct{}

// Name returns "http".
func (Protocol) Name() string { return Name }

// Scopes lists what each request is held to.
func (Protocol) Scopes() []string { return []string{"methods", "paths", "query", "read_only"} }

// listenerOptions is the `options` block of the listener.
type listenerOptions struct {
	// Idle is how long a session lives with nothing asked of it. Default and most: "5m".
	Idle string `hcl:"idle,optional"`
	// TrustedProxies are the networks of proxies that are believed about their clients'
	// addresses. Default none: what any client could write of itself would be shown to
	// approvers, compared with the browser's address, and recorded.
	TrustedProxies []string `hcl:"trusted_proxies,optional"`
	// ProxyProtocol has connections from trusted proxies begin with a header of the PROXY
	// protocol, version 2; for proxies that pass TLS on as it is. Default false.
	ProxyProtocol bool `hcl:"proxy_protocol,optional"`
	// RequestsPerUser is how many requests, streams and websockets one person may have
	// under way, over all sessions and connections. Default: 512; without a bound one of
	// them could take all connections and all memory from the others.
	RequestsPerUser int `hcl:"requests_per_user,optional"`
}

// Configure checks the listener's options.
func (Protocol) Configure(c proxy.Config) (proxy.Handler, error) {
	if c.Gate == nil {
		return nil, errors.New("http: no gate")
	}
	base, err := url.Parse(c.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("http: %q is no https URL of the gate's pages", c.URL)
	}
	if c.TLS == nil && !c.Plaintext {
		return nil, errors.New("http: a listener without TLS needs plaintext = true, and a TLS proxy before it")
	}
	o := listenerOptions{}
	if c.Options != nil {
		if err := c.Options(&o); err != nil {
			return nil, err
		}
	}
	h := &handler{
		config: c, base: base, gateHost: strings.ToLower(base.Host), idle: maxIdle, log: c.Log,
		limits: limits{headWait, idleWait, stallWait}, perUser: perUser, busy: map[string]int{},
		lives: map[key]*live{}, ends: map[key]ending{}, visitors: map[[32]byte]*visitor{}, codes: map[[32]byte]code{},
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if o.Idle != "" {
		if h.idle, err = time.ParseDuration(o.Idle); err != nil || h.idle <= 0 || h.idle > maxIdle {
			return nil, fmt.Errorf("http: idle = %q: write a duration of at most 5m", o.Idle)
		}
	}
	if o.RequestsPerUser < 0 {
		return nil, errors.New("http: requests_per_user is at least 1; leave it out for 512")
	}
	if o.RequestsPerUser > 0 {
		h.perUser = o.RequestsPerUser
	}
	if h.trusted, err = parseNetworks(o.TrustedProxies); err != nil {
		return nil, err
	}
	if h.preamble = o.ProxyProtocol; h.preamble && len(h.trusted) == 0 {
		return nil, errors.New("http: proxy_protocol needs trusted_proxies, the networks whose header is believed")
	}
	if c.TLS != nil {
		h.tls = h.serverTLS(c.TLS)
	}
	if h.signer, err = newSigner(); err != nil {
		return nil, err
	}
	return h, nil
}

// handler serves the connections of one listener.
type handler struct {
	config   proxy.Config
	base     *url.URL
	gateHost string // host[:port] of the gate's own pages, lower case
	tls      *tls.Config
	idle     time.Duration
	limits   limits
	perUser  int // requests under way of one person
	trusted  networks
	preamble bool // of the PROXY protocol, from trusted proxies
	log      *slog.Logger
	signer   *signer
	table    atomic.Pointer[table]

	mu       sync.Mutex
	busy     map[string]int // requests under way, by person
	lives    map[key]*live
	ends     map[key]ending
	visitors map[[32]byte]*visitor // by SHA-256 of their cookie
	codes    map[[32]byte]code     // by SHA-256
}

// serverTLS asks for a client certificate on targets' names only: on the gate's own
// pages a browser would bother its user about one.
func (h *handler) serverTLS(c *tls.Config) *tls.Config {
	pages := c.Clone()
	pages.NextProtos = []string{"h2", "http/1.1"}
	pages.ClientAuth = tls.NoClientCert
	targets := pages.Clone()
	targets.ClientAuth = tls.RequestClientCert // the gate verifies, and says what is wrong
	targets.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if strings.EqualFold(hello.ServerName, h.base.Hostname()) {
			return pages, nil
		}
		return nil, nil //nolint:nilnil // crypto/tls: keep the outer configuration
	}
	return targets
}

// Serve implements proxy.Handler.
func (h *handler) Serve(ctx context.Context, nc net.Conn) error {
	base := proxy.NewConn(nc)
	c := &conn{h: h, base: base, socket: &socket{Conn: base, gone: make(chan struct{})}, taken: make(chan *dialogue, 1)}
	if h.preamble && h.trusted.has(proxy.Source(base)) {
		addr, err := preamble(base) // within the connection's first deadline
		if err != nil {
			proxy.Logger(ctx).Warn("a trusted proxy's connection is closed", "err", err)
			return err
		}
		if addr != nil {
			c.socket.from = addr
		}
	}
	c.behind = h.trusted.has(proxy.Source(c.socket))
	return c.serve(ctx)
}

// A site is a target under its host name.
type site struct {
	target string
	host   string // host[:port], lower case, as browsers send it
	roles  []string
	cross  *http.CrossOriginProtection
	targetOptions
}

func (s *site) url(path string) string { return "https://" + s.host + path }

// table is what the policy of one digest says of hosts.
type table struct {
	digest   string
	byHost   map[string]*site
	byTarget map[string]*site
}

// sites reads the targets of the policy of now. What cannot be served is left out and
// said in the log: a host that two targets claim belongs to neither.
func (h *handler) sites() *table {
	digest := h.config.Gate.Policy().Digest()
	if t := h.table.Load(); t != nil && t.digest == digest {
		return t
	}
	t := &table{digest: digest, byHost: map[string]*site{}, byTarget: map[string]*site{}}
	twice := map[string]bool{}
	for _, target := range h.config.Targets() {
		if target.Protocol != Name {
			continue
		}
		s := &site{target: target.Name}
		var err error
		if target.Options != nil {
			err = target.Options(&s.targetOptions)
		}
		for role := range target.Roles {
			s.roles = append(s.roles, role)
		}
		if err == nil {
			err = h.name(s)
		}
		if err != nil {
			h.log.Error("a target cannot be served", "target", target.Name, "err", err)
			continue
		}
		if t.byHost[s.host] != nil || twice[s.host] {
			h.log.Error("two targets have one host, so neither is served", "host", s.host)
			twice[s.host] = true
			delete(t.byHost, s.host)
			continue
		}
		t.byHost[s.host], t.byTarget[s.target] = s, s
	}
	for name, s := range t.byTarget {
		if t.byHost[s.host] == nil {
			delete(t.byTarget, name)
		}
	}
	h.table.Store(t)
	return t
}

// name checks a target's options, and its host against the gate's: neither may be a
// parent of the other, because cookies with a Domain would reach across.
func (h *handler) name(s *site) error {
	for _, flaw := range s.flaws() {
		return errors.New(flaw.say)
	}
	host, gate := strings.ToLower(s.Host), strings.ToLower(h.base.Hostname())
	if host == gate || strings.HasSuffix(host, "."+gate) || strings.HasSuffix(gate, "."+host) {
		return fmt.Errorf("the host %s is the gate's own name, or a parent or child of it", host)
	}
	s.host, s.cross = withPort(host, h.base), http.NewCrossOriginProtection()
	for _, origin := range s.Origins {
		if err := s.cross.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("the origin %q: %w", origin, err)
		}
	}
	return nil
}

// find is the site of a request's Host; nil where there is none.
func (t *table) find(r *http.Request) *site { return t.byHost[strings.ToLower(r.Host)] }
