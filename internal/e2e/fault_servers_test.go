package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/sshdtest"
	"github.com/sallyport/sallyport/session"
)

// listening has a server speak to each connection by itself, until the test ends.
func listening(t *testing.T, config *tls.Config, speak func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var busy sync.WaitGroup
	busy.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if config != nil {
				conn = tls.Server(conn, config)
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			busy.Go(func() { speak(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		busy.Wait()
	})
	return l.Addr().String()
}

// silence reads, and says nothing until the other side has gone.
func silence(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// slams closes at once.
func slams(conn net.Conn) { _ = conn.Close() }

// floods says a gigabyte of one letter, after first.
func floods(first string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close() //nolint:errcheck // it is over
		if strings.HasPrefix(first, "HTTP") {
			_, _ = http.ReadRequest(bufio.NewReader(conn)) // whatever was asked
		}
		_, _ = io.WriteString(conn, first)
		block := []byte(strings.Repeat("x", 1<<20))
		for range 1 << 10 {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	}
}

// breaks off an answer of HTTP in its middle.
func breaks(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // that is the fault
	_, _ = http.ReadRequest(bufio.NewReader(conn))
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe first half")
}

// dies passes on to a server, and breaks off in the middle of what that says: so soon
// that a client has taken it all when it is told, which the gate waits for no longer than
// for the words of a cut.
func dies(to string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close() //nolint:errcheck // that is the fault
		behind, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer behind.Close()                         //nolint:errcheck // as above
		go func() { _, _ = io.Copy(behind, conn) }() // it ends with either
		_, _ = io.CopyN(conn, behind, 16<<10)
	}
}

// door adds a listener for SSH to the machine, and names for web targets to its certificate.
func (m *machine) door(t *testing.T, sessionCA string, names ...string) {
	t.Helper()
	m.SSH = "localhost:" + port(t)
	text, err := os.ReadFile(m.config)
	if err != nil {
		t.Fatal(err)
	}
	_, at, _ := strings.Cut(m.SSH, ":")
	m.write(t, "proxy.hcl", string(text)+fmt.Sprintf(`
listen "ssh" "127.0.0.1:%s" {
  options {
    host_keys  = [%q]
    host_ca    = %q
    session_ca = %q
    names      = ["localhost"]
  }
}
`, at, sshKey(t, "host"), sshKey(t, "host-ca"), sessionCA))
	certificate, err := os.ReadFile(m.CA)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(m.at("tls", "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.LoadServerCA(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err = ca.IssueServer(append(names, "localhost"), nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, "tls/gate.crt", string(certificate))
	m.write(t, "tls/gate.key", string(key))
}

// webTarget and sshTarget are targets with one role, which the rule "broken" opens.
func webTarget(name, address, tls string) string {
	return fmt.Sprintf("target %q {\n  protocol = \"http\"\n  address  = %q\n  tls {\n    %s\n  }\n  options {\n    host = \"%s.test\"\n  }\n  role \"user\" {}\n}\n", name, address, tls, name)
}

func sshTarget(name, address, key, account string) string {
	return fmt.Sprintf("target %q {\n  protocol = \"ssh\"\n  address  = %q\n  options {\n    host_keys = [%q]\n  }\n  role \"deploy\" {\n    account = %q\n  }\n}\n", name, address, key, account)
}

// broken adds these targets, which a rule alone opens for Alice, and signs.
func (m *machine) broken(t *testing.T, role, targets string, names ...string) {
	t.Helper()
	m.write(t, "policy/policy/targets.hcl", target("orders", fmt.Sprintf("localhost:%d", m.pg.Port), "db-ca.crt", "orders-reader")+targets)
	m.edit(t, m.at("policy", "policy", "rules.hcl"), `rule "orders-read" {`, fmt.Sprintf(`rule "broken" {
  target  = { names = ["%s"] }
  role    = [%q]
  who     = { groups = ["engineering"] }
  longest = "1h"
}

rule "orders-read" {`, strings.Join(names, `", "`), role))
	m.release(t)
}

// opened asks for what a rule alone opens, and makes a token of it.
func (b *browser) opened(t *testing.T, target, role string) string {
	t.Helper()
	var r struct{ Grant string }
	if err := b.call(http.MethodPost, "/api/v1/requests", fmt.Sprintf(`{"target":%q,"role":%q,"duration":"30m"}`, target, role), &r); err != nil {
		t.Fatal(err)
	}
	var made struct{ Token string }
	if err := b.call(http.MethodPost, "/api/v1/grants/"+r.Grant+"/token", "{}", &made); err != nil {
		t.Fatal(err)
	}
	return made.Token
}

// Targets of HTTP that are down, refuse by closing, break off in the middle of an answer,
// say a gigabyte of head or of body, show another CA's certificate, or say nothing: the
// client is told in a sentence, or sees a broken answer and never a whole one; the
// gate's memory stays, and what waits for a silent target is cut by a revoke.
func TestWebTargetsThatMisbehave(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	cases := []struct {
		name, address, tls string
		status             int // 0: no whole answer
		want               string
	}{
		{"down", "127.0.0.1:" + port(t), `mode = "off"`, http.StatusBadGateway, "The target down cannot be reached now; ask the platform team"},
		{"slams", listening(t, nil, slams), `mode = "off"`, http.StatusBadGateway, "The target slams does not answer as it should; try again, or ask the platform team"},
		{"head", listening(t, nil, floods("HTTP/1.1 200 OK\r\nX: ")), `mode = "off"`, http.StatusBadGateway, "The target head does not answer as it should; try again, or ask the platform team"},
		{"other", listening(t, &tls.Config{Certificates: []tls.Certificate{m.issuer.certificate}, MinVersion: tls.VersionTLS12}, silence), `ca = "db-ca.crt"`, http.StatusBadGateway, "The target other does not show the certificate that the policy asks for; ask the platform team"},
		{"breaks", listening(t, nil, breaks), `mode = "off"`, 0, ""},
		{"body", listening(t, nil, floods("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")), `mode = "off"`, http.StatusOK, ""},
	}
	targets := webTarget("silent", listening(t, nil, silence), `mode = "off"`)
	names, hosts := []string{"silent"}, []string{"silent.test"}
	for _, c := range cases {
		targets += webTarget(c.name, c.address, c.tls)
		names, hosts = append(names, c.name), append(hosts, c.name+".test")
	}
	m.door(t, sshKey(t, "session-ca"), hosts...)
	m.broken(t, "user", targets, names...)
	m.serve(t)
	alice := m.signedIn(t, "alice@example.com")
	before := m.memory(t)
	for _, c := range cases {
		answer, err := m.fetch(alice, c.name, alice.opened(t, c.name, "user"))
		if c.status == 0 {
			if err == nil {
				t.Errorf("%s: a broken answer looks whole: %d %s", c.name, answer.status, answer.text)
			}
			continue
		}
		if err != nil || answer.status != c.status || !strings.Contains(answer.text, c.want) || c.name == "body" && answer.length != 1<<30 {
			t.Errorf("%s: %d, %d bytes (%v), want %d %s:\n%.500s", c.name, answer.status, answer.length, err, c.status, c.want, answer.text)
		}
		if strings.Contains(answer.text, "127.0.0.1") {
			t.Errorf("%s: the address is told: %s", c.name, answer.text)
		}
	}
	if grown := m.memory(t) - before; grown > 64 {
		t.Errorf("gigabytes of answers took %d MiB", grown)
	}
	m.silentWeb(t, alice)
	m.over(t)
}

// silentWeb waits for a target that says nothing, until a revoke.
func (m *machine) silentWeb(t *testing.T, alice *browser) {
	t.Helper()
	token := alice.opened(t, "silent", "user")
	var answer answered
	var err error
	var waiting sync.WaitGroup
	waiting.Go(func() { answer, err = m.fetch(alice, "silent", token) })
	sam := m.signedIn(t, "sam@example.com")
	var live session.Record
	eventually(t, "the session", func() bool {
		for _, live = range list[session.Record](t, sam, "sessions", "?state=live") {
			if live.Key.Target == "silent" {
				return true
			}
		}
		return false
	})
	if status, text := sam.api(t, http.MethodPost, "/api/v1/grants/"+live.Grant+"/revoke", map[string]string{"why": "it says nothing"}); status != http.StatusOK {
		t.Fatalf("revoke: %d %s", status, text)
	}
	waiting.Wait()
	if err != nil || answer.status != http.StatusForbidden || !strings.Contains(answer.text, "revoked") {
		t.Errorf("revoked while the target says nothing: %d %s (%v)", answer.status, answer.text, err)
	}
}

// over looks at what is left behind.
func (m *machine) over(t *testing.T) {
	t.Helper()
	m.saidNoTrace(t)
	if err := m.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	m.verifies(t)
}

// answered is what a client got of an answer.
type answered struct {
	status int
	text   string // its beginning
	length int64
}

// fetch asks a web target for its page; the error is of an answer that is not whole.
func (m *machine) fetch(b *browser, target, token string) (answered, error) {
	request, err := http.NewRequest(http.MethodGet, strings.Replace(m.Web, "localhost", target+".test", 1)+"/", nil)
	if err != nil {
		return answered{}, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := (&http.Client{Transport: b.http.Transport, Timeout: 2 * time.Minute}).Do(request)
	if err != nil {
		return answered{}, err
	}
	defer answer.Body.Close()
	begins, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	n := int64(0)
	if err == nil {
		n, err = io.Copy(io.Discard, answer.Body)
	}
	return answered{answer.StatusCode, string(begins), int64(len(begins)) + n}, err
}

// Targets of SSH that are down, close at once, say nothing, say a gigabyte, or prove
// themselves by another key, and one that dies while it speaks: the client is told in a
// sentence, and ends.
func TestMachinesThatMisbehave(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	sessionCA := filepath.Join(t.TempDir(), "session-ca")
	real := sshdtest.Start(t, sshdtest.Key(t, sessionCA).PublicKey())
	other := sshdtest.Line(sshdtest.Key(t, filepath.Join(t.TempDir(), "other")).PublicKey())
	cases := []struct{ name, address, want string }{
		{"down", "127.0.0.1:" + port(t), "the target down cannot be reached now; ask the platform team"},
		{"slams", listening(t, nil, slams), "the target slams does not let the gate log in as deploy; ask the platform team"},
		{"floods", listening(t, nil, floods("")), "the target floods does not let the gate log in as deploy; ask the platform team"},
		{"silent", listening(t, nil, silence), "the target silent did not finish the login within 15s; ask the platform team"},
		{"other", real.Address, "the target other does not prove itself by the host key in the policy, so nothing was opened; ask the platform team"},
		{"dying", listening(t, nil, dies(real.Address)), "the target closed the connection"},
	}
	targets, names := "", []string{}
	for _, c := range cases {
		key := other
		if c.name == "dying" {
			key = real.HostKey
		}
		targets += sshTarget(c.name, c.address, key, real.Account)
		names = append(names, c.name)
	}
	m.door(t, sessionCA)
	m.broken(t, "deploy", targets, names...)
	m.serve(t)
	config := m.sshConfig(t, m.login(t, "alice@example.com"), names...)
	before := m.memory(t)
	for _, c := range cases {
		shown, err := start(t, nil, "ssh", "-F", config, "-o", "BatchMode=yes", "deploy@"+c.name+"@localhost", "head -c 100000 /dev/zero | tr '\\0' x; echo inside").ends(t)
		if err == nil || !strings.Contains(shown, "sallyport: "+c.want) || strings.Contains(shown, "inside") || strings.Contains(shown, c.address) {
			t.Errorf("%s (%v), want %s:\n%s", c.name, err, c.want, strings.ReplaceAll(shown, "xx", ""))
		}
	}
	if grown := m.memory(t) - before; grown > 64 {
		t.Errorf("a gigabyte of greeting took %d MiB", grown)
	}
	m.over(t)
}
