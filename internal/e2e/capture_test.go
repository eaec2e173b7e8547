package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// A capture stands before a target and sees all that reaches it.
type capture struct {
	listener net.Listener
	target   string
	flows    sync.WaitGroup

	mu    sync.Mutex
	conns int
	bytes []byte // of all connections, as they came
}

// startCapture listens where the policy says that the target is, and forwards to it.
func startCapture(t *testing.T, target string) *capture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &capture{listener: l, target: target}
	c.flows.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed at the test's end
			}
			c.mu.Lock()
			c.conns++
			c.mu.Unlock()
			c.flows.Go(func() { c.forward(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.flows.Wait()
	})
	return c
}

func (c *capture) forward(conn net.Conn) {
	defer conn.Close()
	target, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer target.Close()
	c.flows.Go(func() {
		_, _ = io.Copy(conn, target) // ends with either side
		_ = conn.Close()
	})
	_, _ = io.Copy(io.MultiWriter(c, target), conn)
}

// Write keeps what the gate has sent.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes = append(c.bytes, p...)
	return len(p), nil
}

func (c *capture) seen() (conns, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conns, len(c.bytes)
}

func (c *capture) address() string {
	_, port, _ := net.SplitHostPort(c.listener.Addr().String())
	return "localhost:" + port
}

// Promise 1 of a hold, seen at the target: before the yes not one connection and not one
// byte, whatever the proof; after it the session, and nothing of those who were refused.
func TestCaptureAtTheTarget(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	c := startCapture(t, fmt.Sprintf("127.0.0.1:%d", m.pg.Port))
	m.write(t, "policy/policy/targets.hcl", target("orders", c.address(), "db-ca.crt", "orders-reader"))
	m.release(t)
	m.serve(t)
	silent := func(when string) {
		t.Helper()
		if conns, bytes := c.seen(); conns != 0 || bytes != 0 {
			t.Fatalf("%s: %d connections and %d bytes have reached the target", when, conns, bytes)
		}
	}
	silent("at the start")
	home := m.login(t, "alice@example.com")
	pair := []string{"PGSSLCERT=" + filepath.Join(home, "client.crt"), "PGSSLKEY=" + filepath.Join(home, "client.key")}

	browser := m.psql(t, "reader", nil, "-c", "SELECT 'by browser'")
	link, phrase := browser.link(t)
	silent("a browser's link is shown")
	m.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	browser.says(t, "waiting for 1 of")
	silent("confirmed, and held")

	certificate := m.psql(t, "reader", append(pair, `PGOPTIONS=-c sallyport.reason=INC-1`), "-c", "SELECT 'by certificate'")
	certificate.says(t, "waiting for 1 of")
	silent("held by certificate")
	nowait := m.psql(t, "reader", append(pair, `PGOPTIONS=-c sallyport.wait=0 -c sallyport.reason=INC-2`), "-c", "SELECT 'no wait'")
	if shown, err := nowait.ends(t); err == nil || !strings.Contains(shown, "waits for") {
		t.Errorf("wait=0 (%v) shows:\n%s", err, shown)
	}
	silent("answered at once")
	for _, token := range []string{"spg_" + strings.Repeat("A", 43), "spa_" + strings.Repeat("A", 43)} {
		shown, err := m.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'by token'").ends(t)
		if err == nil {
			t.Errorf("the token %q opens:\n%s", token, shown)
		}
	}
	silent("tokens that nobody was given")
	if _, err := pgconn.Connect(context.Background(), m.conninfo(t, "reader")+" replication=database connect_timeout=10"); err == nil {
		t.Error("replication is let in")
	}
	silent("replication is refused")

	// The yes is to the browser's request; the others still wait.
	bob := m.signedIn(t, "bob@example.com")
	var id string
	for _, r := range list[struct {
		ID    string
		Input struct{ Proof string }
	}](t, bob, "requests", "?state=pending") {
		if r.Input.Proof == "browser" {
			id = r.ID
		}
	}
	bob.decide(t, id, "yes", nil)
	browser.says(t, "by browser")
	if conns, bytes := c.seen(); conns == 0 || bytes == 0 {
		t.Fatal("after the yes nothing has reached the target: this test would see nothing")
	}
	if c.mu.Lock(); !strings.HasPrefix(string(c.bytes), "\x00\x00\x00\x08\x04\xd2\x16\x2f\x16\x03") {
		t.Errorf("the first bytes at the target are % x, no SSLRequest and ClientHello", c.bytes[:min(16, len(c.bytes))])
	}
	for _, secret := range []string{"pencil sharpener", "by browser", "reader\x00"} {
		if strings.Contains(string(c.bytes), secret) {
			t.Errorf("%q goes to the target in plaintext", secret)
		}
	}
	c.mu.Unlock()
	if strings.Contains(certificate.out.String(), "by certificate\n") && !strings.Contains(certificate.out.String(), "approved by") {
		t.Error("the yes to another request opened it")
	}
	// By token, under the grant that there is now.
	token := m.token(t)
	if shown, err := m.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'by token'").ends(t); err != nil || !strings.Contains(shown, "by token") {
		t.Errorf("(%v) it shows:\n%s", err, shown)
	}
	sam := m.login(t, "sam@example.com")
	if out, err := m.sallyport(t, sam, "grants", "revoke", m.activeGrant(t).ID); err != nil {
		t.Errorf("revoke: %v %s", err, out)
	}
	conns, _ := c.seen()
	if shown, err := m.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'by token'").ends(t); err == nil || !strings.Contains(shown, "its grant has ended") {
		t.Errorf("by the token of a revoked grant (%v) it shows:\n%s", err, shown)
	}
	if now, _ := c.seen(); now != conns {
		t.Error("the token of a revoked grant reached the target")
	}
}
