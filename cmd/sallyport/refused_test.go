package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy/bundle"
)

// signBy puts a signature beside release 2, however made.
func (m *machine) signBy(t *testing.T, key ssh.Signer, namespace string) {
	t.Helper()
	manifest := filepath.Join(m.dir, "policy", "release", "2", "MANIFEST")
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := sshsig.Sign(bytes.NewReader(text), key, sshsig.HashSHA512, namespace)
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, manifest+".alice.sig", string(sshsig.Armor(signature)))
}

func anotherKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Class: every way of slipping a policy to a running gate is refused with one sentence
// and an entry that holds what was found, and the policy that runs goes on.
func TestWhateverIsSlippedInIsAnEntry(t *testing.T) {
	m := newMachine(t)
	p := m.serve(t)
	dir := filepath.Join(m.dir, "policy")
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	released := func(expires time.Duration) {
		t.Helper()
		_, err := bundle.Release(dir, bundle.Draft{Version: 2, Expires: time.Now().Add(expires)})
		must(err)
	}
	good := t.TempDir()
	must(os.CopyFS(good, os.DirFS(dir)))
	for _, c := range []struct {
		name string
		step bundle.Code
		do   func()
	}{
		{"no signature", bundle.Unsigned, func() { released(time.Hour) }},
		{"an empty signature", bundle.Unsigned, func() { released(time.Hour); m.write(t, at("release/2/MANIFEST.alice.sig"), "") }},
		{"an unknown key", bundle.Unsigned, func() { released(time.Hour); m.signBy(t, anotherKey(t), bundle.Namespace) }},
		{"a signature for git", bundle.Unsigned, func() { released(time.Hour); m.signBy(t, m.signer, "git") }},
		{"no MANIFEST", bundle.Unreadable, func() { must(os.MkdirAll(at("release/2"), 0o700)) }},
		{"another MANIFEST", bundle.Malformed, func() {
			released(time.Hour)
			m.edit(t, at("release/2/MANIFEST"), "version 2", "version 3")
			m.signBy(t, m.signer, bundle.Namespace)
		}},
		{"expired", bundle.Expired, func() { released(-time.Hour); m.signBy(t, m.signer, bundle.Namespace) }},
		{"an older one", bundle.Unreadable, func() { must(os.RemoveAll(at("release/1"))) }},
		{"a changed file", bundle.BadFiles, func() { m.release(t, 2); m.edit(t, at("policy/rules.hcl"), `"1h"`, `"9h"`) }},
		{"an extra file", bundle.BadFiles, func() { m.release(t, 2); m.write(t, at("policy/more.hcl"), "") }},
		{"a missing file", bundle.BadFiles, func() { m.release(t, 2); must(os.Remove(at("policy/rules.hcl"))) }},
		{"a symlink", bundle.BadFiles, func() {
			m.release(t, 2)
			must(os.Rename(at("policy/rules.hcl"), filepath.Join(m.dir, "rules.hcl")))
			must(os.Symlink(filepath.Join(m.dir, "rules.hcl"), at("policy/rules.hcl")))
		}},
		{"another trust root", bundle.BadPin, func() {
			must(os.RemoveAll(at("trust")))
			must(os.RemoveAll(at("release")))
			_, err := bundle.InitRoot(dir, 1, []bundle.Signer{{Who: "alice", Key: anotherKey(t).PublicKey()}})
			must(err)
		}},
		{"a policy that is none", bundle.BadPolicy, func() { m.edit(t, at("policy/rules.hcl"), "longest", "longesst"); m.release(t, 2) }},
		{"a policy that fails its tests", bundle.FailedTest, func() {
			m.write(t, at("policy/own.test.hcl"), "test \"x\" {\n request {\n user = \"a@example.com\"\n target = \"orders\"\n role = \"reader\"\n }\n expect { decision = \"allow\" }\n}\n")
			m.release(t, 2)
		}},
	} {
		before := entries(t, p, audit.PolicyRefused)
		c.do()
		err := p.reload(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "policy 1 goes on: policy refused: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", c.name, err)
		}
		if !errors.Is(err, &bundle.Refused{Code: c.step}) {
			t.Errorf("%s is not refused at the step %s: %v", c.name, c.step, err)
		}
		if v := p.gate.Policy().Version(); v != 1 {
			t.Fatalf("%s: version %d runs", c.name, v)
		}
		all := entries(t, p, audit.PolicyRefused)
		if len(all) != len(before)+1 {
			t.Fatalf("%s: %d entries more", c.name, len(all)-len(before))
		}
		var body struct {
			Why, Step, Manifest, Digest string
			Signatures                  []bundle.Signature
		}
		must(json.Unmarshal(all[len(all)-1].Body, &body))
		found, _ := os.ReadFile(at("release/2/MANIFEST"))
		signature, signed := os.ReadFile(at("release/2/MANIFEST.alice.sig"))
		if body.Why == "" || body.Step != string(c.step) || body.Manifest != string(found) || len(found) > 0 && body.Digest != bundle.Digest(found) ||
			signed == nil && (len(body.Signatures) != 1 || !bytes.Equal(body.Signatures[0].Text, signature)) {
			t.Errorf("%s: the entry has %+v", c.name, body)
		}
		must(os.RemoveAll(dir))
		must(os.CopyFS(dir, os.DirFS(good)))
	}
	// And what is loaded is in the log as it was signed.
	m.edit(t, at("policy/rules.hcl"), `"1h"`, `"2h"`)
	m.release(t, 2)
	must(p.reload(t.Context()))
	loaded := entries(t, p, audit.PolicyLoaded)
	var body struct {
		Manifest   string
		Signatures []bundle.Signature
	}
	must(json.Unmarshal(loaded[len(loaded)-1].Body, &body))
	if bundle.Digest([]byte(body.Manifest)) != p.gate.Policy().Digest() || len(body.Signatures) != 1 {
		t.Errorf("policy.loaded has %+v", body)
	}
}

// entries are those of a type, with their bodies.
func entries(t *testing.T, p *program, kind string) []audit.Entry {
	t.Helper()
	all, err := p.log.Entries(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var of []audit.Entry
	for _, e := range all {
		if e.Type == kind {
			of = append(of, e)
		}
	}
	return of
}
