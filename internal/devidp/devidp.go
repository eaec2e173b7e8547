// Package devidp is an OpenID provider for the demo and for tests: a few invented
// people with passwords, in memory, on loopback only. It is built on the certified
// library zitadel/oidc, so that what signs in here is real OpenID Connect:
// authorization code with PKCE, refresh tokens that rotate, userinfo, key rotation.
//
// It is not for real people: passwords are kept as they are, and whoever can reach
// it may try them. So it refuses to listen anywhere but on loopback.
package devidp

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/sallyport/sallyport/identity"
)

// A Config is a provider to start.
type Config struct {
	Addr        string          // such as 127.0.0.1:0
	Host        string          // the name in the issuer's URL, one that Certificate holds, and the port where something stands before this; default: Addr's
	Certificate tls.Certificate // for TLS, which there is no way without
	Users       []User
	Clients     []Client
}

// A User is an invented person.
type User struct {
	Name       string // what is typed at sign-in, and the subject
	FullName   string
	Email      string
	Unverified bool // email_verified is false
	Password   string
	Groups     []string
}

// A Client is an application that people sign in to.
type Client struct {
	ID           string
	Secret       string // empty: a public client
	RedirectURLs []string
}

// People are those of the demo, with passwords that are new each time.
func People() []User {
	people := []User{
		{Name: "alice", FullName: "Alice Archer", Groups: []string{"engineering"}},
		{Name: "bob", FullName: "Bob Baker", Groups: []string{"dba"}},
		{Name: "carol", FullName: "Carol Carter", Groups: []string{"dba"}},
		{Name: "sam", FullName: "Sam Sawyer", Groups: []string{"security"}},
	}
	for i := range people {
		people[i].Email = people[i].Name + "@example.com"
		phrase, _ := identity.NewPhrases()
		people[i].Password = strings.ReplaceAll(phrase, " ", "-")
	}
	return people
}

// A Provider is one that runs.
type Provider struct {
	url    string
	store  *store
	server *http.Server
	served chan struct{}
}

// Start listens and serves until Close.
func Start(c Config) (*Provider, error) {
	if err := loopbackOnly(c.Addr); err != nil {
		return nil, err
	}
	if len(c.Certificate.Certificate) == 0 {
		return nil, errors.New("the demo's provider needs a TLS certificate")
	}
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for the demo's provider: %w", err)
	}
	p, err := newProvider(c, listener.Addr().String())
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	go func() {
		defer close(p.served)
		_ = p.server.Serve(tls.NewListener(listener, p.server.TLSConfig)) // ends by Close
	}()
	return p, nil
}

// URL is the issuer, as tokens and discovery name it.
func (p *Provider) URL() string { return p.url }

// Close stops listening, ends all connections and waits for the server.
func (p *Provider) Close() error {
	err := p.server.Close()
	<-p.served
	return err
}

func loopbackOnly(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address of the demo's provider: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("the demo's provider listens on 127.0.0.1 or ::1 only, not on %q: it is not for real people", host)
	}
	return nil
}

func newProvider(c Config, addr string) (*Provider, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if h, p, err := net.SplitHostPort(c.Host); err == nil {
		host, port = h, p
	} else if c.Host != "" {
		host = c.Host
	}
	issuer := "https://" + net.JoinHostPort(host, port)
	store, err := newStore(c, issuer)
	if err != nil {
		return nil, fmt.Errorf("make the demo's provider: %w", err)
	}
	config := &op.Config{CodeMethodS256: true, AuthMethodPost: true, GrantTypeRefreshToken: true, SupportedScopes: scopes()}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		return nil, err
	}
	config.CryptoKeyId = "1"
	// The library logs refusals to slog.Default(); there is no other way.
	provider, err := op.NewProvider(config, store, op.StaticIssuer(issuer))
	if err != nil {
		return nil, fmt.Errorf("make the demo's provider: %w", err)
	}
	return &Provider{
		url:   issuer,
		store: store,
		server: &http.Server{
			Handler:           routes(provider, store),
			TLSConfig:         &tls.Config{Certificates: []tls.Certificate{c.Certificate}, MinVersion: tls.VersionTLS12},
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       20 * time.Second,
			ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		},
		served: make(chan struct{}),
	}, nil
}
