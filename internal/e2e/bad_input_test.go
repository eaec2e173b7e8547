package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/smalldisk"
	"github.com/sallyport/sallyport/session"
)

// What is wrong before the gate serves: one clear sentence, exit status 1, and nothing
// is changed.
func TestBadInputAtStart(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	serve := []string{"serve", "--config", m.config}
	m.fails(t, 1, []string{"policy refused: ", "there is no release", "sallyport policy release 1"}, serve...)
	m.release(t)
	m.must(t, "check", "--config", m.config)

	good, err := os.ReadFile(m.config)
	if err != nil {
		t.Fatal(err)
	}
	m.edit(t, m.config, "  plaintext = false", "  plainetxt = false")
	m.edit(t, m.config, `handshake              = "20s"`, `handshake = "soon"`)
	for _, verb := range []string{"check", "serve"} {
		shown := m.fails(t, 1, []string{"there are 2 errors", "plainetxt", "plaintext", `handshake = "soon"`, m.config + " line "}, verb, "--config", m.config)
		if strings.Count(shown, "Error: ") != 2 {
			t.Errorf("%s does not say both at once:\n%s", verb, shown)
		}
	}
	m.write(t, "proxy.hcl", string(good))
	m.fails(t, 1, []string{"cannot read the configuration", "sallyport init"}, "serve", "--config", m.at("nowhere.hcl"))
	m.fails(t, 2, []string{"unknown flag: --confg", "sallyport serve --help"}, "serve", "--confg", m.config)

	other, err := net.Listen("tcp", strings.Replace(m.Postgres, "localhost", "127.0.0.1", 1))
	if err != nil {
		t.Fatal(err)
	}
	m.fails(t, 1, []string{m.Postgres[len("localhost"):], "address already in use", "ss -ltnp"}, serve...)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(m.at("credentials", "orders-reader"), m.at("credentials", "elsewhere")); err != nil {
		t.Fatal(err)
	}
	m.fails(t, 1, []string{"there is one error", "orders-reader does not exist; put it there with mode 0600"}, serve...)
	if err := os.Rename(m.at("credentials", "elsewhere"), m.at("credentials", "orders-reader")); err != nil {
		t.Fatal(err)
	}
	m.serve(t)
	m.fails(t, 1, []string{"in use by another process"}, serve...)
	m.verifies(t)
}

// A disk with no room, and one that cannot be written to, before the gate serves.
func TestBadDiskAtStart(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.release(t)
	state := m.at("state")
	small := smalldisk.Mount(t, state, 24)
	serve := []string{"serve", "--config", m.config}
	m.fails(t, 1, []string{"there is no audit log; type: sallyport audit init"}, serve...)
	m.must(t, "audit", "init", "--config", m.config)
	m.fails(t, 1, []string{"there is a log already"}, "audit", "init", "--config", m.config)
	small.Fill(t)
	m.fails(t, 1, []string{"no space left", "make room on that disk and start again"}, serve...)
	small.Free(t)
	remount(t, state, true)
	m.fails(t, 1, []string{"read-only file system", "mount it writable"}, serve...)
	remount(t, state, false)
	m.serve(t)
	if err := m.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	m.verifies(t)
}

// remount makes a small disk read-only, or writable again.
func remount(t *testing.T, dir string, readOnly bool) {
	t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if readOnly {
		flags |= syscall.MS_RDONLY
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, ""); err != nil {
		t.Fatal(err)
	}
}

