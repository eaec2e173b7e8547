package http

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// curl is a run of it as people type it, and what it shows; behind the body it writes the
// status, the type and how much it has sent.
func (w *world) curl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := w.runCurl(t, args)
	if err != nil {
		t.Fatalf("curl %q: %v: %s", args, err, out)
	}
	return out
}

func (w *world) runCurl(t testing.TB, args []string) (string, error) {
	ca := filepath.Join(w.Dir, "curl-ca.pem")
	if err := os.WriteFile(ca, w.caPEM, 0o600); err != nil {
		return "", err
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(w.app, "https://"), ":")
	all := []string{"-sS", "--max-time", "60", "--cacert", ca, "-w", "\n%{http_code} %{content_type} sent %{size_upload}"}
	for _, host := range []string{"gate", "app", "other"} {
		all = append(all, "--resolve", host+".localhost:"+port+":127.0.0.1")
	}
	out, err := exec.CommandContext(t.Context(), "curl", append(all, args...)...).CombinedOutput() //nolint:gosec // of this test
	return string(out), err
}

// has checks what curl shows.
func has(t testing.TB, out string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(out, word) {
			t.Errorf("%q is not in %s", word, out)
		}
	}
}

// files writes a certificate of a sign-in as curl reads it.
func (w *world) files(t testing.TB, by identity.SignIn) (args []string) {
	t.Helper()
	cert := w.certificate(t, by)
	key, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey)) //nolint:forcetypeassert // ours
	must(t, err)
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"client.crt": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "client.key": {Type: "EC PRIVATE KEY", Bytes: key}} {
		must(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	return []string{"--cert", filepath.Join(dir, "client.crt"), "--key", filepath.Join(dir, "client.key")}
}

// curl as people type it: without a proof, with a token, and with the wait.
func TestCurl(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	has(t, w.curl(t, w.app+"/"), "Nothing is opened yet; sign in and say why.", `"open":"`+w.gate+"/requests/new?", "401 application/problem+json")
	has(t, w.curl(t, "-H", "Accept: text/html", "-o", "/dev/null", "-D", "-", w.app+"/"), "303", "/.sallyport/open?nonce=")
	has(t, w.curl(t, "-H", "Authorization: Bearer spg_wrong", w.app+"/"), "401 application/problem+json", "That token is not valid")
	has(t, w.curl(t, "-H", "Prefer: wait=1", "-v", "--http1.1", w.app+"/"),
		"HTTP/1.1 102 Processing", "Sallyport-Notice: sign in and say why at "+w.gate+"/h/", "401 application/problem+json")

	// With a token: the grant's end is told as what it is.
	by := w.SignIn(t, gatetest.Alice)
	request, err := w.Gate.Ask(t.Context(), by, here, session.NewRequest{Target: "app", Role: "user"})
	must(t, err)
	token, _, err := w.GrantToken(t.Context(), by, request.Grant)
	must(t, err)
	bearer := "Authorization: Bearer " + token.Reveal()
	has(t, w.curl(t, "-H", bearer, w.app+"/"), "application\n200")
	w.end(t, gatetest.Alice)
	eventually(t, "the session goes on", func() bool {
		list, err := w.Sessions(t.Context(), by, session.Filter{State: "live"})
		must(t, err)
		return len(list) == 0
	})
	has(t, w.curl(t, "-H", bearer, w.app+"/"), "403 application/problem+json", "Your access was revoked by sam@example.com")
	has(t, w.curl(t, "-H", bearer, w.app+"/"), "401 application/problem+json", "its grant has ended")
}

// Every kind of refusal, with both versions of HTTP: a problem with its status and the
// sentence, and nothing at the target.
func TestCurlIsRefused(t *testing.T) {
	const most = 4
	hangs, seen := make(chan struct{}, most), newSeen()
	w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hang" {
			seen.ServeHTTP(rw, r)
			return
		}
		hangs <- struct{}{}
		<-r.Context().Done()
	}), options{extra: "max_body = 1000", perUser: most})
	big := filepath.Join(w.Dir, "big")
	must(t, os.WriteFile(big, make([]byte, 1001), 0o600))
	alice, bob := w.SignIn(t, gatetest.Alice), w.SignIn(t, gatetest.Bob)
	cert := w.files(t, alice)
	_, port, _ := strings.Cut(strings.TrimPrefix(w.app, "https://"), ":")
	as := func(role string, more ...string) []string {
		return append(append([]string{"-H", roleHeader + ": " + role}, cert...), more...)
	}
	first := `"open":"` + w.gate + `/requests/new?role=user&target=app"` // as people copy it
	more := `"open":"` + w.gate + `/requests/new?target=app"`
	for _, version := range []string{"--http1.1", "--http2"} {
		has(t, w.curl(t, as("user", version, w.app+"/")...), "application\n200")
		seen.last(t)
		for _, one := range []struct {
			name   string
			args   []string
			status int
			words  []string
		}{
			{"no proof", []string{w.app + "/"}, 401, []string{"Nothing is opened yet", first}},
			{"a token in its name", []string{"-u", "alice:spg_x", w.app + "/"}, 401, []string{"Nothing is opened yet"}},
			{"no rule", append(w.files(t, bob), w.app+"/"), 403, []string{"No rule lets you use app as user", first}},
			{"people", as("careful", w.app+"/"), 403, []string{"aits for 1 of: dba", `"request":"`, `"open":"` + w.gate + "/requests/"}},
			{"no such role", as("nobody", w.app+"/"), 403, []string{"nobody"}},
			{"read-only", as("reader", "-X", "DELETE", w.app+"/"), 403, []string{"Your grant is read-only, and DELETE may write", more}},
			{"another path", as("some", w.app+"/private"), 403, []string{"Your grant does not have this path", more}},
			{"another query", as("query", w.app+"/?index=secret"), 403, []string{"Your grant does not have this query", more}},
			{"another site", as("user", "-H", "Origin: https://evil.test", "-d", "x=y", w.app+"/"), 403, []string{"This came from another site"}},
			{"dots", as("user", "--path-as-is", w.app+"/a/../b"), 400, []string{"The path has dot segments."}},
			{"an encoded slash", as("user", w.app+"/a%2Fb"), 400, []string{"The path has encoded slashes."}},
			{"TRACE", as("user", "-X", "TRACE", w.app+"/"), 400, []string{"TRACE does not pass"}},
			{"another host", as("user", "-H", "Host: other.localhost:"+port, w.app+"/"), 421, []string{"The host in TLS and in the request differ"}},
			{"a long body", as("user", "--data-binary", "@"+big, w.app+"/"), 413, []string{"The body is longer than this target takes"}},
			{"a target that is away", as("user", w.other+"/"), 502, []string{"cannot be reached now"}},
		} {
			out := w.curl(t, append(one.args, version)...)
			has(t, out, append(one.words, fmt.Sprintf("\n%d application/problem+json", one.status))...)
			if t.Failed() {
				t.Fatalf("%s with %s shows %s", one.name, version, out)
			}
			seen.none(t)
		}
		long := as("user", version, w.app+"/")
		for i := range 5 {
			long = append(long, "-H", fmt.Sprintf("X-Long-%d: %s", i, strings.Repeat("x", maxHead/4)))
		}
		if out, err := w.runCurl(t, long); err == nil || version == "--http1.1" { // in HTTP/2 it may end the connection
			has(t, out, "\n431 ") // net/http's own
		}
		seen.none(t)
	}
	upgrade := []string{"--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	has(t, w.curl(t, as("user", append(upgrade, w.app+"/")...)...), "\n403 application/problem+json", "lets no websockets through")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := w.client(t, false, w.certificate(t, alice))
	answers := make(chan *http.Response, most)
	for range most {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.app+"/hang", http.NoBody)
		must(t, err)
		r.Header.Set(roleHeader, "user")
		go func() {
			res, _ := c.Do(r) //nolint:bodyclose // it never comes
			answers <- res
		}()
		select {
		case <-hangs:
		case res := <-answers:
			t.Fatalf("answered %v", res)
		}
	}
	has(t, w.curl(t, as("user", "-D", "-", w.app+"/")...), "\n429 application/problem+json", "Too many of your requests are under way", "etry-")
	cancel()
	for range most {
		<-answers
	}
	seen.none(t)
}

