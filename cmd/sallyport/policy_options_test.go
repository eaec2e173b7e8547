package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/bundle"
)

// An option that the protocol would not read is found by `policy check`, and no gate
// loads a policy with one, whoever signed it.
func TestWrongOptionsAreNotLoaded(t *testing.T) {
	const text = `
issuer "test" {
  url       = "https://idp.example.com"
  client_id = "sallyport"
}
target "orders" {
  protocol = "postgres"
  address  = "/tmp/none"
  options { databse = "orders" }
  role "reader" {}
}
target "web-1" {
  protocol = "ssh"
  address  = "127.0.0.1:22"
  options { host_keys = ["ssh-ed25519 nonsense"] }
  role "deploy" {}
}
target "app" {
  protocol = "http"
  address  = "127.0.0.1:1"
  tls { mode = "off" }
  options { host = "app.example.com:443" }
  role "user" {}
}
`
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root, err := bundle.Create(dir, map[string][]byte{"policy/all.hcl": []byte(text)}, 1, time.Now().Add(time.Hour), map[string]ssh.Signer{"signer": signer})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := newRoot()
	c.SetArgs([]string{"policy", "check", dir})
	c.SetOut(&out)
	c.SetErr(&out)
	if err := c.Execute(); err == nil {
		t.Error("policy check finds it fine")
	}
	for _, want := range []string{"policy/all.hcl:9", "databse", "policy/all.hcl:15", "no public key", "policy/all.hcl:22", "no host name"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("policy check does not say %q: %s", want, out.String())
		}
	}
	_, err = policy.Load(dir, policy.Options{Root: policy.RootPin(root), Now: time.Now(), Scopes: scopes(), Check: checkTargets})
	if err == nil || !strings.Contains(err.Error(), "does not hold together") {
		t.Errorf("loaded with %v", err)
	}
}