// A provider that does not answer does not keep the gate from serving what needs no
// sign-in; whoever signs in is told, and can once it answers.
func TestIdentityProviderThatIsAway(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.stopProvider(t)
	m.release(t)
	m.serve(t)
	alice := m.browser(t, "alice@example.com")
	p := alice.get(t, "/login")
	if p.status != http.StatusBadGateway || !strings.Contains(p.text, "The identity provider does not answer; try again, or tell who runs the gate.") {
		t.Errorf("away at the start: %d %s", p.status, p.text)
	}
	m.says(t, 0, "discovery at "+m.Issuer+": the identity provider does not answer: no connection")
	m.startProvider(t, m.issuer.secret)
	eventually(t, "the provider to be asked again", func() bool { return strings.HasPrefix(alice.get(t, "/login").url.String(), m.Issuer) })

	// Away later, while somebody is at work and somebody is held for a sign-in: the gate
	// knows where to send people, and their browsers tell them.
	term, _ := m.opened(t, "20m", "-c", "SELECT 'before'", "-c", "SELECT pg_sleep(600)")
	term.says(t, "before")
	bob := m.signedIn(t, "bob@example.com")
	held := m.psql(t, "reader", nil, "-c", "SELECT 'held ' || 'goes on'")
	link, phrase := held.link(t)
	m.stopProvider(t)
	if _, err := m.browser(t, "alice@example.com").http.Get(m.Web + "/login"); err == nil || !strings.Contains(err.Error(), m.Issuer) {
		t.Errorf("away later: %v", err)
	}
	if status, text := bob.api(t, http.MethodGet, "/api/v1/whoami", nil); status != http.StatusOK {
		t.Errorf("who is signed in: %d %s", status, text)
	}
	m.startProvider(t, m.issuer.secret)
	m.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	if shown, err := held.ends(t); err != nil || !strings.Contains(shown, "held goes on") {
		t.Errorf("held meanwhile (%v) it shows:\n%s", err, shown)
	}
	select {
	case <-term.ended:
		t.Errorf("the live session ended: %s", term.out)
	default:
	}

	m.stopProvider(t)
	m.startProvider(t, "another secret, 17")
	p = alice.fillLogin(t, alice.get(t, "/login"))
	if p.status != http.StatusForbidden || !strings.Contains(p.text, "The identity provider does not accept this gate; tell who runs the gate.") {
		t.Errorf("wrong secret: %d %s", p.status, p.text)
	}
	m.says(t, 0, "client_id or client secret of "+m.Issuer+" is wrong")
	m.stopProvider(t)
	m.startProvider(t, m.issuer.secret)
	m.signedIn(t, "alice@example.com")
	m.saidNoTrace(t)
	m.verifies(t)
}

// A provider that is not the one that the policy names: another issuer at its address,
// another CA.
func TestAnotherIdentityProvider(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	n := newMachine(t) // whose provider has another CA
	m.write(t, "policy/policy/identity.hcl", m.identity(strings.Replace(m.Issuer, "localhost", "127.0.0.1", 1)))
	m.release(t)
	m.serve(t)
	alice := m.browser(t, "alice@example.com")
	if p := alice.get(t, "/login"); p.status != http.StatusForbidden || !strings.Contains(p.text, "tell who runs the gate") {
		t.Errorf("another issuer: %d %s", p.status, p.text)
	}
	m.says(t, 0, "it calls itself \\\""+m.Issuer)
	from := len(m.log.String())
	m.write(t, "policy/policy/identity.hcl", m.identity(n.Issuer))
	m.release(t)
	if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	m.says(t, from, "msg=reloaded")
	if p := alice.get(t, "/login"); p.status != http.StatusBadGateway || !strings.Contains(p.text, "tell who runs the gate") {
		t.Errorf("another CA: %d %s", p.status, p.text)
	}
	m.says(t, from, "its certificate is from an authority that the gate does not know; set the issuer's ca in identity.hcl")
	m.saidNoTrace(t)
	m.verifies(t)
}

