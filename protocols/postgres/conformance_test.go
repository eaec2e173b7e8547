package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/proxy/proxytest"
)

func TestConformance(t *testing.T) {
	pg := pgtest.Start(t)
	proxytest.Conformance(t, proxytest.Harness{
		Protocol: Protocol{},
		Target:   net.JoinHostPort(pg.Host, strconv.Itoa(pg.Port)),
		Targets: func(address string) string {
			return fmt.Sprintf(`
target "orders" {
  protocol = "postgres"
  address  = %q
  tls { ca = "target.pem" }
  role "reader" { credential = "password" }
  role "writer" { credential = "password" }
}
`, address)
		},
		Files:   map[string][]byte{"policy/target.pem": pg.CA},
		Secrets: credential.Set{"password": fixed(pgtest.Password)},
		Connect: newClient,
	})
}

// client is pgx, driven by proxytest.
type client struct {
	cancel context.CancelFunc
	mu     sync.Mutex
	shown  string
	raw    net.Conn
	conn   *pgconn.PgConn
	err    error
	ready  chan struct{}
}

func newClient(t testing.TB, d proxytest.Door) proxytest.Client {
	host, port, _ := net.SplitHostPort(d.Addr)
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=orders sslmode=require", host, port, d.Role))
	if err != nil {
		t.Fatal(err)
	}
	config.TLSConfig = clientTLS(d.Roots, d.Certificate)
	config.Fallbacks = nil
	c := &client{ready: make(chan struct{})}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.shown += n.Message + "\n"
	}
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw = conn
		return conn, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go func() {
		defer close(c.ready)
		c.conn, c.err = pgconn.ConnectConfig(ctx, config)
	}()
	return c
}

func clientTLS(roots *x509.CertPool, pair tls.Certificate) *tls.Config {
	config := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if pair.Certificate != nil {
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

func (c *client) Notices() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown
}

func (c *client) Ready(ctx context.Context) error {
	select {
	case <-c.ready:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *client) Ask(ctx context.Context) error {
	_, err := c.conn.Exec(ctx, "select 1").ReadAll()
	return err
}

func (c *client) Pour(ctx context.Context, flowing func()) error {
	once := sync.OnceFunc(flowing)
	_, err := c.conn.CopyTo(ctx, writer(func(p []byte) (int, error) {
		once()
		return len(p), nil
	}), "copy (select repeat('x', 1000), generate_series(1, 100000000)) to stdout")
	return err
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// Early sends a query before the gate has let the client in. It goes past TLS, and so
// it ends the connection there; a query inside TLS is tried in TestEarlyBytes.
func (c *client) Early() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.raw.Write([]byte("Q\x00\x00\x00\x0dselect 1\x00"))
}

func (c *client) HangUp() {
	c.cancel()
	c.mu.Lock()
	raw := c.raw
	c.mu.Unlock()
	if raw != nil {
		_ = raw.Close()
	}
	<-c.ready
}
