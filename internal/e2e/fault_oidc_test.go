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

const tokenEndpoint = "/oauth/token" // where the gate trades a code for tokens

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
	const away = "The identity provider does not answer; try again, or tell who runs the gate."
	const puzzled = "The identity provider did not complete the sign-in; tell who runs the gate."
	for _, fault := range []struct {
		name   string
		answer http.HandlerFunc
		shown  string
		log    string
	}{
		{"silent", faulttest.Never, away, "no answer in time"},
		{"garbage", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\x00\xff{{{ not JSON") }, puzzled, "its answer was not understood"},
		{"a page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>maintenance") }, puzzled, "its answer was not understood"},
		{"a gigabyte", faulttest.Endless, puzzled, "its answer was not understood"},
		{"an error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "later", http.StatusServiceUnavailable) }, away, "503"},
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
	m.idp.SetClock(0)
	m.signedIn(t, "alice@example.com")
}
