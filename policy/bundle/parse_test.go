package bundle

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestTrustRootIsStrict(t *testing.T) {
	f := newFolder(t)
	good := string(f.read("trust/root.1"))
	if _, err := ParseRoot([]byte(good)); err != nil {
		t.Fatal(err)
	}
	option := `namespaces="` + Namespace + `"`
	for name, c := range map[string]struct{ old, text, say string }{
		"unknown option":        {option, option + `,no-touch-required`, "is not supported"},
		"certificate authority": {option, `cert-authority,` + option, "is not supported"},
		"validity":              {option, option + `,valid-before="20200101"`, "is not supported"},
		"no option":             {" " + option, "", "is not supported"},
		"several namespaces":    {option, `namespaces="git,` + Namespace + `"`, "is not supported"},
		"pattern":               {"alice", "*", "is not one name"},
		"list of names":         {"alice", "alice,carol", "is not one name"},
		"capital":               {"alice", "Alice", "is not one name"},
		"escape":                {"alice", "al\x1bice", "is not one name"},
		"threshold of nobody":   {"threshold 2", "threshold 0", "not \"# threshold \""},
		"negative":              {"threshold 2", "threshold -1", "not \"# threshold \""},
		"more than there are":   {"threshold 2", "threshold 3", "3 have to sign, but only 2 can"},
		"leading zero":          {"threshold 2", "threshold 02", "not spelled"},
		"previous of the first": {"previous none", "previous " + Digest(nil), "only the first trust root"},
		"no digest":             {"previous none", "previous x", "previous is no digest"},
		"comment after the key": {"\nbob", " alice@laptop\nbob", "more than a key"},
		"another head":          {"sallyport-root/v1", "sallyport-root/v2", "line 1"},
		"blank line":            {"\nbob", "\n\nbob", "not a name, options and a key"},
		"comment":               {"\nbob", "\n# a b c\nbob", "is not one name"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, c.old) {
				t.Fatalf("there is no %q", c.old)
			}
			_, err := ParseRoot([]byte(strings.Replace(good, c.old, c.text, 1)))
			if err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want %q", err, c.say)
			}
		})
	}
}

func TestWeakKeys(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // it is to be refused
	fatal(t, err)
	s, err := ssh.NewSignerFromKey(key)
	fatal(t, err)
	_, err = InitRoot(t.TempDir(), 1, []Signer{{"alice", s.PublicKey()}})
	if err == nil || !strings.Contains(err.Error(), "RSA of 1024 bits is too short") {
		t.Errorf("got %v", err)
	}
	cert := &ssh.Certificate{Key: newKey(t).PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"alice"}, ValidBefore: ssh.CertTimeInfinity}
	fatal(t, cert.SignCert(rand.Reader, newKey(t)))
	_, err = InitRoot(t.TempDir(), 1, []Signer{{"alice", cert}})
	if err == nil || !strings.Contains(err.Error(), "ssh-ed25519-cert-v01@openssh.com may not sign") {
		t.Errorf("a certificate: %v", err)
	}
}

func TestManifestIsStrict(t *testing.T) {
	f := newFolder(t)
	f.release(1)
	good := string(f.read("release/1/MANIFEST"))
	for name, c := range map[string]struct{ old, text, say string }{
		"another head":     {"sallyport-policy/v1", "sallyport-policy/v2", "line 1"},
		"unknown line":     {"\n\n", "\nx y\n\n", "the header has 8 lines"},
		"another order":    {"name policy\nversion 1", "version 1\nname policy", "line 2 is not \"name\""},
		"version 0":        {"version 1", "version 0", "version is not a whole number"},
		"version +1":       {"version 1", "version +1", "not spelled"},
		"a first with one": {"previous none", "previous " + Digest(nil), "version 1 has a previous one"},
		"zone":             {"T12:00:00Z", "T14:00:00+02:00", "not spelled"},
		"no time":          {"2026-11-26T", "26.11.2026T", "expires is not a time"},
		"CRLF":             {"\nversion", "\r\nversion", "lower-case letters"},
		"previous":         {"previous none", "previous x", "previous is no digest"},
		"short digest":     {"  policy/rules", "0  policy/rules", "is not 64 hexadecimal digits"},
		"digest":           {"root sha256:", "root md5:", "root is no digest"},
		"upper case":       {"name policy", "name Policy", "lower-case letters"},
		"commit":           {"commit none", "commit HEAD", "commit is not hexadecimal"},
		"binary mode":      {"  policy/rules", " *policy/rules", "is not a digest, two spaces"},
		"order":            {"  policy/ca/db.pem", "  policy/z.pem", "out of order"},
		"twice":            {"  policy/ca/db.pem", "  policy/rules.hcl", "listed twice"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, c.old) {
				t.Fatalf("there is no %q", c.old)
			}
			_, err := ParseManifest([]byte(strings.Replace(good, c.old, c.text, 1)))
			if err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want %q", err, c.say)
			}
		})
	}
	if _, err := ParseManifest([]byte(strings.TrimSuffix(good, "\n"))); err == nil {
		t.Error("a last line that does not end was taken")
	}
}

