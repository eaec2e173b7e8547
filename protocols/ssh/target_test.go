package ssh_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/sshdtest"
)

// How the gate and a target prove themselves to each other.

func TestTargetIsKnownByItsHostCA(t *testing.T) {
	w := newWorld(t, setup{})
	cert := w.certificate(t, gatetest.Alice)
	c := w.ssh(t, append(cert, "ops@certified@gate", "echo in")...)
	if c.done() != 0 || c.stdout.String() != "in\n" {
		t.Errorf("stdout %q, stderr:\n%s\nsshd:\n%s", c.stdout, c.stderr, w.sshd.Log())
	}
	accepted := strings.Count(w.sshd.Log(), "Accepted publickey")
	// The same certificate proves no other name.
	c = w.ssh(t, append(cert, "ops@misnamed@gate", "echo in")...)
	if c.done() != 255 || !strings.Contains(c.stderr.String(), "sallyport: the target misnamed does not prove itself by the host key in the policy") {
		t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
	if n := strings.Count(w.sshd.Log(), "Accepted publickey"); n != accepted || w.Count(t, audit.SessionAlarm) != 1 {
		t.Errorf("logged in %d times, %d alarms", n, w.Count(t, audit.SessionAlarm))
	}
}

// The certificate of a session is good for one account, until the grant's end, and for
// what the grant's scope has.
// What keeps the gate out is said as what it is.
func TestTargetWithoutACommonAlgorithm(t *testing.T) {
	w := newWorld(t, setup{sshd: []string{"Ciphers aes128-cbc"}})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@web-1@gate", "true")...)
	if c.done() != 255 || !strings.Contains(c.stderr.String(), "sallyport: the target web-1 and the gate have no algorithm in common; ask the platform team") {
		t.Errorf("stderr:\n%s", c.stderr)
	}
}

func TestSessionsCertificate(t *testing.T) {
	target := newFake(t, func(*xssh.ServerConn) {})
	w := newWorld(t, setup{target: target})
	c := w.dial(t, "runner@web-1")
	_, err := c.NewSession() // the target opens nothing, and is logged in to by then
	if err == nil || !strings.Contains(err.Error(), "sallyport: the target opens no session") {
		t.Errorf("err %v", err)
	}
	must(t, c.Close())
	cert := target.shown.Load()
	if cert == nil {
		t.Fatal("the target was shown no certificate")
	}
	g := w.grants(t)[0]
	ca, err := os.ReadFile(filepath.Join(w.dir, "session_ca.pub"))
	must(t, err)
	if !bytes.Equal(xssh.MarshalAuthorizedKey(cert.SignatureKey), ca) || cert.CertType != xssh.UserCert {
		t.Errorf("kind %d, by %s", cert.CertType, xssh.MarshalAuthorizedKey(cert.SignatureKey))
	}
	if len(cert.ValidPrincipals) != 1 || cert.ValidPrincipals[0] != w.sshd.Account {
		t.Errorf("for %q", cert.ValidPrincipals)
	}
	if late := time.Unix(int64(cert.ValidBefore), 0).Sub(g.Ends); late < 0 || late > time.Second {
		t.Errorf("it ends %s after the grant", late)
	}
	if !strings.Contains(cert.KeyId, "request "+g.Request) || !strings.Contains(cert.KeyId, "session "+w.session(t, "ended").ID) {
		t.Errorf("key id %q", cert.KeyId)
	}
	if _, forwards := cert.Extensions["permit-port-forwarding"]; forwards || cert.Extensions["permit-agent-forwarding"] != "" || len(cert.Extensions) != 2 {
		t.Errorf("it allows %v", cert.Extensions)
	}
}

// secret is a credential of this process.
type secret string

func (s secret) Read(context.Context) (credential.Secret, error) {
	return credential.NewSecret([]byte(s)), nil
}

func (s secret) Where() string { return "test" }

func TestLoginByAKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "target")
	key := sshdtest.Key(t, path)
	text, err := os.ReadFile(path)
	must(t, err)
	set := credential.Set{"web-1-key": secret(text)}
	w := newWorld(t, setup{secrets: set})
	must(t, os.WriteFile(filepath.Join(w.sshd.Dir, "authorized_keys"), xssh.MarshalAuthorizedKey(key.PublicKey()), 0o644))
	cert := w.certificate(t, gatetest.Alice)
	c := w.ssh(t, append(cert, "keyed@web-1@gate", "echo in")...)
	if c.done() != 0 || c.stdout.String() != "in\n" {
		t.Errorf("stdout %q, stderr:\n%s\nsshd:\n%s", c.stdout, c.stderr, w.sshd.Log())
	}
	if log := w.sshd.Log(); !strings.Contains(log, "ED25519 "+xssh.FingerprintSHA256(key.PublicKey())) {
		t.Errorf("sshd:\n%s", log)
	}
	// A key that the target does not take, one with a passphrase, and none.
	other := filepath.Join(t.TempDir(), "other")
	sshdtest.Key(t, other)
	wrong, err := os.ReadFile(other)
	must(t, err)
	locked, err := xssh.ParseRawPrivateKey(wrong)
	must(t, err)
	block, err := xssh.MarshalPrivateKeyWithPassphrase(locked, "", []byte("open sesame"))
	must(t, err)
	for name, trial := range map[string]struct{ key, words string }{
		"not taken":  {string(wrong), "sallyport: the target web-1 does not let the gate log in as keyed"},
		"passphrase": {string(pem.EncodeToMemory(block)), "sallyport: the role keyed is not set up for SSH in the policy"},
		"no key":     {"tops3cret", "sallyport: the role keyed is not set up for SSH in the policy"},
	} {
		set["web-1-key"] = secret(trial.key)
		c := w.ssh(t, append(cert, "keyed@web-1@gate", "echo in")...)
		if c.done() != 255 || !strings.Contains(c.stderr.String(), trial.words) || strings.Contains(c.stderr.String(), "tops3cret") {
			t.Errorf("%s: stdout %q, stderr:\n%s", name, c.stdout, c.stderr)
		}
	}
}

