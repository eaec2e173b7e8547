package postgres

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(worldSocket); socket != "" {
		os.Exit(runWorld(socket))
	}
	os.Exit(pgtest.Main(m))
}

// fixed is a secret that a test names.
type fixed []byte

func (f fixed) Read(context.Context) (credential.Secret, error) { return credential.NewSecret(f), nil }
func (f fixed) Where() string                                   { return "test" }

const rules = `
rule "read" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  default = "30m"
  reason  = "required"
  scope   { databases = ["analytics"] }
  approve {
    count = 1
    from  = { groups = ["dba"] }
  }
}
rule "by-itself" {
  target  = { name = "orders" }
  role    = ["writer", "plain", "certified", "trusted", "md5er", "boss", "maker", "member", "listed", "limited", "wrong", "nocred", "nosuch"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}
rule "other-targets" {
  target  = { labels = { kind = "other" } }
  role    = ["writer", "loose"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  extensions = 100
}
right "cut" { who = { groups = ["security"] } }
`

// rig is a gate with a listener in front of a real PostgreSQL.
type rig struct {
	*gatetest.Fixture
	pg      *pgtest.Server
	server  *proxy.Server
	handler *handler
	addr    string // host:port of the listener
	port    string
	ca      string // file with the CA of the gate's certificate
	roots   *x509.CertPool
	log     *buffer
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type rigOptions struct {
	plaintext bool                // the listener takes plaintext too
	noTLS     bool                // and nothing else
	address   string              // of the targets over TCP; default: the real PostgreSQL
	rules     string              // more rules
	gate      gatetest.Options    // beside what the rig sets
	server    func(*proxy.Server) // changes the server
	pg        *pgtest.Server      // default: the one that the tests share
}

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	pg := o.pg
	if pg == nil {
		pg = pgtest.Start(t)
	}
	r := &rig{pg: pg, log: &buffer{}}
	if o.address == "" {
		o.address = net.JoinHostPort(pg.Host, fmt.Sprint(pg.Port))
	}
	logger := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g := o.gate
	g.Targets = targets(o.address, pg)
	g.Rules = rules + o.rules
	g.Files = map[string][]byte{"policy/target.pem": pg.CA}
	g.Secrets = credential.Set{"password": fixed(pgtest.Password), "certificate": fixed(pg.Certificate), "wrong": fixed("wrong password")}
	g.Logger = logger
	r.Fixture = gatetest.New(t, g)
	config, ca := serverTLS(t)
	r.ca = filepath.Join(t.TempDir(), "gate-ca.pem")
	if err := os.WriteFile(r.ca, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	r.roots = x509.NewCertPool()
	r.roots.AppendCertsFromPEM(ca)
	if o.noTLS {
		config, o.plaintext = nil, true
	}
	h, err := Protocol{}.Configure(proxy.Config{Gate: r.Gate, TLS: config, Plaintext: o.plaintext, URL: "https://gate.test", Log: logger, Targets: r.Policy().Targets})
	if err != nil {
		t.Fatal(err)
	}
	r.handler = h.(*handler) //nolint:forcetypeassert // ours
	r.server = &proxy.Server{Log: logger}
	if o.server != nil {
		o.server(r.server)
	}
	if err := r.server.Listen(t.Context(), proxy.Listener{Name: Name, Address: "127.0.0.1:0", Handler: h}); err != nil {
		t.Fatal(err)
	}
	r.addr = r.server.Addrs()[0].String()
	_, r.port, _ = net.SplitHostPort(r.addr)
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(context.Background()) }()
	t.Cleanup(func() {
		if err := r.server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Error(err)
		}
	})
	return r
}

