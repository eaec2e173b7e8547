package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/identity"
	listener "github.com/sallyport/sallyport/protocols/ssh"
)

// heard is an ssh-agent that remembers what it was given.
type heard struct {
	agent.Agent
	mu    sync.Mutex
	added []agent.AddedKey
}

func (h *heard) Add(key agent.AddedKey) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.added = append(h.added, key)
	return h.Agent.Add(key)
}

// startAgent serves an ssh-agent at SSH_AUTH_SOCK until the test ends.
func startAgent(t *testing.T) *heard {
	t.Helper()
	h := &heard{Agent: agent.NewKeyring()}
	path := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { _ = agent.ServeAgent(h, conn); _ = conn.Close() }) // until the client goes
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	t.Setenv("SSH_AUTH_SOCK", path)
	return h
}

func newTestSSHCA(t *testing.T) *identity.SSHCA {
	t.Helper()
	text, err := identity.NewSSHCA()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.LoadSSHCA(text)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func certified(t *testing.T, ca *identity.SSHCA, k *sshKey, lasts time.Duration) *ssh.Certificate {
	t.Helper()
	made, err := ca.Issue(k.public, identity.NewID(), time.Now().Add(lasts))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := k.certificate(string(ssh.MarshalAuthorizedKey(made)))
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// The agent holds one certificate, no longer than it is good, and none after logout.
func TestAgentHoldsTheLastLoginsCertificate(t *testing.T) {
	h, ca := startAgent(t), newTestSSHCA(t)
	fake(t, http.StatusOK, "{}")
	dir := home(os.Getenv("SALLYPORT_HOME"))
	for range 2 {
		k, err := newSSHKey()
		if err != nil {
			t.Fatal(err)
		}
		cert, before := certified(t, ca, k, time.Hour), dir.sshCertificate()
		if err := keepSSH(dir, k, cert); err != nil {
			t.Fatal(err)
		}
		if found, err := intoAgent(t.Context(), k, cert, before, "alice@example.com"); !found || err != nil {
			t.Fatalf("%v %v", found, err)
		}
		held, err := h.List()
		if err != nil || len(held) != 1 || held[0].Comment != "sallyport alice@example.com" || held[0].Format != ssh.CertAlgoED25519v01 {
			t.Fatalf("the agent holds %v, %v", held, err)
		}
	}
	if life := h.added[0].LifetimeSecs; life == 0 || life > 3600 {
		t.Errorf("the agent keeps it for %d s", life)
	}
	for _, name := range []string{sshKeyFile, sshCertFile} {
		if info, err := os.Stat(dir.path(name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if out, err := run(t, "logout"); err != nil || !strings.Contains(out, "You are signed out") {
		t.Fatalf("%v %s", err, out)
	}
	if held, err := h.List(); err != nil || len(held) != 0 {
		t.Errorf("after logout the agent holds %v, %v", held, err)
	}
	if _, err := os.Stat(dir.path(sshCertFile)); !os.IsNotExist(err) {
		t.Errorf("after logout the certificate is there: %v", err)
	}
}

func TestLogoutWithoutItsAgent(t *testing.T) {
	ca := newTestSSHCA(t)
	fake(t, http.StatusOK, "{}")
	k, err := newSSHKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := keepSSH(home(os.Getenv("SALLYPORT_HOME")), k, certified(t, ca, k, time.Hour)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSH_AUTH_SOCK", filepath.Join(t.TempDir(), "gone"))
	if out, err := run(t, "logout"); err != nil || !strings.Contains(out, "You are signed out") {
		t.Errorf("%v %s", err, out)
	}
}

func TestSSHCertificateForAnotherKeyIsNotKept(t *testing.T) {
	ca := newTestSSHCA(t)
	k, err := newSSHKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newSSHKey()
	if err != nil {
		t.Fatal(err)
	}
	made := certified(t, ca, other, time.Hour)
	for _, line := range []string{string(ssh.MarshalAuthorizedKey(made)), string(ssh.MarshalAuthorizedKey(k.public)), "x"} {
		if _, err := k.certificate(line); err == nil || !strings.Contains(err.Error(), "for another key; nothing was saved") {
			t.Errorf("%.40s: %v", line, err)
		}
	}
	if cert, err := k.certificate(""); cert != nil || err != nil {
		t.Errorf("none: %v %v", cert, err)
	}
}

// What a gate says never becomes a line of its own in ssh's configuration.
func TestSSHConfigTakesNamesOnly(t *testing.T) {
	ca := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(newTestSSHCA(t).PublicKey())))
	answer := func(address, target string) string {
		text, err := json.Marshal(map[string]any{
			"address": address, "host_ca": ca,
			"targets": []map[string]string{{"Target": target, "Protocol": "ssh"}, {"Target": "web-2", "Protocol": "ssh"}, {"Target": "orders", "Protocol": "postgres"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, address := range []string{"gate\nProxyCommand evil:22", "*:22", "gate:22 x", "gate", "-oProxyCommand=x:22", "!gate:22"} {
		fake(t, http.StatusOK, answer(address, "web-1"))
		if out, err := run(t, "ssh-config"); err == nil || !strings.Contains(err.Error(), "which is none") {
			t.Errorf("%q: %v %s", address, err, out)
		}
	}
	fake(t, http.StatusOK, answer("gate.example.com:2222", "*"))
	out, err := run(t, "ssh-config")
	if err != nil || strings.Contains(out, "*") || !strings.Contains(out, "Host web-2\n") || !strings.Contains(out, "Host gate.example.com\n  HostName gate.example.com\n  Port 2222\n") {
		t.Errorf("%v\n%s", err, out)
	}
	known, err := os.ReadFile(filepath.Join(os.Getenv("SALLYPORT_HOME"), knownHostsFile))
	if want := "@cert-authority [gate.example.com]:2222 " + ca + "\n@cert-authority web-2 " + ca + "\n"; err != nil || string(known) != want {
		t.Errorf("known_hosts: %v\n%s", err, known)
	}
	if _, err := run(t, "ssh-config", "orders"); err == nil || !strings.Contains(err.Error(), `"orders" is no target of SSH that you may ask for; there are: web-2`) {
		t.Errorf("%v", err)
	}
	out, err = run(t, "ssh-config", "--json", "web-2")
	var setup sshSetup
	if err != nil || json.Unmarshal([]byte(out), &setup) != nil || setup.KnownHosts != string(known) || len(setup.Targets) != 1 {
		t.Errorf("%v %s", err, out)
	}
}

// One key that is two of three lets people past the gate.
func TestLoginCAIsNoKeyOfTheListener(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"host", "host-ca", "session-ca", "login"} {
		text, err := identity.NewSSHCA()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for login, want := range map[string]string{"login": "", "host-ca": "host_ca", "session-ca": "session_ca"} {
		c := &config.Config{LoginCA: config.LoginCA{SSHKey: path(login)}, Listeners: []config.Listener{sshListener(path)}}
		ca, err := (&program{config: c}).sshLogin()
		if err != nil {
			t.Fatal(err)
		}
		_, err = sshHostCA(c, ca)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "login_ca.ssh_key is the listener's "+want+" too")) {
			t.Errorf("%s: %v", login, err)
		}
	}
}

func sshListener(path func(string) string) config.Listener {
	return config.Listener{Protocol: "ssh", Options: func(into any) error {
		o := into.(*listener.Options)
		o.HostKeys, o.HostCA, o.SessionCA = []string{path("host")}, path("host-ca"), path("session-ca")
		return nil
	}}
}