// answersAtOnce runs every command in no time.
func answersAtOnce(channel xssh.NewChannel) {
	ch, requests, err := channel.Accept()
	if err != nil {
		return
	}
	go func() {
		for r := range requests {
			_ = r.Reply(true, nil) // the gate may have gone; so below
			if r.Type == "exec" {
				_, _ = ch.Write([]byte("in\n"))
				_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, 7})
				_ = ch.Close()
			}
		}
	}()
}

// What a target does before the gate knows that it has begun is not lost.
func TestCommandsThatAreOverAtOnce(t *testing.T) {
	w := newWorld(t, setup{target: newFakeThat(t, func(*xssh.ServerConn) {}, answersAtOnce)})
	c := w.dial(t, "ops@web-1")
	for n := range 200 {
		out, said, err := runs(t, c, command("echo in"))
		var exit *xssh.ExitError
		if out != "in\n" || !errors.As(err, &exit) || exit.ExitStatus() != 7 {
			t.Fatalf("command %d: stdout %q, stderr %q, %v", n, out, said, err)
		}
	}
}

// opens is nil for the right password.
func opens(password string) error {
	if password != "open sesame" {
		return errors.New("another password")
	}
	return nil
}

// A target that takes passwords: said at once, or as PAM asks for it.
func TestLoginByAPassword(t *testing.T) {
	for name, allow := range map[string]func(*xssh.ServerConfig){
		"password": func(c *xssh.ServerConfig) {
			c.PasswordCallback = func(_ xssh.ConnMetadata, password []byte) (*xssh.Permissions, error) {
				return nil, opens(string(password))
			}
		},
		"question": func(c *xssh.ServerConfig) {
			c.KeyboardInteractiveCallback = func(_ xssh.ConnMetadata, ask xssh.KeyboardInteractiveChallenge) (*xssh.Permissions, error) {
				answers, err := ask("", "", []string{"Password: "}, []bool{false})
				if err != nil {
					return nil, err
				}
				return nil, opens(answers[0])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			target := newFakeThat(t, func(*xssh.ServerConn) {}, answersAtOnce, allow)
			w := newWorld(t, setup{target: target, secrets: credential.Set{"web-1-password": secret("open sesame")}})
			c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "worded@web-1@gate", "echo in")...)
			if c.done() != 7 || c.stdout.String() != "in\n" {
				t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
			}
			if target.shown.Load() != nil {
				t.Error("the target was shown a certificate too")
			}
			for _, line := range w.recorded(t) {
				if bytes.Contains(line.Raw, []byte("sesame")) {
					t.Errorf("the password is on the record: %s", line.Raw)
				}
			}
		})
	}
}