func targets(address string, pg *pgtest.Server) string {
	return fmt.Sprintf(`
target "orders" {
  protocol = "postgres"
  address  = %q
  tls { ca = "target.pem" }
  role "reader"    { credential = "password" }
  role "writer"    { credential = "password" }
  role "plain"     { credential = "password" }
  role "certified" { credential = "certificate" }
  role "trusted"   { }
  role "md5er"     { credential = "password" }
  role "boss"      { credential = "password" }
  role "maker"     { credential = "password" }
  role "member"    { credential = "password" }
  role "limited"   { credential = "password" }
  role "nosuch"    { credential = "password" }
  role "nocred"    { account = "writer" }
  role "wrong" {
    account    = "writer"
    credential = "wrong"
  }
  role "listed" {
    account    = "member"
    credential = "password"
    options { members = ["auditors"] }
  }
}
target "local" {
  protocol = "postgres"
  address  = %q
  labels   = { kind = "other" }
  tls { mode = "off" }
  role "writer" { credential = "password" }
  options { database = "orders" }
}
target "loopback" {
  protocol = "postgres"
  address  = %q
  labels   = { kind = "other" }
  tls { mode = "off" }
  role "loose" { credential = "password" }
  role "writer" { credential = "password" }
  options { database = "orders" }
}
target "stranger" {
  protocol = "postgres"
  address  = %q
  labels   = { kind = "other" }
  role "writer" { credential = "password" }
  options { database = "orders" }
}
target "absent" {
  protocol = "postgres"
  address  = "127.0.0.1:1"
  labels   = { kind = "other" }
  role "writer" { credential = "password" }
}
`, address, pg.Socket, strings.Replace(address, "localhost", "127.0.0.1", 1), address)
}