// With Prefer: wait=N curl stays until somebody has answered: the yes lets it in, and the
// no is its answer, with the word that was said.
func TestCurlWaits(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	alice, bob := w.SignIn(t, gatetest.Alice), w.SignIn(t, gatetest.Bob)
	args := append(w.files(t, alice), "-H", roleHeader+": careful", "-H", "Prefer: wait=50", w.app+"/")
	for _, yes := range []bool{false, true} {
		shows := make(chan string, 1)
		go func() {
			out, err := w.runCurl(t, args)
			if err != nil {
				out += err.Error()
			}
			shows <- out
		}()
		var pending []session.Request
		eventually(t, "nothing is asked for", func() bool {
			var err error
			pending, err = w.Requests(t.Context(), bob, session.Filter{State: string(session.RequestPending)})
			must(t, err)
			return len(pending) == 1 && pending[0].Waiting
		})
		app.none(t)
		_, err := w.Decide(t.Context(), bob, pending[0].ID, session.Verdict{Yes: yes, Word: "say which ticket"})
		must(t, err)
		if yes {
			has(t, <-shows, "application\n200")
			app.last(t)
			continue
		}
		has(t, <-shows, "\n403 application/problem+json", "bob@example.com", "ay which ticket")
		app.none(t)
	}
}

