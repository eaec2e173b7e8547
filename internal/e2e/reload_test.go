package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/session"
)

// hangup has the gate read everything again, and waits until it says so.
func (m *machine) hangup(t *testing.T, want ...string) {
	t.Helper()
	from := len(m.log.String())
	if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for _, text := range want {
		m.says(t, from, text)
	}
}

// A real SIGHUP to the real program: a release of the policy, certificates and credentials
// are taken over; what has to wait for a restart is named; what is refused changes
// nothing. Whoever is still allowed stays connected, and nobody else does.
func TestReloadByHangup(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	rules := m.at("policy", "policy", "rules.hcl")
	m.release(t)
	m.serve(t)
	kept, _ := m.opened(t, "20m")
	kept.types(t, "SELECT 'before' || ' reload';")
	kept.says(t, "before reload")
	hangup := func(want ...string) { m.hangup(t, want...) }

	// Nothing changed; then an unsigned change, which is refused.
	hangup("msg=reloaded policy=1", "need_restart=[]")
	m.edit(t, rules, `longest = "1h"`, `longest = "2h"`)
	hangup(`msg="not reloaded"`, "policy 1 goes on: policy refused: ")
	m.release(t)
	hangup("msg=reloaded policy=2", "need_restart=[]")

	// A broken proxy.hcl changes nothing; a changed option has to wait, and is named.
	m.edit(t, m.config, "limits {", "limmits {")
	hangup(`msg="not reloaded"`, "there is one error", "limmits")
	m.edit(t, m.config, "limmits {", "limits {")
	m.edit(t, m.config, `listen "web"`, "# a word\nlisten \"web\"")
	hangup("need_restart=[]")
	m.edit(t, m.config, `listen "postgres"`, "listen \"web\" \"127.0.0.1:"+port(t)+"\" {\n  plaintext = true\n  options {\n    trusted_proxies = [\"127.0.0.0/8\"]\n  }\n}\nlisten \"postgres\"")
	m.edit(t, m.config, `grace = "1s"`, `grace = "2s"`)
	hangup(`need_restart="[limits listen]"`)

	// A target with a credential of its own comes with policy and proxy.hcl together.
	m.write(t, "credentials/second", "pencil sharpener, 42")
	m.edit(t, m.config, `credential "orders-reader"`, "credential \"second\" {\n  from = \"file:"+m.at("credentials", "second")+"\"\n}\ncredential \"orders-reader\"")
	targets, err := os.ReadFile(m.at("policy", "policy", "targets.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, "policy/policy/targets.hcl", string(targets)+target("second", fmt.Sprintf("localhost:%d", m.pg.Port), "db-ca.crt", "second"))
	m.edit(t, rules, `rule "orders-read" {`, "rule \"second\" {\n  target  = { name = \"second\" }\n  role    = [\"reader\"]\n  who     = { groups = [\"engineering\"] }\n  longest = \"1h\"\n}\n\nrule \"orders-read\" {")
	m.release(t)
	hangup("msg=reloaded policy=3")
	if err := m.connect(t, m.login(t, "alice@example.com"), "second", "reader"); err != nil {
		t.Errorf("the new target: %v", err)
	}

	kept.types(t, "SELECT 'after' || ' reload';")
	kept.says(t, "after reload")
	if live := list[session.Record](t, m.signedIn(t, "alice@example.com"), "sessions", "?state=live"); len(live) != 1 {
		t.Errorf("live after reloads that still allow it: %+v", live)
	}
	// A policy that no longer allows it cuts, at once and with words.
	m.edit(t, rules, "groups = [\"engineering\"] }\n  longest = \"2h\"", "groups = [\"nobody\"] }\n  longest = \"2h\"")
	if err := os.Remove(m.at("policy", "policy", "tests", "rules.test.hcl")); err != nil {
		t.Fatal(err)
	}
	m.release(t)
	hangup("msg=reloaded policy=4")
	kept.types(t, "SELECT 'too late';")
	if shown, err := kept.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: the policy changed: ") || strings.Contains(shown, "\ntoo late") {
		t.Errorf("under a policy that no longer allows it (%v) it shows:\n%s", err, shown)
	}
	m.saidNoTrace(t)
	if err := m.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	m.verifies(t)
}

// certify gives the gate's listener another certificate, of a CA that browsers know.
func (m *machine) certify(t *testing.T, hosts ...string) *x509.Certificate {
	t.Helper()
	caPEM, caKey, err := identity.NewServerCA("e2e", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.LoadServerCA(caPEM, caKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.IssueServer(hosts, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, "tls/gate.crt", string(cert))
	m.write(t, "tls/gate.key", string(key))
	m.roots.AppendCertsFromPEM(caPEM)
	return pair.Leaf
}

// A certificate is replaced under live connections of a web application: a websocket and a
// kept connection go on, whoever comes next is shown the new one, and one that cannot be
// used changes nothing.
func TestCertificatesAreReplacedUnderLiveConnections(t *testing.T) {
	t.Parallel()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, "<p>application</p>")
			return
		}
		socket, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer socket.Close()
		for {
			kind, text, err := socket.ReadMessage()
			if err != nil || socket.WriteMessage(kind, text) != nil {
				return
			}
		}
	}))
	t.Cleanup(app.Close)
	m := newMachine(t)
	_, port, _ := strings.Cut(m.Web, "localhost:")
	first := m.certify(t, "localhost", "app.test")
	m.edit(t, m.at("policy", "policy", "targets.hcl"), "target ", fmt.Sprintf("target \"app\" {\n  protocol = \"http\"\n  address  = %q\n  tls { mode = \"off\" }\n  options {\n    host      = \"app.test\"\n    websocket = true\n  }\n  role \"user\" {}\n}\ntarget ", app.Listener.Addr()))
	m.edit(t, m.at("policy", "policy", "rules.hcl"), `rule "orders-read" {`, "rule \"app\" {\n  target  = { name = \"app\" }\n  role    = [\"user\"]\n  who     = { groups = [\"engineering\"] }\n  longest = \"1h\"\n}\n\nrule \"orders-read\" {")
	m.release(t)
	m.serve(t)

	alice, address := m.browser(t, "alice@example.com"), "https://app.test:"+port
	p := alice.open(t, address+"/") // its rule asks nobody
	if p.text != "application" {
		t.Fatalf("%s: %d %s", p.url, p.status, p.text)
	}
	// asks says which certificate was shown, and whether the connection is a kept one.
	asks := func(c *http.Client) (shown *x509.Certificate, kept bool) {
		t.Helper()
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { kept = i.Reused }})
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("answered %d, %v", answer.StatusCode, err)
		}
		return answer.TLS.PeerCertificates[0], kept
	}
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: m.roots}, Jar: alice.http.Jar, NetDialContext: alice.http.Transport.(*http.Transport).DialContext}
	socket, answer, err := dialer.DialContext(t.Context(), "wss"+strings.TrimPrefix(address, "https")+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	defer socket.Close()
	echoes := func() {
		t.Helper()
		err := socket.WriteMessage(websocket.TextMessage, []byte("still here"))
		if err == nil {
			_, _, err = socket.ReadMessage()
		}
		if err != nil {
			t.Fatalf("the websocket was dropped: %v", err)
		}
	}
	echoes()
	asks(alice.http)

	second := m.certify(t, "localhost", "app.test")
	m.hangup(t, "msg=reloaded", "need_restart=[]")
	newcomer := func() *x509.Certificate {
		t.Helper()
		fresh := m.browser(t, "alice@example.com")
		fresh.http.Jar = alice.http.Jar
		shown, _ := asks(fresh.http)
		return shown
	}
	look := func(what string) {
		t.Helper()
		echoes()
		if shown, kept := asks(alice.http); !kept || !shown.Equal(first) {
			t.Errorf("%s: the kept connection was dropped", what)
		}
		if shown := newcomer(); !shown.Equal(second) {
			t.Errorf("%s: a newcomer is shown the certificate %v", what, shown.SerialNumber)
		}
	}
	look("a new certificate")
	m.write(t, "tls/gate.key", "no key")
	m.hangup(t, `msg="not reloaded"`)
	look("a key that is none")
}