// Stock OpenSSH and coreutils verify a bundle, and sign one that we accept.
func TestStockTools(t *testing.T) {
	f := newFolder(t)
	f.release(1, "alice")
	run := func(stdin, name string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stdin = f.dir, strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	manifest := string(f.read("release/1/MANIFEST"))
	out, err := run(manifest, "ssh-keygen", "-Y", "verify", "-f", "trust/root.1", "-I", "alice", "-n", Namespace, "-s", "release/1/MANIFEST.alice.sig")
	if err != nil || !strings.Contains(out, "Good \"policy@sallyport\" signature for alice") {
		t.Errorf("ssh-keygen -Y verify: %v: %s", err, out)
	}
	if out, err := run(manifest+"x", "ssh-keygen", "-Y", "verify", "-f", "trust/root.1", "-I", "alice", "-n", Namespace, "-s", "release/1/MANIFEST.alice.sig"); err == nil {
		t.Errorf("ssh-keygen verified another text: %s", out)
	}
	_, list, _ := strings.Cut(manifest, "\n\n")
	if out, err := run(list, "sha256sum", "--check", "--strict", "--quiet"); err != nil {
		t.Errorf("sha256sum --check: %v: %s", err, out)
	}
	// Bob's key is made by ssh-keygen, and he signs with it.
	if out, err := run("", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", f.path("bob.key")); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(f.read("bob.key.pub"))
	fatal(t, err)
	fatal(t, os.RemoveAll(f.path("trust")))
	fatal(t, os.RemoveAll(f.path("release")))
	f.o.Root, err = InitRoot(f.dir, 2, append(f.signers("alice"), Signer{Who: "bob", Key: key}))
	fatal(t, err)
	f.release(1, "alice")
	if out, err := run("", "ssh-keygen", "-Y", "sign", "-f", "bob.key", "-n", Namespace, "release/1/MANIFEST"); err != nil {
		t.Fatalf("ssh-keygen -Y sign: %v: %s", err, out)
	}
	fatal(t, os.Rename(f.path("release/1/MANIFEST.sig"), f.path("release/1/MANIFEST.bob.sig")))
	f.opens()
}

func FuzzManifest(f *testing.F) {
	m := Manifest{Name: "policy", Version: 2, Previous: Digest(nil), Root: Digest(nil), Expires: now, Files: []File{{"policy/a.hcl", strings.Repeat("a", 64)}}}
	f.Add(m.Bytes())
	f.Add(bytes.ReplaceAll(m.Bytes(), []byte("\n"), []byte("\r\n")))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err == nil && !bytes.Equal(m.Bytes(), b) {
			t.Errorf("two spellings of one manifest: %q", b)
		}
		if err == nil && m.Expires.Before(time.Time{}) {
			t.Errorf("expires at %v", m.Expires)
		}
	})
}

func FuzzAllowedSigners(f *testing.F) {
	r := Root{Version: 1, Threshold: 1, Signers: []Signer{{"alice", newKey(f).PublicKey()}}}
	f.Add(r.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRoot(b)
		if err == nil && (!bytes.Equal(r.Bytes(), b) || r.Threshold > len(r.People()) || r.Threshold < 1) {
			t.Errorf("taken: %q", b)
		}
	})
}

func FuzzSignature(f *testing.F) {
	key := newKey(f)
	r := Root{Version: 1, Threshold: 1, Signers: []Signer{{"alice", key.PublicKey()}}}
	f.Add([]byte("-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if who, _ := r.count([]byte("message"), []Signature{{"alice", b}}); len(who) != 0 {
			t.Errorf("counted: %q", b)
		}
	})
}