// Large uploads ask first (Expect: 100-continue), and nothing of their bodies is sent to a
// target that says no at once, or that takes no such body.
func TestCurlUploads(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "not today", http.StatusConflict)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, "took ", n)
	}), options{extra: "max_body = 3000000"})
	cert := w.files(t, w.SignIn(t, gatetest.Alice))
	file := func(size int) string {
		name := filepath.Join(w.Dir, fmt.Sprint(size))
		must(t, os.WriteFile(name, make([]byte, size), 0o600))
		return name
	}
	expect := []string{"--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", "60"}
	for _, one := range []struct {
		size  int
		path  string
		words []string
	}{
		{2_500_000, "/", []string{"took 2500000\n200", "sent 2500000"}},
		{2_500_000, "/no", []string{"not today", "\n409 ", "sent 0"}},
		{3_000_001, "/", []string{"The body is longer than this target takes", "\n413 ", "sent 0"}},
	} {
		args := append(append(append([]string{}, cert...), expect...), "-T", file(one.size), w.app+one.path)
		has(t, w.curl(t, args...), one.words...)
	}
	args := append(append([]string{}, cert...), "--http2", "-T", file(2_500_000), w.app+"/")
	has(t, w.curl(t, args...), "took 2500000\n200")
}

// A gate that stops says so.
func TestCurlWhileTheGateStops(t *testing.T) {
	w := newWorld(t, newSeen(), options{})
	cert := w.files(t, w.SignIn(t, gatetest.Alice))
	has(t, w.curl(t, append(cert, w.app+"/")...), "application\n200")
	must(t, w.Stop(t.Context(), 0))
	out := w.curl(t, append(cert, w.app+"/")...)
	has(t, out, "\n503 application/problem+json")
	var p problem
	must(t, json.NewDecoder(strings.NewReader(out)).Decode(&p))
	if p.Status != http.StatusServiceUnavailable || !strings.Contains(p.Detail, "stop") {
		t.Errorf("told %+v", p)
	}
}
