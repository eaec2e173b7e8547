package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func newSSHCA(t *testing.T) *SSHCA {
	t.Helper()
	keyPEM, err := NewSSHCA()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := LoadSSHCA(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func sshKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSSHCertificateNamesItsSignIn(t *testing.T) {
	ca, id, now := newSSHCA(t), NewID(), time.Now()
	cert, err := ca.Issue(sshKey(t), id, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ca.Verify(cert, now); got != id || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if len(cert.Extensions)+len(cert.CriticalOptions) > 0 {
		t.Errorf("it carries %v", cert.Permissions)
	}
}

func TestSSHCertificatesThatProveNothing(t *testing.T) {
	ca, now := newSSHCA(t), time.Now()
	good := func() *ssh.Certificate {
		cert, err := ca.Issue(sshKey(t), NewID(), now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	signed := func(change func(*ssh.Certificate)) *ssh.Certificate {
		cert := good()
		change(cert)
		if err := cert.SignCert(rand.Reader, ca.signer); err != nil {
			t.Fatal(err)
		}
		return cert
	}
	other, err := newSSHCA(t).Issue(sshKey(t), NewID(), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	altered := good()
	altered.KeyId = signInURI + NewID()
	for name, trial := range map[string]struct {
		cert  *ssh.Certificate
		at    time.Time
		words string
	}{
		"none":              {nil, now, "is not from this gate"},
		"another CA":        {other, now, "is not from this gate"},
		"a host's":          {signed(func(c *ssh.Certificate) { c.CertType = ssh.HostCert }), now, "is not from this gate"},
		"ended":             {good(), now.Add(2 * time.Hour), "your SSH certificate ended at"},
		"not yet":           {good(), now.Add(-time.Hour), "is not valid here now"},
		"altered":           {altered, now, "is not valid here now"},
		"a critical option": {signed(func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "true"} }), now, "is not valid here now"},
		"a source address":  {signed(func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "10.0.0.1"} }), now, "is not valid here now"},
		"another principal": {signed(func(c *ssh.Certificate) { c.ValidPrincipals = []string{"root"} }), now, "is not valid here now"},
		"no sign-in":        {signed(func(c *ssh.Certificate) { c.KeyId = "alice" }), now, "names no sign-in of this gate"},
		"a short sign-in":   {signed(func(c *ssh.Certificate) { c.KeyId = signInURI + "x" }), now, "names no sign-in of this gate"},
	} {
		if id, err := ca.Verify(trial.cert, trial.at); id != "" || err == nil || !strings.Contains(err.Error(), trial.words) {
			t.Errorf("%s: %q, %v", name, id, err)
		}
	}
}

func TestSSHCAIssuesOnlyWhatItMay(t *testing.T) {
	ca, now := newSSHCA(t), time.Now()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, trial := range map[string]struct {
		key   ssh.PublicKey
		id    string
		ends  time.Time
		words string
	}{
		"RSA":        {weak, NewID(), now.Add(time.Hour), "the key must be Ed25519 or ECDSA"},
		"no sign-in": {sshKey(t), "x", now.Add(time.Hour), "there is no such sign-in"},
		"too long":   {sshKey(t), NewID(), now.Add(MaxCertificate + time.Minute), "it must end within"},
		"over":       {sshKey(t), NewID(), now.Add(-time.Minute), "it must end within"},
	} {
		if _, err := ca.Issue(trial.key, trial.id, trial.ends); err == nil || !strings.Contains(err.Error(), trial.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSSHCAHasAKeyThatSigns(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSSHCA(pem.EncodeToMemory(block)); err == nil || !strings.Contains(err.Error(), "a key of type ssh-rsa does not sign here") {
		t.Errorf("a CA by RSA: %v", err)
	}
}
