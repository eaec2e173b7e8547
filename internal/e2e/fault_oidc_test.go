package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/faulttest"
)

// before puts something between the gate and the provider.
func (m *machine) before(t *testing.T) *faulttest.Front {
	t.Helper()
	m.stopProvider(t)
	behind, err := strconv.Atoi(port(t))
	if err != nil {
		t.Fatal(err)
	}
	m.issuer.behind = behind
	m.startProvider(t, m.issuer.secret)
	to := &url.URL{Scheme: "https", Host: fmt.Sprintf("127.0.0.1:%d", behind)}
	return faulttest.NewFront(t, fmt.Sprintf("127.0.0.1:%d", m.issuer.port), m.issuer.certificate, to)
}

// memory is the most that the gate has had resident, in MiB.
func (d *demo) memory(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib >> 10
		}
	}
	t.Fatalf("no VmHWM in %s", text)
	return 0
}

const (
	tokenEndpoint = "/oauth/token" // where the gate trades a code for tokens
	keysEndpoint  = "/keys"
	discovery     = "/.well-known/openid-configuration"
)

const (
	away    = "The identity provider does not answer; try again, or tell who runs the gate."
	puzzled = "The identity provider did not complete the sign-in; tell who runs the gate."
)

func garbage(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "\x00\xff{{{ not JSON")
}

func later(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "later", http.StatusServiceUnavailable)
}

// An identity provider that is there and does not do its work: it never answers, answers
// what is no answer, a gigabyte of it, or an error; its keys change; its clock is wrong.
// Whoever signs in is told in a sentence, who is signed in goes on, and with a provider
// that works people sign in again.
func TestIdentityProviderThatMisbehaves(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	front := m.before(t)
	m.release(t)
	m.serve(t)
	sam := m.signedIn(t, "sam@example.com")
	before := m.memory(t)
	for _, fault := range []struct {
		name   string
		answer http.HandlerFunc
		shown  string
		log    string
	}{
		{"silent", faulttest.Never, away, "no answer in time"},
		{"garbage", garbage, puzzled, "its answer was not understood"},
		{"a page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>maintenance") }, puzzled, "its answer was not understood"},
		{"a gigabyte", faulttest.Endless, puzzled, "its answer was not understood"},
		{"an error", later, away, "503"},
	} {
		alice := m.browser(t, "alice@example.com")
		form := alice.get(t, "/login") // the provider's own page
		from := len(m.log.String())
		front.Answer(tokenEndpoint, fault.answer)
		if p := alice.fillLogin(t, form); p.status != http.StatusBadGateway || !strings.Contains(p.text, fault.shown) {
			t.Errorf("%s: %d %s", fault.name, p.status, p.text)
		}
		m.says(t, from, fault.log)
		if status, text := sam.api(t, http.MethodGet, "/api/v1/whoami", nil); status != http.StatusOK {
			t.Errorf("%s: who is signed in: %d %s", fault.name, status, text)
		}
		front.Pass()
		m.signedIn(t, "alice@example.com")
	}
	if grown := m.memory(t) - before; grown > 64 {
		t.Errorf("a gigabyte of an answer took %d MiB", grown)
	}
	m.keysAndClock(t)
	m.saidNoTrace(t)
	m.verifies(t)
}

// keysAndClock changes the provider's keys, and then its clock.
func (m *machine) keysAndClock(t *testing.T) {
	t.Helper()
	if err := m.idp.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	m.signedIn(t, "alice@example.com")
	for _, clock := range []struct {
		ahead time.Duration
		log   string
	}{
		{5 * time.Minute, "which is yet to come"},
		{-10 * time.Minute, "the token ended at"},
	} {
		m.idp.SetClock(clock.ahead)
		from := len(m.log.String())
		alice := m.browser(t, "alice@example.com")
		p := alice.fillLogin(t, alice.get(t, "/login"))
		if p.status != http.StatusForbidden || !strings.Contains(p.text, "The identity provider sent a token that is not right; tell who runs the gate.") {
			t.Errorf("%v ahead: %d %s", clock.ahead, p.status, p.text)
		}
		m.says(t, from, clock.log)
		m.says(t, from, "set the clocks of gate and provider")
	}
	m.idp.SetClock(-5 * time.Minute) // its tokens last as long, and a minute is given
	m.signedIn(t, "alice@example.com")
	m.idp.SetClock(0)
	m.signedIn(t, "alice@example.com")
}

// One document of the provider alone is wrong: its description of itself, from before the
// gate's start on, or its keys, once they are others; and one comes late. The gate asks
// again with the next sign-in.
func TestIdentityProviderWithOneDocumentWrong(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	front := m.before(t)
	m.release(t)
	tried := func(what string) {
		t.Helper()
		alice := m.browser(t, "alice@example.com")
		p := alice.get(t, "/login")
		if strings.HasPrefix(p.url.String(), m.Issuer) {
			p = alice.fillLogin(t, p)
		}
		if p.status != http.StatusBadGateway || !strings.Contains(p.text, away) {
			t.Errorf("%s: %d %s", what, p.status, p.text)
		}
	}
	front.Answer(discovery, garbage)
	m.serve(t)
	tried("a description that is garbage")
	m.says(t, 0, "it answered with something other than JSON")
	front.Answer(discovery, later)
	tried("no description")
	front.Late(discovery, 3*time.Second)
	eventually(t, "the gate to ask again", func() bool { // those who come within two seconds share an error
		return strings.HasPrefix(m.browser(t, "alice@example.com").get(t, "/login").url.String(), m.Issuer)
	})
	m.signedIn(t, "alice@example.com")

	for what, answer := range map[string]http.HandlerFunc{"keys that are garbage": garbage, "no keys": later} {
		if err := m.idp.RotateKeys(); err != nil {
			t.Fatal(err)
		}
		front.Answer(keysEndpoint, answer)
		tried(what)
		front.Pass()
		m.signedIn(t, "alice@example.com")
	}
	for _, path := range []string{keysEndpoint, tokenEndpoint} {
		if err := m.idp.RotateKeys(); err != nil {
			t.Fatal(err)
		}
		front.Late(path, 3*time.Second)
		took := stopwatch()
		m.signedIn(t, "alice@example.com")
		if took() < 3*time.Second {
			t.Errorf("%s was not asked", path)
		}
	}
	m.saidNoTrace(t)
	m.verifies(t)
}
