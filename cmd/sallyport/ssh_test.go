package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/demo"
)

func TestSSHCertificatesNeedAKeyOfTheirOwn(t *testing.T) {
	if none, err := (&program{config: &config.Config{}}).sshLogin(); sshVerifier(none) != nil || err != nil {
		t.Errorf("without a key: %v", err)
	}
	path := filepath.Join(t.TempDir(), "login-ca-ssh")
	text, err := identity.NewSSHCA()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &program{config: &config.Config{LoginCA: config.LoginCA{SSHKey: path}}}
	loaded, err := p.sshLogin()
	if err != nil {
		t.Fatal(err)
	}
	verify := sshVerifier(loaded)
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	signIn := identity.NewID()
	issue := func(text []byte) *ssh.Certificate {
		ca, err := identity.LoadSSHCA(text)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.Issue(key, signIn, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	if got, err := verify(issue(text)); err != nil || got != signIn {
		t.Errorf("its own certificate: %q, %v", got, err)
	}
	other, err := identity.NewSSHCA()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := verify(issue(other)); err == nil || !strings.Contains(err.Error(), "not from this gate") {
		t.Errorf("another CA's: %q, %v", got, err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.sshLogin(); err == nil || !strings.Contains(err.Error(), "SSH login CA") {
		t.Errorf("a damaged key: %v", err)
	}
}

func TestDemoSaysHowToEnterOrWhyNot(t *testing.T) {
	with := sshText(&demo.Demo{SSH: "localhost:6422", KnownHosts: "/d/known_hosts"})
	if !strings.Contains(with, "ssh -p 6422 -o UserKnownHostsFile=/d/known_hosts deploy@web-1@localhost") {
		t.Error(with)
	}
	if without := sshText(&demo.Demo{NoSSH: demo.ErrNoSSHD}); !strings.Contains(without, "no sshd was found") || strings.Contains(without, "\n") {
		t.Error(without)
	}
}