func serverTLS(t testing.TB) (config *tls.Config, ca []byte) {
	t.Helper()
	caPEM, caKey, err := identity.NewServerCA("test CA of the gate", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := identity.LoadServerCA(caPEM, caKey)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := authority.IssueServer([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}, caPEM
}

// person is somebody who is signed in, with the client certificate of that sign-in.
type person struct {
	signIn   identity.SignIn
	pair     tls.Certificate
	certFile string
	keyFile  string
}

func (r *rig) person(t testing.TB, u identity.User) person {
	t.Helper()
	p := person{signIn: r.SignIn(t, u)}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := r.CA.Issue(key.Public(), u, p.signIn.ID, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if p.pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p.certFile, p.keyFile = filepath.Join(dir, "user.pem"), filepath.Join(dir, "user.key")
	for path, text := range map[string][]byte{p.certFile: certPEM, p.keyFile: keyPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// psql is a running psql.
type psql struct {
	cmd  *exec.Cmd
	out  *buffer // stdout and stderr
	in   interface{ Write(p []byte) (int, error) }
	shut func() error
	done chan error
}

// dsn is a connection string through the gate.
func (r *rig) dsn(who *person, more string) string {
	s := fmt.Sprintf("host=127.0.0.1 port=%s sslmode=verify-full sslrootcert=%s ", r.port, r.ca)
	if who != nil {
		s += fmt.Sprintf("sslcert=%s sslkey=%s ", who.certFile, who.keyFile)
	}
	return s + more
}

func (r *rig) psql(t testing.TB, dsn string, args ...string) *psql {
	t.Helper()
	p := &psql{out: &buffer{}, done: make(chan error, 1)}
	p.cmd = exec.Command("psql", append([]string{"-X", "-d", dsn, "-v", "ON_ERROR_STOP=0"}, args...)...)
	p.cmd.Env = append(os.Environ(), "HOME=/nonexistent", "LC_ALL=C")
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.shut = in, in.Close
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		p.done <- p.cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-ended
	})
	return p
}

// run runs psql to its end and returns what it printed.
func (r *rig) run(t testing.TB, dsn string, args ...string) (string, error) {
	t.Helper()
	p := r.psql(t, dsn, args...)
	err := p.wait(t)
	return p.out.String(), err
}

func (p *psql) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-p.done:
		return err
	case <-time.After(20 * time.Second):
		t.Fatalf("psql did not end; it printed:\n%s", p.out)
		return nil
	}
}

// see waits until psql has printed something that matches.
func (p *psql) see(t testing.TB, pattern string) []string {
	t.Helper()
	return see(t, p.out.String, pattern)
}

func see(t testing.TB, text func() string, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found []string
	eventually(t, func() bool {
		found = re.FindStringSubmatch(text())
		return found != nil
	}, func() string { return fmt.Sprintf("nothing matches %q in:\n%s", pattern, text()) })
	return found
}

// eventually polls, because what is waited for happens in other processes.
func eventually(t testing.TB, ok func() bool, otherwise func() string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal(otherwise())
		}
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

// confirm does what a person does on a held connection's page.
func (r *rig) confirm(t testing.TB, p *psql, by identity.SignIn, reason string) {
	t.Helper()
	link := p.see(t, `https://gate.test/h/(\S+)`)[1]
	phrase := strings.TrimSpace(p.see(t, `your phrase is  (.+)  - the page`)[1])
	if _, err := r.Confirm(t.Context(), link, by, loopback, session.Confirmation{Phrase: phrase, Reason: reason}); err != nil {
		t.Fatal(err)
	}
}

// approve waits for the one request in the inbox and says yes.
func (r *rig) approve(t testing.TB, by identity.SignIn) session.Request {
	t.Helper()
	request := r.inbox(t, by)
	decided, err := r.Decide(t.Context(), by, request.ID, session.Verdict{Yes: true})
	if err != nil {
		t.Fatal(err)
	}
	return decided
}

func (r *rig) inbox(t testing.TB, by identity.SignIn) session.Request {
	t.Helper()
	var list []session.Request
	eventually(t, func() bool {
		var err error
		if list, err = r.Inbox(t.Context(), by); err != nil {
			t.Fatal(err)
		}
		return len(list) > 0
	}, func() string { return "no request came" })
	return list[0]
}

// recording returns the lines of the last session's recording.
func (r *rig) recording(t testing.TB) []audit.Line {
	t.Helper()
	list, err := r.Recordings.List(t.Context(), 1)
	if err != nil || len(list) == 0 {
		t.Fatalf("%v, %v", list, err)
	}
	var lines []audit.Line
	for line, err := range list[0].Lines(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

// sql writes a line to an interactive psql.
func (p *psql) sql(t testing.TB, line string) {
	t.Helper()
	if _, err := p.in.Write([]byte(line + "\n")); err != nil {
		t.Fatal(err)
	}
}

// live waits for the only live session and returns its ID.
func (r *rig) live(t testing.TB, who identity.SignIn) session.Record {
	t.Helper()
	var list []session.Record
	eventually(t, func() bool {
		var err error
		if list, err = r.Sessions(t.Context(), who, session.Filter{State: "live"}); err != nil {
			t.Fatal(err)
		}
		return len(list) > 0
	}, func() string { return "no session lives" })
	return list[0]
}

// backends counts the target's backends of a role, without the one by which the gate has
// looked for another's end, and which it closes as it has seen that.
func (r *rig) backends(t testing.TB, role, more string) int {
	t.Helper()
	rows := r.pg.Query(t, "select pid from pg_stat_activity where usename = '"+role+"' and backend_type = 'client backend' and query not like 'select from pg_catalog.pg_stat_activity%' "+more)
	return len(rows)
}

// ended waits for the last session's record of its end.
func (r *rig) ended(t testing.TB, who identity.SignIn) session.Record {
	t.Helper()
	var list []session.Record
	eventually(t, func() bool {
		var err error
		if list, err = r.Sessions(t.Context(), who, session.Filter{State: "ended"}); err != nil {
			t.Fatal(err)
		}
		return len(list) > 0
	}, func() string { return "no session ended\n" + r.log.String() })
	return list[0]
}

// pgx connects by pgx, with somebody's certificate.
func (r *rig) pgx(t testing.TB, who person, role string, options ...string) *pgconn.PgConn {
	t.Helper()
	config, err := pgconn.ParseConfig(r.dsn(&who, "user="+role+" dbname=orders "+strings.Join(options, " ")))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}
