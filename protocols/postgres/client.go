package postgres

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// Request codes of the first packet (manual, "Message Formats").
const (
	codeCancel  = 80877102
	codeTLS     = 80877103
	codeGSS     = 80877104
	version30   = pgproto3.ProtocolVersion30
	version32   = pgproto3.ProtocolVersion32
	maxStartup  = 10_000    // bytes; PostgreSQL's MAX_STARTUP_PACKET_LENGTH
	maxPassword = 8<<10 + 5 // bytes; a grant token has 53, a pipeline's JWT up to 8 KiB
	tlsHello    = 0x16      // first byte of a TLS handshake record
)

// hello is what the client said it wants, nothing of it verified.
type hello struct {
	ask    session.Ask
	params []param // for the target, in the client's order, without user and database
}

// hello reads up to the client's startup message, and the token where it said so.
func (c *conn) hello(ctx context.Context) (*hello, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.base.SetDeadline(time.Now()) })
	defer stop()
	body, err := c.startup(ctx)
	if err != nil {
		return nil, err
	}
	s, err := parseStartup(body, c.targets)
	c.version = version30
	if s.version != 0 {
		c.version = s.version
	}
	if err != nil {
		return nil, err
	}
	if c.peer() == nil && !c.h.config.Plaintext {
		return nil, &session.Denied{Reason: "this gate takes connections with TLS only", Next: "set sslmode=verify-full"}
	}
	if s.negotiate {
		m := &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: s.version, UnrecognizedOptions: s.unknown}
		if err := c.write(encode(nil, m), writeWait); err != nil {
			return nil, err
		}
	}
	s.ask.Client = session.Client{Protocol: Name, Address: proxy.AddrPort(c.base), Program: s.program}
	if s.ask.Proof, err = c.proof(s.proof); err != nil {
		return nil, err
	}
	return &hello{ask: s.ask, params: s.params}, nil
}

// startup goes through what may come before the startup message, each at most once,
// and returns that message's body. errDone: the connection was a cancel request.
func (c *conn) startup(ctx context.Context) ([]byte, error) {
	asked := map[uint32]bool{}
	if first, err := c.base.Peek(); err != nil {
		return nil, errDone // a port scan or a health check: nothing was said
	} else if first == tlsHello && c.h.tls != nil {
		asked[codeTLS] = true
		if err := c.upgrade(ctx, true); err != nil {
			return nil, err
		}
	}
	for {
		body, err := c.packet()
		if err != nil {
			return nil, err
		}
		code := binary.BigEndian.Uint32(body)
		switch {
		case code == codeCancel:
			c.cancelRequest(ctx, body[4:])
			return nil, errDone
		case code == codeTLS || code == codeGSS:
			if len(body) != 4 || asked[code] {
				return nil, invalidPacket("the client asks for encryption twice")
			}
			asked[code] = true
			if code == codeGSS || c.h.tls == nil {
				err = c.write([]byte{'N'}, writeWait)
			} else if err = c.write([]byte{'S'}, writeWait); err == nil {
				err = c.upgrade(ctx, false)
			}
			if err != nil {
				return nil, err
			}
		default:
			return body, nil
		}
	}
}

// packet reads one message without a type byte: length, then at least a code. It
// reads not one byte more, so that nothing sent in plaintext is left over when TLS
// begins (CVE-2021-23222).
func (c *conn) packet() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.net, head[:]); err != nil {
		return nil, fmt.Errorf("read the startup packet: %w", err)
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < 8 || length > maxStartup {
		return nil, invalidPacket("the startup packet has no valid length")
	}
	body := make([]byte, length-4)
	if _, err := io.ReadFull(c.net, body); err != nil {
		return nil, fmt.Errorf("read the startup packet: %w", err)
	}
	return body, nil
}

func invalidPacket(hint string) error {
	return &session.Invalid{Field: "protocol", Hint: hint}
}

// upgrade puts TLS on the connection. A client that begins it without asking must
// name the protocol, as PostgreSQL demands: it may have meant another server.
func (c *conn) upgrade(ctx context.Context, direct bool) error {
	if _, again := c.net.(*tls.Conn); again {
		return invalidPacket("the client asks for encryption twice")
	}
	t := tls.Server(c.base, c.h.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		c.told = true // the alert said it
		return fmt.Errorf("tls handshake: %w", err)
	}
	if direct && t.ConnectionState().NegotiatedProtocol != alpn {
		c.told = true
		return fmt.Errorf("direct tls without ALPN %q", alpn)
	}
	c.net = t
	return nil
}

// targets are the names that the policy has now, for telling a database that was
// named from one that libpq made up.
func (c *conn) targets(name string) bool {
	for _, t := range c.h.config.Targets() {
		if t.Name == name {
			return true
		}
	}
	return false
}

// proof takes what the client shows. A certificate is recognised by itself; a token
// is asked for, never without TLS.
func (c *conn) proof(kind identity.ProofKind) (identity.Proof, error) {
	peer := c.peer()
	switch {
	case kind == identity.ByToken:
		if peer == nil {
			return identity.Proof{}, &session.Denied{Reason: "a token is never asked for without TLS", Next: "set sslmode=verify-full"}
		}
		token, err := c.password()
		return identity.Proof{Kind: identity.ByToken, Token: token}, err
	case kind == identity.ByOAuth:
		return identity.Proof{}, &session.Denied{Reason: "this gate does not take OAUTHBEARER yet", Next: "connect as the role alone to sign in by browser, or as role+token"}
	case peer != nil && len(peer.PeerCertificates) > 0:
		return identity.Proof{Kind: identity.ByCertificate, Certificate: peer.PeerCertificates[0]}, nil
	}
	return identity.Proof{Kind: identity.ByBrowser}, nil
}

// password asks for the grant token, or a pipeline's JWT.
func (c *conn) password() (identity.Token, error) {
	if err := c.write(encode(nil, &pgproto3.AuthenticationCleartextPassword{}), writeWait); err != nil {
		return "", err
	}
	var head [5]byte
	if _, err := io.ReadFull(c.net, head[:]); err != nil {
		c.told = true // libpq hangs up to ask the person for a password
		return "", fmt.Errorf("read the token: %w", err)
	}
	length := binary.BigEndian.Uint32(head[1:])
	if head[0] != 'p' || length < 5 || length > maxPassword {
		return "", session.ErrBadToken
	}
	body := make([]byte, length-4)
	if _, err := io.ReadFull(c.net, body); err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	var m pgproto3.PasswordMessage
	if err := m.Decode(body); err != nil {
		return "", session.ErrBadToken
	}
	return identity.Token(m.Password), nil
}

// encode appends a message of ours. Ours are small and well formed, so an error is a
// programming error.
func encode(dst []byte, m pgproto3.BackendMessage) []byte {
	out, err := m.Encode(dst)
	if err != nil {
		panic(fmt.Sprintf("postgres: encode %T: %v", m, err))
	}
	return out
}
