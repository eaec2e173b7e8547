package e2e

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/devidp"
	"github.com/sallyport/sallyport/internal/freeport"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// A machine is a gate of one's own, set up as the README says: sallyport init, a policy
// that is written, released and signed, sallyport serve. The target is a real
// PostgreSQL and the identity provider a real one. Its demo is what browsers and clients
// of these tests need; cmd is the gate.
type machine struct {
	*demo
	config   string
	key      string // Alice's SSH key, which signs the policy
	pg       *pgtest.Server
	issuer   issuerOptions
	idp      *devidp.Provider
	released int
	launch   func(*exec.Cmd) error // nil: (*exec.Cmd).Start
}

type issuerOptions struct {
	certificate tls.Certificate
	ca          []byte
	secret      string
	port        int
	behind      int // the provider's own port, where something stands before it; 0: port
	people      []devidp.User
}

// newMachine sets up everything, and serves nothing yet.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := prepared(t)
	said := m.must(t, "init", m.Dir, "--url", m.Web, "--signer", "alice="+m.key+".pub")
	if !strings.Contains(said, "sallyport policy release 1 --expires 90d --dir "+m.at("policy")) {
		t.Errorf("init does not say what comes next:\n%s", said)
	}
	m.fill(t)
	return m
}

// alone gives the gate a PostgreSQL of its own, for tests that count what is there.
func (m *machine) alone(t *testing.T) {
	t.Helper()
	m.pg = pgtest.New(t, 50)
	m.write(t, "policy/policy/db-ca.crt", string(m.pg.CA))
	m.write(t, "policy/policy/targets.hcl", target("orders", fmt.Sprintf("localhost:%d", m.pg.Port), "db-ca.crt", "orders-reader"))
}

// prepared has the provider, the database, Alice's key and free ports.
func prepared(t *testing.T) *machine {
	t.Helper()
	m := &machine{demo: &demo{log: &output{}}, pg: pgtest.Start(t)}
	m.Dir = filepath.Join(t.TempDir(), "gate")
	m.config = filepath.Join(m.Dir, "proxy.hcl")
	m.Web, m.Postgres, m.CA = "https://localhost:"+port(t), "localhost:"+port(t), filepath.Join(m.Dir, "tls", "ca.crt")
	m.makeProvider(t)
	m.key = sshKey(t, "alice")
	return m
}

func sshKey(t *testing.T, who string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "id_ed25519")
	mustRun(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", path)
	return path
}

// fill does what a person has to do after init: names, secrets, and here the ports.
func (m *machine) fill(t *testing.T) {
	t.Helper()
	_, web, _ := strings.Cut(m.Web, "localhost:")
	_, postgres, _ := strings.Cut(m.Postgres, ":")
	m.edit(t, m.config, `listen "web" ":`+web, `listen "web" "127.0.0.1:`+web)
	m.edit(t, m.config, `listen "postgres" ":5432"`, `listen "postgres" "127.0.0.1:`+postgres+`"`)
	m.edit(t, m.config, `grace                  = "30s"`, `grace = "1s"`)
	m.write(t, "credentials/oidc-client", m.issuer.secret)
	m.write(t, "credentials/orders-reader", pgtest.Password)
	m.write(t, "policy/policy/db-ca.crt", string(m.pg.CA))
	m.write(t, "policy/policy/id-ca.crt", string(m.issuer.ca))
	m.write(t, "policy/policy/identity.hcl", m.identity(m.Issuer))
	m.write(t, "policy/policy/targets.hcl", target("orders", fmt.Sprintf("localhost:%d", m.pg.Port), "db-ca.crt", "orders-reader"))
	if err := m.trust(); err != nil {
		t.Fatal(err)
	}
	m.roots.AppendCertsFromPEM(m.issuer.ca)
}

func port(t *testing.T) string {
	t.Helper()
	n, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(n)
}

func mustRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (m *machine) at(parts ...string) string {
	return filepath.Join(append([]string{m.Dir}, parts...)...)
}

// must runs the program as whoever runs the gate.
func (m *machine) must(t *testing.T, args ...string) string {
	t.Helper()
	return mustRun(t, binary, args...)
}

// fails runs the program and wants it to fail with this exit status and these words on
// stderr, and with no trace of a panic.
func (m *machine) fails(t *testing.T, status int, words []string, args ...string) string {
	t.Helper()
	shown, err := start(t, nil, binary, args...).ends(t)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != status {
		t.Errorf("%s: %v, want exit status %d; it says:\n%s", strings.Join(args, " "), err, status, shown)
	}
	for _, word := range words {
		if !strings.Contains(shown, word) {
			t.Errorf("%s: no %q in:\n%s", strings.Join(args, " "), word, shown)
		}
	}
	if strings.Contains(shown, "goroutine ") || strings.Contains(shown, "panic") {
		t.Errorf("%s: a stack trace:\n%s", strings.Join(args, " "), shown)
	}
	return shown
}

