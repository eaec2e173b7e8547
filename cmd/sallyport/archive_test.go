package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/audit"
)

// A host serves a folder as an archive, as git hosts do.
type host struct {
	*httptest.Server
	t   *testing.T
	dir string // what it serves

	mu      sync.Mutex
	instead http.HandlerFunc
	same    int // answers that it is the one of before
	asked   *http.Request
}

func newHost(t *testing.T, dir string) *host {
	t.Helper()
	h := &host{t: t, dir: dir}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.Close)
	return h
}

func (h *host) answer(instead http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.instead = instead
}

func (h *host) serve(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = r
	if h.instead != nil {
		h.instead(w, r)
		return
	}
	text := h.packed()
	sum := sha256.Sum256(text)
	tag := `"` + hex.EncodeToString(sum[:]) + `"`
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		h.same++
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(text)
}

func (h *host) packed() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.AddFS(os.DirFS(h.dir)); err != nil {
		h.t.Error(err)
	}
	if err := w.Close(); err != nil {
		h.t.Error(err)
	}
	if err := z.Close(); err != nil {
		h.t.Error(err)
	}
	return b.Bytes()
}

// A policy comes over https from where nobody is trusted: what is not signed, or older,
// changes nothing, and a host that is away keeps nobody from starting with the last one.
func TestPolicyFromAnArchive(t *testing.T) {
	m := newMachine(t)
	live := filepath.Join(m.dir, "policy")
	away := &machine{dir: filepath.Join(t.TempDir(), "repo-12ab"), signer: m.signer}
	if err := os.MkdirAll(away.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(live, filepath.Join(away.dir, "policy")); err != nil {
		t.Fatal(err)
	}
	// The repository is the bundle itself, below one folder of the archive.
	h := newHost(t, filepath.Dir(filepath.Join(away.dir, "policy")))
	ca := filepath.Join(m.dir, "host.pem")
	m.write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})))
	token := filepath.Join(m.dir, "token")
	m.write(t, token, "s3cret")
	m.edit(t, m.config, "min_version = 1", "min_version = 1\n  archive {\n    url = \""+h.URL+"/main.tar.gz\"\n    ca = \""+ca+"\"\n    every = \"1h\"\n    credential = \"archive\"\n  }")
	m.edit(t, m.config, "policy {", "credential \"archive\" {\n  from = \"file:"+token+"\"\n}\npolicy {")

	p := m.serve(t)
	runs := func(version int) {
		t.Helper()
		rules, err := os.ReadFile(filepath.Join(live, "policy", "rules.hcl"))
		if want := map[int]string{1: `"1h"`, 2: `"2h"`}[version]; err != nil || !strings.Contains(string(rules), want) {
			t.Errorf("the folder does not hold version %d: %v", version, err)
		}
		if v := p.gate.Policy().Version(); v != version {
			t.Fatalf("version %d runs, not %d", v, version)
		}
		if left, _ := filepath.Glob(live + ".*"); len(left) > 0 {
			t.Errorf("%q is left", left)
		}
	}
	runs(1)
	if got := h.asked.Header.Get("Authorization"); got != "Bearer s3cret" {
		t.Errorf("asked with %q", got)
	}

	// A signature is missing: an entry, once, however often it is asked for.
	rules := filepath.Join(away.dir, "policy", "policy", "rules.hcl")
	m.edit(t, rules, `"1h"`, `"2h"`)
	p.poll(t.Context())
	p.poll(t.Context())
	if n := len(entries(t, p, audit.PolicyRefused)); n != 1 {
		t.Errorf("%d entries of one refusal", n)
	}
	runs(1)
	old := h.packed()
	away.release(t, 2)
	p.poll(t.Context())
	runs(2)
	p.poll(t.Context())
	if n := len(entries(t, p, audit.PolicyLoaded)); n != 2 || h.same != 1 {
		t.Errorf("%d loaded; %d times it was the one of before", n, h.same)
	}

	for name, c := range map[string]struct {
		instead http.HandlerFunc
		say     string
	}{
		"an older one": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(old) }, "policy refused: "},
		"another page": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "not a gzipped tar"},
		"plaintext": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "leads away from https"},
		"nothing there": {http.NotFound, "answers 404"},
	} {
		h.answer(c.instead)
		if err := p.reload(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "policy 2 goes on: ") || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
		runs(2)
	}
}

// With the host away a gate starts with what it fetched last; without that it does not.
func TestStartWithoutTheArchivesHost(t *testing.T) {
	m := newMachine(t)
	h := newHost(t, filepath.Join(m.dir, "policy"))
	ca := filepath.Join(m.dir, "host.pem")
	m.write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})))
	m.edit(t, m.config, "min_version = 1", "min_version = 1\n  archive {\n    url = \""+h.URL+"\"\n    ca = \""+ca+"\"\n  }")
	h.Close()
	// A crash left the folder beside its place.
	if err := os.Rename(filepath.Join(m.dir, "policy"), filepath.Join(m.dir, "policy.before")); err != nil {
		t.Fatal(err)
	}
	p, err := m.open(t)
	if err != nil {
		t.Fatal(err)
	}
	if p.gate.Policy().Version() != 1 {
		t.Error("another version runs")
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(filepath.Join(m.dir, "policy")); err != nil {
		t.Fatal(err)
	}
	m.refused(t, "policy refused: ")
}
