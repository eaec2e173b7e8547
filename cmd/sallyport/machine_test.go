package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/internal/freeport"
	"github.com/sallyport/sallyport/policy/bundle"
)

// run runs the command line in this process.
func run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// A machine is what `sallyport init` made, with ports of its own and a signed policy.
type machine struct {
	dir, config, url string
	signer           ssh.Signer
	key              string // the signer's private key file
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{dir: filepath.Join(t.TempDir(), "gate"), url: "https://localhost:" + freePort(t)}
	m.config = filepath.Join(m.dir, "proxy.hcl")
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if m.signer, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	m.key = filepath.Join(t.TempDir(), "id_ed25519")
	m.write(t, m.key, string(pem.EncodeToMemory(block)))
	m.write(t, m.key+".pub", string(ssh.MarshalAuthorizedKey(m.signer.PublicKey())))
	if out, err := run(t, "init", m.dir, "--url", m.url, "--signer", "alice="+m.key+".pub"); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	m.edit(t, m.config, `listen "postgres" ":5432"`, `listen "postgres" "127.0.0.1:`+freePort(t)+`"`)
	m.edit(t, m.config, `listen "web" ":`, `listen "web" "127.0.0.1:`)
	m.release(t, 1)
	return m
}

func (m *machine) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
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
		t.Fatalf("%s has no %q", path, before)
	}
	m.write(t, path, strings.Replace(string(text), before, after, 1))
}

