// Package gatetest makes a whole gate for tests: a real store and log on disk, a
// policy that was really signed and loaded, and sign-ins of a few people.
package gatetest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/bundle"
	"github.com/sallyport/sallyport/session"
	"github.com/sallyport/sallyport/store"
)

// The people of the fixture; each kind of right has one.
var (
	Alice = person("alice", "engineering")
	Bob   = person("bob", "dba")
	Carol = person("carol", "dba")
	Eve   = person("eve", "engineering", "dba")
	Sam   = person("sam", "security")
)

func person(name string, groups ...string) identity.User {
	return identity.User{
		Issuer: "https://idp.test", Subject: name, Email: name + "@example.com", Name: name, Groups: groups, Kind: identity.Person,
	}
}

const identityHCL = `
issuer "test" {
  url       = "https://idp.test"
  client_id = "sallyport"
}
`

const targetsHCL = `
target "orders" {
  protocol = "postgres"
  address  = "127.0.0.1:1"
  labels   = { env = "prod" }
  tls { mode = "off" }
  role "reader" { credential = "orders-reader" }
  role "writer" { credential = "orders-writer" }
  role "owner"  { credential = "orders-owner" }
}
`

// Rules are the rules of the fixture: reader needs one dba, writer two, owner is
// let through by rule alone.
const Rules = `
rule "orders-read" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  default = "30m"
  reason  = "required"
  approve {
    count = 1
    from  = { groups = ["dba"] }
  }
}
rule "orders-write" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  reason  = "required"
  approve {
    count = 2
    from  = { groups = ["dba"] }
  }
}
rule "orders-own" {
  target  = { name = "orders" }
  role    = ["owner"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}
right "review" { who = { groups = ["security"] } }
right "cut"    { who = { groups = ["security"] } }
right "audit"  { who = { groups = ["security"] } }
right "users"  { who = { groups = ["security"] } }
`

// Options change the fixture; the zero value is fine.
type Options struct {
	Dir     string                // default: a new folder of the test
	Targets string                // targets.hcl; default: one target orders that answers nowhere
	Rules   string                // default: Rules
	Files   map[string][]byte     // more files of the bundle, such as a target's CA: "policy/ca.pem"
	Config  func(*session.Config) // changes the gate's own configuration
	Secrets credential.Set
	Scopes  map[string][]string // default: what each protocol enforces here
	CI      *CI                 // vouches for pipelines; nil: nobody does
	Faults  *durable.Faults     // of the log and the recordings
	Now     func() time.Time    // the log's clock; default: time.Now
	Logger  *slog.Logger
}

// A Fixture is a gate that serves, with what it is made of.
type Fixture struct {
	*session.Gate
	Dir        string
	Store      *store.DB
	Log        *audit.Log
	Recordings *audit.Recordings
	CA         *identity.CA
	SSHCA      *identity.SSHCA // the login CA in SSH's form
	PolicyDir  string          // of what was signed last
	o          Options
	closed     bool
}

// New starts a gate, and stops it when the test ends.
func New(t testing.TB, o Options) *Fixture {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	f := &Fixture{Dir: o.Dir, o: o}
	certPEM, keyPEM, err := identity.NewCA("test login CA", 24*time.Hour)
	must(t, err)
	f.CA, err = identity.LoadCA(certPEM, keyPEM)
	must(t, err)
	sshPEM, err := identity.NewSSHCA()
	must(t, err)
	f.SSHCA, err = identity.LoadSSHCA(sshPEM)
	must(t, err)
	logDir := filepath.Join(o.Dir, "audit")
	if _, err := os.Stat(logDir); err != nil {
		must(t, audit.Init(logDir, "test.example/log"))
	}
	f.open(t)
	t.Cleanup(func() {
		if !f.closed {
			f.Close(t)
		}
	})
	return f
}