// What is wrong between the gate and the target, or with what was asked for: a SQLSTATE
// and one sentence for the user, and the cause for who runs the gate.
func TestTargetsThatDoNotWork(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	real := fmt.Sprintf("localhost:%d", m.pg.Port)
	m.write(t, "policy/policy/other-ca.crt", string(m.issuer.ca))
	m.write(t, "credentials/wrong", "not the password")
	m.edit(t, m.config, `credential "orders-reader"`, "credential \"wrong\" {\n  from = \"file:"+m.at("credentials", "wrong")+"\"\n}\ncredential \"orders-reader\"")
	m.write(t, "policy/policy/targets.hcl", target("orders", real, "db-ca.crt", "orders-reader")+
		target("gone", "localhost:"+port(t), "db-ca.crt", "orders-reader")+
		target("locked", real, "db-ca.crt", "wrong")+
		target("strange", real, "other-ca.crt", "orders-reader")+
		target("nameless", "127.0.0.2:"+real[len("localhost:"):], "db-ca.crt", "orders-reader"))
	m.edit(t, m.at("policy", "policy", "rules.hcl"), `rule "orders-read" {`, `rule "broken" {
  target  = { names = ["gone", "locked", "strange", "nameless"] }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}

rule "orders-read" {`)
	m.release(t)
	m.serve(t)
	home := m.login(t, "alice@example.com")
	for _, c := range []struct{ target, role, state, want, why string }{
		{"gone", "reader", "08006", "the target gone cannot be reached now; ask the platform team", "connection refused"},
		{"locked", "reader", "08004", "the target locked does not take the gate's credential; ask the platform team", "password authentication failed"},
		{"strange", "reader", "08006", "the target strange does not show the certificate that the policy asks for; ask the platform team", "unknown authority"},
		{"nameless", "reader", "08006", "the target nameless cannot be reached now; ask the platform team", "connection refused"},
		{"nosuch", "reader", "28000", "no rule lets you use nosuch as reader", ""},
		{"orders", "nosuch", "28000", "no rule lets you use orders as nosuch; you can ask for it as reader", ""},
	} {
		from := len(m.log.String())
		err := m.connect(t, home, c.target, c.role)
		var fatal *pgconn.PgError
		if !errors.As(err, &fatal) || fatal.Code != c.state || !strings.HasPrefix(fatal.Message, "sallyport: ") || !strings.Contains(fatal.Message, c.want) {
			t.Errorf("%s as %s: %v, want %s %s", c.target, c.role, err, c.state, c.want)
		}
		if strings.Contains(fmt.Sprint(err), real) || strings.Contains(fmt.Sprint(err), "not the password") {
			t.Errorf("%s as %s: the user is told where the target is: %v", c.target, c.role, err)
		}
		m.says(t, from, c.why)
	}
	for _, s := range list[session.Record](t, m.signedIn(t, "alice@example.com"), "sessions", "?state=live") {
		t.Errorf("a session that never reached its target lives: %+v", s)
	}
	m.saidNoTrace(t)
	if err := m.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	m.verifies(t)
}

// connect opens a connection by the certificate of a login, as pgx does, and closes it.
func (m *machine) connect(t *testing.T, home, target, role string) error {
	t.Helper()
	c, err := pgconn.ParseConfig(strings.Replace(m.conninfo(t, role), "dbname=orders", "dbname="+target, 1) +
		" sslcert=" + filepath.Join(home, "client.crt") + " sslkey=" + filepath.Join(home, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// A client that is no client: what it sends is answered with a sentence or not at all,
// and costs nobody else anything.
func TestClientsThatSpeakSomethingElse(t *testing.T) {
	d := sharedDemo(t)
	for _, say := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "SSH-2.0-x\r\n", "\x16\x03\x01\x00\x05hello", "\x00\x00\x00\x08\x00\x02\x00\x00", strings.Repeat("\xff", 4096)} {
		conn, err := net.Dial("tcp", strings.Replace(d.Postgres, "localhost", "127.0.0.1", 1))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write([]byte(say)); err != nil {
			t.Fatal(err)
		}
		var all [4096]byte
		n, _ := conn.Read(all[:])
		if got := string(all[:n]); strings.Contains(got, "internal error") || strings.Contains(got, "goroutine") {
			t.Errorf("%q is answered %q", say, got)
		}
		_ = conn.Close()
	}
	plain, err := tls.Dial("tcp", strings.Replace(d.Postgres, "localhost", "127.0.0.1", 1), &tls.Config{RootCAs: d.roots, ServerName: "localhost"})
	if err == nil { // direct TLS without ALPN is closed, not served
		_ = plain.SetDeadline(time.Now().Add(patience))
		if n, err := plain.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("direct TLS without ALPN is answered: %d %v", n, err)
		}
	}
	d.saidNoTrace(t)
}