func (m *machine) release(t *testing.T, version int) {
	t.Helper()
	dir := filepath.Join(m.dir, "policy")
	if _, err := bundle.Release(dir, bundle.Draft{Version: version, Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Sign(dir, version, m.signer); err != nil {
		t.Fatal(err)
	}
}

// open opens the gate of the machine, without serving.
func (m *machine) open(t *testing.T) (*program, error) {
	t.Helper()
	c, err := config.Load(m.config, protocolNames())
	if err != nil {
		return nil, err
	}
	c.Limits.GraceTime = 0
	return openProgram(t.Context(), c, slog.New(slog.DiscardHandler))
}

// serve runs the gate until the test ends.
func (m *machine) serve(t *testing.T) *program {
	t.Helper()
	p, err := m.open(t)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(p.run(ctx), p.close()) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return p
}

// refused opens the gate and wants one clear sentence, and nothing left open.
func (m *machine) refused(t *testing.T, wants ...string) {
	t.Helper()
	p, err := m.open(t)
	if err == nil {
		_ = p.close()
		t.Fatalf("the gate opens; want %q", wants)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal lacks %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "goroutine ") {
		t.Errorf("a stack trace: %v", err)
	}
}

func TestInitMakesAMachineThatServes(t *testing.T) {
	m := newMachine(t)
	err := filepath.Walk(m.dir, func(path string, info os.FileInfo, err error) error {
		secret := strings.HasSuffix(path, ".key") || strings.Contains(path, "credentials/") || strings.HasSuffix(path, "proxy.hcl")
		if err == nil && secret && info.Mode().Perm() != 0o600 {
			return fmt.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if out, err := run(t, "check", "--config", m.config); err != nil || !strings.Contains(out, "is fine; policy version 1, signed by [alice]") {
		t.Fatalf("check: %v\n%s", err, out)
	}
	if _, err := run(t, "init", m.dir, "--url", m.url, "--signer", "alice="+m.key+".pub"); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("init again: %v", err)
	}
	// A key that is gone cannot be made again, so none is ever overwritten.
	other := filepath.Join(t.TempDir(), "half")
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	m.write(t, filepath.Join(other, "login-ca.key"), "precious")
	if _, err := run(t, "init", other, "--url", m.url, "--signer", "alice="+m.key+".pub"); err == nil || !strings.Contains(err.Error(), "login-ca.key: file exists") {
		t.Errorf("init over a key: %v", err)
	}
	m.serve(t)
	gate, err := newClient(m.url, filepath.Join(m.dir, "tls", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := gate.http.Get(m.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("readyz: %d", answer.StatusCode)
	}
	// An identity provider that cannot be reached does not keep the gate from starting,
	// and is said to who signs in.
	answer, err = gate.http.Get(m.url + "/login")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusBadGateway {
		t.Errorf("login without an identity provider: %d", answer.StatusCode)
	}
}

func TestBadInputIsOneSentence(t *testing.T) {
	t.Run("port taken", func(t *testing.T) {
		m := newMachine(t)
		other, err := net.Listen("tcp", strings.Replace(strings.TrimPrefix(m.url, "https://"), "localhost", "127.0.0.1", 1))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		m.refused(t, "address already in use", "end what uses that port")
	})
	t.Run("key of another certificate", func(t *testing.T) {
		m := newMachine(t)
		text, err := os.ReadFile(filepath.Join(m.dir, "login-ca.key"))
		if err != nil {
			t.Fatal(err)
		}
		m.write(t, filepath.Join(m.dir, "tls", "gate.key"), string(text))
		m.refused(t, "tls/gate.crt with key", "private key does not match")
	})
	t.Run("the TLS CA as login CA", func(t *testing.T) {
		m := newMachine(t)
		m.edit(t, m.config, "login-ca.crt", "tls/ca.crt")
		m.edit(t, m.config, "login-ca.key", "tls/ca.key")
		m.refused(t, "this CA is for another use")
	})
	t.Run("seal key", func(t *testing.T) {
		m := newMachine(t)
		m.write(t, filepath.Join(m.dir, "seal.key"), "short")
		m.refused(t, "must hold exactly 32 random bytes", "head -c 32 /dev/urandom")
	})
	t.Run("no signature", func(t *testing.T) {
		m := newMachine(t)
		if err := os.Remove(filepath.Join(m.dir, "policy", "release", "1", "MANIFEST.alice.sig")); err != nil {
			t.Fatal(err)
		}
		m.refused(t, "policy refused: ", "sign")
	})
	t.Run("another trust root", func(t *testing.T) {
		m := newMachine(t)
		text, err := os.ReadFile(m.config)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(text, []byte(`"sha256:`)) + len(`"sha256:`)
		copy(text[at:], strings.Repeat("0", 64))
		m.write(t, m.config, string(text))
		m.refused(t, "policy refused: ")
	})
	t.Run("credential that is not set up", func(t *testing.T) {
		m := newMachine(t)
		m.edit(t, m.config, `credential "oidc-client"`, `credential "oidc"`)
		m.refused(t, `needs the credential "oidc-client"`)
	})
	t.Run("read-only folder", func(t *testing.T) {
		m := newMachine(t)
		m.edit(t, m.config, filepath.Join(m.dir, "state", "gate.db"), "/proc/gate.db")
		m.refused(t, "open store")
	})
	t.Run("in use by another process", func(t *testing.T) {
		m := newMachine(t)
		m.serve(t)
		m.refused(t, "in use by another process")
	})
}

// Class: a database restored from the past would un-revoke grants.
func TestOlderDatabaseUnderANewerLogIsRefused(t *testing.T) {
	m := newMachine(t)
	db := filepath.Join(m.dir, "state", "gate.db")
	p, err := m.open(t)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(db); err != nil {
		t.Fatal(err)
	}
	m.refused(t, "restored")
}

// Class: an old, validly signed policy applied again.
func TestOlderPolicyIsRefusedAfterARestart(t *testing.T) {
	m := newMachine(t)
	m.edit(t, filepath.Join(m.dir, "policy", "policy", "rules.hcl"), `"1h"`, `"2h"`)
	m.release(t, 2)
	p, err := m.open(t)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	m.edit(t, filepath.Join(m.dir, "policy", "policy", "rules.hcl"), `"2h"`, `"1h"`)
	if err := os.RemoveAll(filepath.Join(m.dir, "policy", "release", "2")); err != nil {
		t.Fatal(err)
	}
	m.refused(t, "policy refused: ")
}

func TestReload(t *testing.T) {
	m := newMachine(t)
	p := m.serve(t)
	rules := filepath.Join(m.dir, "policy", "policy", "rules.hcl")

	// An unsigned change is refused, and what runs goes on.
	m.edit(t, rules, `"1h"`, `"2h"`)
	if err := p.reload(t.Context()); err == nil || !strings.Contains(err.Error(), "policy 1 goes on: policy refused: ") {
		t.Errorf("an unsigned change: %v", err)
	}
	m.release(t, 2)
	if err := p.reload(t.Context()); err != nil || p.gate.Policy().Version() != 2 {
		t.Fatalf("reload: %v, version %d", err, p.gate.Policy().Version())
	}
	// Certificates are read again, by whoever connects next.
	before := p.certs[0].now.Load()
	if err := p.reload(t.Context()); err != nil || p.certs[0].now.Load() == before {
		t.Errorf("the certificate is not read again: %v", err)
	}
	// A broken file changes nothing.
	m.edit(t, m.config, "gate {", "gaet {")
	if err := p.reload(t.Context()); err == nil || !strings.Contains(err.Error(), "not reloaded") {
		t.Errorf("a broken file: %v", err)
	}
	m.edit(t, m.config, "gaet {", "gate {")
	// What cannot be taken over is named.
	fresh, err := config.Load(m.config, protocolNames())
	if err != nil {
		t.Fatal(err)
	}
	if later := needRestart(p.config, fresh); len(later) > 0 {
		t.Errorf("the same file needs a restart: %v", later)
	}
}

// Whatever is only read at start-up is named, to the last option of a listener; and
// nothing that is not.
func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	m := newMachine(t)
	load := func() *config.Config {
		t.Helper()
		c, err := config.Load(m.config, protocolNames())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	now := load()
	for _, c := range []struct{ before, after, want string }{
		{"gate {", "gate { # the same, with a word beside it", ""},
		{"plaintext = false", "plaintext = true", "listen"},
		{`listen "postgres"`, "# an option, and nothing else\nlisten \"postgres\"", ""},
		{`grace                  = "30s"`, `grace = "31s"`, "limits"},
		{"  path = ", "  path =   ", ""},
		{"gate.db", "gate2.db", "store"},
		{"min_version = 1", "min_version = 2", "policy"},
		{"seal_key = ", "notify {\n  mail {\n    host = \"127.0.0.1:25\"\n    from = \"Gate <gate@example.com>\"\n  }\n}\nseal_key = ", "notify"},
		{`credential "orders-reader"`, "credential \"another\" {\n  from = \"env:HOME\"\n}\ncredential \"orders-reader\"", ""},
	} {
		text, err := os.ReadFile(m.config)
		if err != nil {
			t.Fatal(err)
		}
		m.edit(t, m.config, c.before, c.after)
		if later := needRestart(now, load()); strings.Join(later, " ") != c.want {
			t.Errorf("%s -> %s needs a restart of %v, want %q", c.before, c.after, later, c.want)
		}
		m.write(t, m.config, string(text))
	}
	// Options are the listener's, and belong to the protocol.
	m.edit(t, m.config, "  plaintext = false", "  options {\n    trusted_proxies = [\"10.1.2.0/28\"]\n  }\n")
	fresh, err := config.Load(m.config, protocolNames())
	if err != nil {
		t.Fatal(err)
	}
	if later := needRestart(now, fresh); strings.Join(later, " ") != "listen" {
		t.Errorf("a changed option needs a restart of %v", later)
	}
}

// A log is begun anew only where no store remembers another one.
func TestLogIsBegunAnewWithItsStore(t *testing.T) {
	m := newMachine(t)
	p, err := m.open(t)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(m.dir, "state")
	if err := os.Rename(filepath.Join(state, "audit"), filepath.Join(state, "audit.old")); err != nil {
		t.Fatal(err)
	}
	m.refused(t, "there is no audit log; type: sallyport audit init --config FILE")
	if _, err := run(t, "audit", "init", "--config", m.config); err == nil || !strings.Contains(err.Error(), "which belongs to another log") {
		t.Errorf("beside a store: %v", err)
	}
	if err := os.Rename(filepath.Join(state, "gate.db"), filepath.Join(state, "gate.db.old")); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "audit", "init", "--config", m.config); err != nil || !strings.Contains(out, "An empty log is in "+state) {
		t.Errorf("audit init: %v %s", err, out)
	}
	if p, err = m.open(t); err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
