package e2e

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/faulttest"
	"github.com/sallyport/sallyport/internal/sshdtest"
	"github.com/sallyport/sallyport/session"
)

// farWeb is a web application at the end of the way: a page of 200 kB, which is endless
// while it is told so.
type farWeb struct {
	endless atomic.Bool
	written atomic.Int64 // bytes
}

func (f *farWeb) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	page := []byte(strings.Repeat("x", 200_000))
	for {
		n, err := w.Write(page)
		f.written.Add(int64(n))
		if err != nil || !f.endless.Load() {
			return
		}
	}
}

// killed ends the session at a target, once it is there.
func (b *browser) killed(t *testing.T, target string) {
	t.Helper()
	id := ""
	eventually(t, "the session at "+target, func() bool {
		for _, s := range list[session.Record](t, b, "sessions", "?state=live") {
			if s.Key.Target == target {
				id = s.ID
			}
		}
		return id != ""
	})
	if status, text := b.api(t, http.MethodPost, "/api/v1/sessions/"+id+"/kill", map[string]string{"why": "fault"}); status != http.StatusOK {
		t.Errorf("kill at %s: %d %s", target, status, text)
	}
}

// A web application and a machine behind a network that is slow, silent, gone and broken, as
// TestFaultsBetweenGateAndTarget has it for PostgreSQL.
func TestFaultsBeforeWebAndSSH(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	network := faulttest.Start(t)
	sessionCA := filepath.Join(t.TempDir(), "session-ca")
	sshd := sshdtest.Start(t, sshdtest.Key(t, sessionCA).PublicKey())
	app := &farWeb{}
	server := httptest.NewServer(app)
	t.Cleanup(server.Close)
	toWeb, toShell := network.Path(t, strings.TrimPrefix(server.URL, "http://")), network.Path(t, sshd.Address)
	m.door(t, sessionCA, "page.test")
	m.broken(t, "user", webTarget("page", toWeb.Address, `mode = "off"`)+
		strings.Replace(sshTarget("shell", toShell.Address, sshd.HostKey, sshd.Account), `role "deploy"`, `role "user"`, 1), "page", "shell")
	m.serve(t)
	alice, sam := m.signedIn(t, "alice@example.com"), m.signedIn(t, "sam@example.com")
	t.Run("both", func(t *testing.T) {
		t.Run("page", func(t *testing.T) {
			t.Parallel()
			m.farPage(t, alice, sam, app, toWeb)
		})
		t.Run("shell", func(t *testing.T) {
			t.Parallel()
			m.farShell(t, m.signedIn(t, "sam@example.com"), toShell)
		})
	})
	m.endGrants(t) // a session of HTTP outlives its connections
	sam.live(t, 0)
	m.over(t)
}

func (m *machine) farPage(t *testing.T, alice, sam *browser, app *farWeb, way *faulttest.Path) {
	token := alice.opened(t, "page", "user")
	way.Add(t, faulttest.Slow, faulttest.Narrow, faulttest.Sliced)
	took := stopwatch()
	if got, err := m.fetch(alice, "page", token); err != nil || got.length != 200_000 || took() < time.Second {
		t.Errorf("slow, after %v: %d, %d bytes (%v)", took(), got.status, got.length, err)
	}
	for _, f := range []faulttest.Fault{faulttest.Slow, faulttest.Narrow, faulttest.Sliced} {
		way.Remove(t, f)
	}
	way.Add(t, faulttest.Silent)
	answer := make(chan answered, 1)
	go func() {
		got, err := m.fetch(alice, "page", token)
		if err != nil {
			got.text = err.Error()
		}
		answer <- got
	}()
	sam.killed(t, "page")
	if got := <-answer; got.status != http.StatusForbidden || !strings.Contains(got.text, "ended by sam@example.com") {
		t.Errorf("killed while nothing passes: %d %s", got.status, got.text)
	}
	way.Remove(t, faulttest.Silent)
	token = alice.opened(t, "page", "user") // what was killed stays so
	app.endless.Store(true)
	app.written.Store(0)
	broken := make(chan error, 1)
	go func() {
		_, err := m.fetch(alice, "page", token)
		broken <- err
	}()
	eventually(t, "the answer to come", func() bool { return app.written.Load() > 10<<20 })
	way.Add(t, faulttest.Broken)
	if err := <-broken; err == nil {
		t.Error("a broken answer looks whole")
	}
	app.endless.Store(false)
	way.Remove(t, faulttest.Broken)

	way.Close(t)
	if got, err := m.fetch(alice, "page", token); err != nil || got.status != http.StatusBadGateway || !strings.Contains(got.text, "The target page cannot be reached now; ask the platform team") {
		t.Errorf("gone: %d %s (%v)", got.status, got.text, err)
	}
	way.Open(t)
	if got, err := m.fetch(alice, "page", token); err != nil || got.length != 200_000 {
		t.Errorf("back: %d, %d bytes (%v)", got.status, got.length, err)
	}
}

func (m *machine) farShell(t *testing.T, sam *browser, way *faulttest.Path) {
	home := m.login(t, "alice@example.com")
	config := m.sshConfig(t, home, "shell")
	ssh := func(command string) *terminal {
		return start(t, nil, "ssh", "-F", config, "-o", "BatchMode=yes", "user@shell@localhost", command)
	}
	way.Add(t, faulttest.Narrow, faulttest.Sliced)
	took := stopwatch()
	if shown, err := ssh("head -c 150000 /dev/zero | tr '\\0' x; echo whole").ends(t); err != nil || !strings.Contains(shown, "xxwhole") || strings.Count(shown, "x") < 150_000 || took() < time.Second {
		t.Errorf("slow, after %v (%v): %d bytes", took(), err, len(shown))
	}
	way.Remove(t, faulttest.Narrow)
	way.Remove(t, faulttest.Sliced)

	live := ssh("echo begun; sleep 600")
	live.says(t, "begun")
	way.Add(t, faulttest.Silent)
	took = stopwatch()
	sam.killed(t, "shell")
	if shown, err := live.ends(t); err == nil || !strings.Contains(shown, "sallyport: this session was ended by sam@example.com") || took() > 10*time.Second {
		t.Errorf("killed while nothing passes, after %v (%v):\n%s", took(), err, shown)
	}
	if shown, err := ssh("echo inside").ends(t); err == nil || !strings.Contains(shown, "sallyport: the target shell did not finish the login within 15s; ask the platform team") {
		t.Errorf("a new session while nothing passes (%v):\n%s", err, shown)
	}
	way.Remove(t, faulttest.Silent)

	streams := ssh("while sleep 0.1; do echo streams; done") // so slow that the client has taken it all when it is told
	streams.says(t, "streams")
	way.Add(t, faulttest.Broken)
	if shown, err := streams.ends(t); err == nil || !strings.Contains(shown, "sallyport: the target closed the connection") {
		t.Errorf("broken while it speaks (%v):\n%s", err, tail(shown, 3))
	}
	way.Remove(t, faulttest.Broken)

	way.Close(t)
	if shown, err := ssh("echo inside").ends(t); err == nil || !strings.Contains(shown, "sallyport: the target shell cannot be reached now; ask the platform team") {
		t.Errorf("gone (%v):\n%s", err, shown)
	}
	way.Open(t)
	if shown, err := ssh("echo served again").ends(t); err != nil || !strings.Contains(shown, "served again") {
		t.Errorf("back (%v):\n%s", err, shown)
	}
}