func (m *machine) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(m.at(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) edit(t *testing.T, path, before, after string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), before) {
		t.Fatalf("%s has no %q:\n%s", path, before, text)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), before, after, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// release makes and signs the next version of the policy, by the README's commands.
func (m *machine) release(t *testing.T) {
	t.Helper()
	m.released++
	version := strconv.Itoa(m.released)
	m.must(t, "policy", "check", m.at("policy"))
	m.must(t, "policy", "release", version, "--expires", "90d", "--dir", m.at("policy"))
	m.must(t, "policy", "sign", version, "--key", m.key, "--dir", m.at("policy"))
}

// serve starts the gate and waits until it is open.
func (m *machine) serve(t *testing.T) {
	t.Helper()
	m.start(t, m.log, m.log)
	eventually(t, "the gate to open", func() bool {
		select {
		case <-m.ended:
			t.Fatalf("the gate ended (%v):\n%s", m.err, m.log)
		default:
		}
		return strings.Contains(m.log.String(), "the gate is open")
	})
}

// start starts the gate; the test's end ends it.
func (m *machine) start(t *testing.T, out, said io.Writer, args ...string) {
	t.Helper()
	m.cmd, m.ended = exec.Command(binary, append([]string{"serve", "--config", m.config}, args...)...), make(chan struct{})
	m.cmd.Stdout, m.cmd.Stderr = out, said
	launch := (*exec.Cmd).Start
	if m.launch != nil {
		launch = m.launch
	}
	if err := launch(m.cmd); err != nil {
		t.Fatal(err)
	}
	ended, cmd := m.ended, m.cmd
	go func() {
		m.err = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		select {
		case <-ended:
		default:
			_ = m.stop() // what it says of its end is the business of tests that stop it
		}
		if t.Failed() {
			t.Logf("the gate said:\n%s", tail(m.log.String(), 60))
		}
	})
}

// says waits until the gate has written a text, behind the first so many bytes.
func (m *machine) says(t *testing.T, from int, text string) {
	t.Helper()
	eventually(t, "the gate to say "+text, func() bool { return strings.Contains(m.log.String()[from:], text) })
}

// makeProvider readies the identity provider, and starts it.
func (m *machine) makeProvider(t *testing.T) {
	t.Helper()
	caPEM, key, err := identity.NewServerCA("e2e", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.LoadServerCA(caPEM, key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := ca.IssueServer([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	n, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	m.issuer = issuerOptions{certificate: certificate, ca: caPEM, secret: "oidc secret, 42", port: n, people: devidp.People()}
	m.Issuer = fmt.Sprintf("https://localhost:%d", n)
	for _, u := range m.issuer.people {
		m.Users = append(m.Users, user{u.Email, u.Password, u.Groups})
	}
	m.startProvider(t, m.issuer.secret)
	t.Cleanup(func() { m.stopProvider(t) })
}

func (m *machine) startProvider(t *testing.T, secret string) {
	t.Helper()
	var err error
	m.idp, err = devidp.Start(devidp.Config{
		Addr: fmt.Sprintf("127.0.0.1:%d", cmp.Or(m.issuer.behind, m.issuer.port)), Host: fmt.Sprintf("localhost:%d", m.issuer.port), Certificate: m.issuer.certificate, Users: m.issuer.people,
		Clients: []devidp.Client{{ID: "sallyport", Secret: secret, RedirectURLs: []string{m.Web + "/callback"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) stopProvider(t *testing.T) {
	t.Helper()
	if m.idp == nil {
		return
	}
	if err := m.idp.Close(); err != nil {
		t.Error(err)
	}
	m.idp = nil
	// A program that another test starts just now has the listener too, until it is that program.
	eventually(t, "the provider's port to be free", func() bool { return freeport.Free(cmp.Or(m.issuer.behind, m.issuer.port)) })
}

func (m *machine) identity(url string) string {
	return fmt.Sprintf(`issuer "company" {
  url           = %q
  client_id     = "sallyport"
  client_secret = "oidc-client"
  scopes        = ["openid", "email", "profile", "offline_access"]
  ca            = "id-ca.crt"
}
`, url)
}

// target is a PostgreSQL with the role reader.
func target(name, address, ca, credential string) string {
	return fmt.Sprintf(`target %q {
  protocol = "postgres"
  address  = %q
  options {
    database = "orders"
  }
  tls {
    ca = %q
  }
  role "reader" {
    credential = %q
  }
}
`, name, address, ca, credential)
}
