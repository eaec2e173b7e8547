// Package proxy owns connections: listeners, limits, shutdown, the Protocol seam
// and the byte pump. It knows no wire language; protocols/X import it as handlers
// import net/http.
package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// A Protocol is one wire language. Adding one is a folder and a line in protocols.All.
type Protocol interface {
	// Name is the word in config, policy and log: "postgres".
	Name() string
	// Scopes lists the parts of a policy.Scope (the words of Scope.Parts) that the
	// protocol enforces; policy check and the gate refuse a scope with others.
	Scopes() []string
	// Check says what is wrong with the options of this protocol's targets and of their
	// roles. `policy check` and the loader ask it of every policy.
	Check(targets []policy.Target) []policy.Problem
	// Configure decodes and checks this protocol's own options. It does no I/O.
	Configure(c Config) (Handler, error)
}

// A Handler serves one client connection from its first byte to its last. It owns
// conn, returns when both sides are done, and returns soon after ctx is done.
type Handler interface {
	Serve(ctx context.Context, conn net.Conn) error
}

// Config is what a protocol is given for one listener.
type Config struct {
	Gate *session.Gate
	// TLS is the listener's server side, nil where the listener is plaintext. It has
	// ClientAuth RequestClientCert: the gate verifies, so that a bad certificate gets
	// words of ours and not an alert.
	TLS *tls.Config
	// Plaintext says that clients may connect without TLS; no password is then asked.
	Plaintext bool
	// Pages is the gate's own web pages, for the HTTP protocol, which shares their port.
	Pages http.Handler
	// URL is the base of the gate's own pages, without a final slash.
	URL string
	Log *slog.Logger
	// Targets are the policy's targets of this protocol now; names and labels are for
	// messages, and addresses are not in them.
	Targets func() []policy.Target
	// Roots verifies targets that name no CA of their own; nil: the system's.
	Roots *x509.CertPool
	// Options decodes the listener's protocol block; unknown keys are errors.
	Options func(into any) error
}
