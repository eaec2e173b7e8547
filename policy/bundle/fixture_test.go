package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	fatal(t, err)
	s, err := ssh.NewSignerFromKey(key)
	fatal(t, err)
	return s
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A folder is a bundle of two signers, alice and bob, who both have to sign.
type folder struct {
	t    *testing.T
	dir  string
	keys map[string]ssh.Signer
	o    Options
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	f := &folder{t: t, dir: t.TempDir(), keys: map[string]ssh.Signer{"alice": newKey(t), "bob": newKey(t)}}
	fatal(t, Write(f.dir, map[string][]byte{"policy/rules.hcl": []byte("# one\n"), "policy/ca/db.pem": []byte("pem\n")}))
	root, err := InitRoot(f.dir, 2, f.signers("alice", "bob"))
	fatal(t, err)
	f.o = Options{Root: root, Now: now}
	return f
}

func (f *folder) signers(names ...string) []Signer {
	var list []Signer
	for _, n := range names {
		list = append(list, Signer{Who: n, Key: f.keys[n].PublicKey()})
	}
	return list
}

func (f *folder) release(version int, who ...string) {
	f.t.Helper()
	_, err := Release(f.dir, Draft{Version: version, Expires: now.Add(24 * time.Hour)})
	fatal(f.t, err)
	for _, w := range who {
		got, err := Sign(f.dir, version, f.keys[w])
		fatal(f.t, err)
		if got != w {
			f.t.Fatalf("signed as %s, want %s", got, w)
		}
	}
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

func (f *folder) read(name string) []byte {
	f.t.Helper()
	b, err := os.ReadFile(f.path(name))
	fatal(f.t, err)
	return b
}

func (f *folder) write(name string, text []byte) {
	f.t.Helper()
	fatal(f.t, os.MkdirAll(filepath.Dir(f.path(name)), 0o755))
	fatal(f.t, os.WriteFile(f.path(name), text, 0o644))
}

// edit replaces text in a file of the folder.
func (f *folder) edit(name, old, text string) {
	f.t.Helper()
	b := f.read(name)
	if !bytes.Contains(b, []byte(old)) {
		f.t.Fatalf("%s has no %q", name, old)
	}
	f.write(name, bytes.Replace(b, []byte(old), []byte(text), 1))
}

// sign puts a signature over a file, however made, beside it.
func (f *folder) sign(name, who string, s ssh.Signer, namespace string) {
	f.t.Helper()
	sig, err := sshsig.Sign(bytes.NewReader(f.read(name)), s, sshsig.HashSHA512, namespace)
	fatal(f.t, err)
	f.write(name+"."+who+".sig", sshsig.Armor(sig))
}

func (f *folder) opens() *Bundle {
	f.t.Helper()
	b, err := Open(f.dir, f.o)
	fatal(f.t, err)
	return b
}

// refused asserts the step that refuses, and words of its sentence.
func (f *folder) refused(code Code, words ...string) {
	f.t.Helper()
	_, err := Open(f.dir, f.o)
	var r *Refused
	if !errors.As(err, &r) {
		f.t.Fatalf("got %v, want a refusal", err)
	}
	if r.Code != code {
		f.t.Errorf("refused at step %q, want %q: %v", r.Code, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			f.t.Errorf("%q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), f.dir) {
		f.t.Errorf("%q is not one sentence about the bundle", err)
	}
}

// A fido is a FIDO key in software, which can sign without having been touched.
type fido struct {
	pub   ssh.PublicKey
	key   ed25519.PrivateKey
	flags byte
}

func newFIDO(t *testing.T) *fido {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	fatal(t, err)
	k, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Name, Key, Application string
	}{ssh.KeyAlgoSKED25519, string(pub), "ssh:"}))
	fatal(t, err)
	return &fido{pub: k, key: key, flags: 1}
}

func (s *fido) PublicKey() ssh.PublicKey { return s.pub }

// Sign follows OpenSSH, PROTOCOL.u2f: application digest, flags, counter, message digest.
func (s *fido) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	rest := binary.BigEndian.AppendUint32([]byte{s.flags}, 7)
	blob := append(append(append([]byte{}, app[:]...), rest...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(s.key, blob), Rest: rest}, nil
}

// counted counts signatures over release 1 under trust root 1.
func (f *folder) counted(signatures ...Signature) []string {
	f.t.Helper()
	r, err := ParseRoot(f.read("trust/root.1"))
	fatal(f.t, err)
	people, _ := r.count(f.read("release/1/MANIFEST"), signatures)
	return people
}
