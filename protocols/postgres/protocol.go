package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// Name is the protocol's word in config, policy and log.
const Name = "postgres"

// Protocol is PostgreSQL, for protocols.All.
type Protocol struct{}

// Name returns "postgres".
func (Protocol) Name() string { return Name }

// Scopes lists what a session can be held to: a session stays in the one database
// that it was opened for.
func (Protocol) Scopes() []string { return []string{"databases"} }

// targetOptions is the `options` block of a target in the signed policy.
type targetOptions struct {
	// Database is the target's own database, which `dbname=target` opens. Default: the
	// target's name.
	Database string `hcl:"database,optional"`
}

// roleOptions is the `options` block of a target's role in the signed policy.
type roleOptions struct {
	// Members are the roles that the account may be a member of, directly or not. A
	// membership that is not listed is refused at login: SET ROLE would reach it.
	Members []string `hcl:"members,optional"`
	// CreateRole says that the account may have CREATEROLE, with which it can give
	// itself memberships. Default: refused at login.
	CreateRole bool `hcl:"create_role,optional"`
}

// Check implements proxy.Protocol.
func (Protocol) Check(targets []policy.Target) []policy.Problem {
	return proxy.CheckOptions[targetOptions, roleOptions](targets, nil)
}

// Configure checks the listener's options; PostgreSQL has none of its own.
func (Protocol) Configure(c proxy.Config) (proxy.Handler, error) {
	if c.Gate == nil {
		return nil, errors.New("postgres: no gate")
	}
	if c.Options != nil {
		if err := c.Options(&struct{}{}); err != nil {
			return nil, err
		}
	}
	if c.TLS == nil && !c.Plaintext {
		return nil, errors.New("postgres: a listener without TLS needs plaintext = true, and then asks for no tokens")
	}
	h := &handler{config: c, keys: keys{live: map[uint32]*key{}}}
	if c.TLS != nil {
		h.tls = c.TLS.Clone()
		h.tls.NextProtos = []string{alpn}
		h.tls.DynamicRecordSizingDisabled = true // rows stream; small first records only cost
	}
	return h, nil
}

// alpn is PostgreSQL's name for itself (manual, "SSL Session Encryption").
const alpn = "postgresql"

// handler serves the connections of one listener.
type handler struct {
	config proxy.Config
	tls    *tls.Config // nil where the listener is plaintext
	keys   keys
	paces  paces
	warned sync.Map // target/role whose password a session could replace, warned about once
}

// Serve implements proxy.Handler.
func (h *handler) Serve(ctx context.Context, nc net.Conn) error {
	c := &conn{h: h, gate: h.config.Gate, log: proxy.Logger(ctx), base: proxy.NewConn(nc)}
	c.net = c.base
	err := c.serve(ctx)
	c.refuse(err)
	c.linger()
	return err
}
