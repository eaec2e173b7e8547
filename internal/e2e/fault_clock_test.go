package e2e

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/faulttest"
)

// The gate's wall clock is set back by an hour, and then forward by one, while people are
// at work: no grant lasts longer for it, and none comes back.
func TestClockThatJumps(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.release(t)
	clock := &faulttest.Clock{}
	m.launch = func(cmd *exec.Cmd) error { return clock.Start(t, cmd) }
	m.serve(t)
	const lasts, late = 8 * time.Second, 5 * time.Second
	for name, ahead := range map[string]time.Duration{"back": -time.Hour, "forward": time.Hour} {
		term, r := m.opened(t, lasts.String(), "-c", "SELECT 'before'", "-c", "SELECT pg_sleep(600)")
		approved := time.Now() // a moment ago
		term.says(t, "before")
		token := m.token(t)
		clock.Set(ahead)
		looked := clock.Read.Load()
		shown, err := term.ends(t)
		took := time.Since(approved)
		t.Logf("%s: the session ended %v after the yes", name, took)
		if err == nil || !strings.Contains(shown, cutText) || took > lasts+late {
			t.Errorf("%s: after %v (%v) it shows:\n%s", name, took, err, shown)
		}
		if clock.Read.Load() == looked {
			t.Errorf("%s: the gate does not look at this clock", name)
		}
		for _, set := range []time.Duration{ahead, 0} {
			clock.Set(set)
			shown, err := m.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'in' || 'side'").ends(t)
			if err == nil || !strings.Contains(shown, "its grant has ended") {
				t.Errorf("%s: with the clock at %v its token (%v) shows:\n%s", name, set, err, shown)
			}
		}
		if s := m.sessionOf(t, r); s.Cause != "expired" {
			t.Errorf("%s: the session's record is %+v", name, s)
		}
	}
	again, _ := m.opened(t, "20m", "-c", "SELECT 'served again'")
	if shown, err := again.ends(t); err != nil || !strings.Contains(shown, "served again") {
		t.Errorf("once the clock is right (%v) it shows:\n%s", err, shown)
	}
	m.saidNoTrace(t)
	if err := m.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	m.verifies(t)
}

// The same for ssh and a websocket.
func TestClockThatJumpsUnderSSHAndWeb(t *testing.T) {
	t.Parallel()
	clock := &faulttest.Clock{}
	d := demoBy(t, func(cmd *exec.Cmd) error { return clock.Start(t, cmd) }, freshDir(t))
	d.knownHosts = filepath.Join(d.Dir, "known_hosts")
	const lasts, late = 12 * time.Second, 5 * time.Second
	for name, ahead := range map[string]time.Duration{"back": -time.Hour, "forward": time.Hour} {
		w := &atWork{d: d, alice: d.browser(t, "alice@example.com")}
		approved := time.Now() // before the first yes
		shell, web := d.grantedFor(t, "web-1", "deploy", lasts.String()), d.grantedFor(t, "app", "user", lasts.String())
		granted := time.Now()
		w.shell, w.clock = d.sshByToken(t, shell, "echo before; sleep 600"), w.alice.clock(t, web)
		w.shell.says(t, "before")
		clock.Set(ahead)
		w.cut(t, "your access to web-1 ended at", "your access to app ended at")
		if took := time.Since(approved); time.Since(granted) < lasts-2*time.Second || took > lasts+late {
			t.Errorf("%s: cut %v after the yes", name, took)
		}
		for _, set := range []time.Duration{ahead, 0} {
			clock.Set(set)
			status, text := w.alice.byToken(t, web)
			first := status == http.StatusForbidden && strings.Contains(text, "Your access to app ended at")
			if !first && (status != http.StatusUnauthorized || !strings.Contains(text, "its grant has ended")) {
				t.Errorf("%s: with the clock at %v the token for the application: %d %s", name, set, status, text)
			}
		}
		// Not before: to ssh, whose clock is right, the gate's certificate is of the future.
		if shown, err := d.sshByToken(t, shell, "echo in''side").ends(t); err == nil || !strings.Contains(shown, "its grant has ended") {
			t.Errorf("%s: its token for ssh (%v) shows:\n%s", name, err, shown)
		}
	}
	d.saidNoTrace(t)
	d.verifies(t)
}

// byToken asks for the application's page by a token.
func (b *browser) byToken(t *testing.T, token string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.d.App+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := b.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(raw)
}