func (f *Fixture) open(t testing.TB) {
	t.Helper()
	o := f.o
	var err error
	f.Log, err = audit.Open(audit.Config{Dir: filepath.Join(f.Dir, "audit"), Node: "gate", Faults: o.Faults, Logger: o.Logger, Now: o.Now})
	must(t, err)
	f.Store, err = store.Open(filepath.Join(f.Dir, "state.db"), f.Log)
	must(t, err)
	f.Recordings, err = audit.OpenRecordings(filepath.Join(f.Dir, "recordings"), f.Log, audit.RecordingOptions{Faults: o.Faults, Logger: o.Logger})
	must(t, err)
	c := session.Config{
		Store: f.Store, Log: f.Log, Recordings: f.Recordings, Credentials: o.Secrets, URL: "https://gate.test", Logger: o.Logger,
		Certificate:    func(cert *x509.Certificate) (string, error) { return f.CA.Verify(cert, time.Now()) },
		SSHCertificate: func(cert *ssh.Certificate) (string, error) { return f.SSHCA.Verify(cert, time.Now()) },
		Scopes:         f.scopes(),
	}
	if o.CI != nil {
		c.Workloads = o.CI.party
	}
	if o.Config != nil {
		o.Config(&c)
	}
	f.Gate, err = session.New(c, f.Sign(t, o.Rules))
	must(t, err)
	must(t, f.Gate.Start(context.Background()))
}

func (f *Fixture) scopes() map[string][]string {
	if f.o.Scopes != nil {
		return f.o.Scopes
	}
	return map[string][]string{"postgres": {"databases"}}
}

// Sign signs and loads a policy with the given rules, as authors do.
func (f *Fixture) Sign(t testing.TB, rules string) *policy.Policy {
	t.Helper()
	targets := f.o.Targets
	if targets == "" {
		targets = targetsHCL
	}
	if rules == "" {
		rules = Rules
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	dir := t.TempDir()
	f.PolicyDir = dir
	files := map[string][]byte{
		"policy/identity.hcl": []byte(identityHCL), "policy/targets.hcl": []byte(targets), "policy/rules.hcl": []byte(rules),
	}
	if f.o.CI != nil {
		files["policy/ci.hcl"] = []byte(f.o.CI.hcl())
	}
	maps.Copy(files, f.o.Files)
	root, err := bundle.Create(dir, files, 1, time.Now().Add(24*time.Hour), map[string]ssh.Signer{"signer": signer})
	must(t, err)
	p, err := policy.Load(dir, policy.Options{Root: policy.RootPin(root), Now: time.Now(), Scopes: f.scopes()})
	must(t, err)
	return p
}

// Close stops the gate in order.
func (f *Fixture) Close(t testing.TB) {
	t.Helper()
	f.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := f.Gate.Stop(ctx, 0); err != nil && f.Gate.Err() == nil {
		t.Errorf("stop gate: %v", err)
	}
	f.shut(t)
}

func (f *Fixture) shut(t testing.TB) {
	t.Helper()
	for _, c := range []io.Closer{f.Recordings, f.Store, f.Log} {
		if err := c.Close(); err != nil && f.Gate.Err() == nil && f.o.Faults == nil {
			t.Errorf("close: %v", err)
		}
	}
}

// SignIn signs somebody in, as the web pages do after OIDC.
func (f *Fixture) SignIn(t testing.TB, u identity.User) identity.SignIn {
	t.Helper()
	now := time.Now()
	s := identity.SignIn{ID: identity.NewID(), User: u, Via: "browser", Created: now, Checked: now, Expires: now.Add(12 * time.Hour), Address: "127.0.0.1"}
	must(t, f.Gate.SignIn(context.Background(), s))
	return s
}

// Events returns all entries, once what was written down so far is among them.
func (f *Fixture) Events(t testing.TB) []audit.Entry {
	t.Helper()
	if f.Gate.Err() == nil && !f.closed {
		must(t, f.Gate.Settle(context.Background()))
	}
	entries, err := f.Log.Entries(context.Background(), 0, 100_000)
	must(t, err)
	return entries
}

// Count says how many entries of a type the log holds.
func (f *Fixture) Count(t testing.TB, kind string) int {
	t.Helper()
	n := 0
	for _, e := range f.Events(t) {
		if e.Type == kind {
			n++
		}
	}
	return n
}

// Verify checks the whole record offline, as `sallyport audit verify` does.
func (f *Fixture) Verify(t testing.TB) {
	t.Helper()
	report, err := audit.Verify(context.Background(), filepath.Join(f.Dir, "audit"), audit.VerifyOptions{Recordings: filepath.Join(f.Dir, "recordings")})
	must(t, err)
	if report.Exit() != 0 {
		t.Fatalf("the record does not verify: %+v", report)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
