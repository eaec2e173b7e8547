package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/internal/faulttest"
	"github.com/sallyport/sallyport/session"
)

// through is the demo as it is reached over a network with faults.
func (d *demo) through(t *testing.T, network *faulttest.Network) (*demo, *faulttest.Path) {
	t.Helper()
	host, port, err := net.SplitHostPort(d.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	way := network.Path(t, net.JoinHostPort("127.0.0.1", port))
	if _, port, err = net.SplitHostPort(way.Address); err != nil {
		t.Fatal(err)
	}
	far := *d
	far.Postgres = net.JoinHostPort(host, port)
	return &far, way
}

// A slow network makes everything late, and nothing wrong: held, approved, rows, and the
// end of the grant in words, at 300 ms each way, 1 Mbit/s and single bytes.
func TestSlowNetwork(t *testing.T) {
	d := sharedDemo(t)
	far, way := d.through(t, faulttest.Start(t))
	way.Add(t, faulttest.Slow, faulttest.Narrow, faulttest.Sliced)
	term, _ := far.opened(t, "15s", "-c", "SELECT 'rows: ' || count(*) FROM orders", "-c", "SELECT pg_sleep(600)")
	term.says(t, "rows: 500")
	if shown, err := term.ends(t); err == nil || !strings.Contains(shown, cutText) {
		t.Errorf("(%v) it shows:\n%s", err, shown)
	}
	eventually(t, "the backend to be gone", func() bool { return d.backends(t, "reader") == 0 })
	d.verifies(t)
}

// A client whose network went silent, without a word, cannot be told; it loses its session
// all the same, at once.
func TestRevokeOfAClientThatCannotBeReached(t *testing.T) {
	d := sharedDemo(t)
	far, way := d.through(t, faulttest.Start(t))
	term, _ := far.opened(t, "5m", "-c", "SELECT 'here'", "-c", "SELECT pg_sleep(600)")
	term.says(t, "here")
	sam := d.signedIn(t, "sam@example.com")
	sam.live(t, 1)
	way.Add(t, faulttest.Silent)
	took := stopwatch()
	if status, text := sam.api(t, http.MethodPost, "/api/v1/grants/"+d.activeGrant(t).ID+"/revoke", map[string]string{"why": "lost"}); status != http.StatusOK {
		t.Fatalf("revoke: %d %s", status, text)
	}
	sam.live(t, 0)
	eventually(t, "the backend to be gone", func() bool { return d.backends(t, "reader") == 0 })
	if took() > 10*time.Second {
		t.Errorf("a silent client kept its session for %v", took())
	}
	d.verifies(t)
}

// A connection that breaks while it waits withdraws its request; one that is reset while
// rows stream ends its session, and nothing of it stays at the target.
func TestBrokenConnections(t *testing.T) {
	d := sharedDemo(t)
	far, way := d.through(t, faulttest.Start(t))
	held := far.psql(t, "reader", nil, "-c", "SELECT 1")
	link, phrase := held.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	bob := d.signedIn(t, "bob@example.com")
	r := bob.pending(t, "alice@example.com")
	way.Close(t)
	eventually(t, "the request to be withdrawn", func() bool {
		return slices.ContainsFunc(list[session.Request](t, bob, "requests", "?state=withdrawn"), func(other session.Request) bool { return other.ID == r.ID })
	})
	way.Open(t)
	far.opened(t, "5m", "-c", "COPY (SELECT repeat('x', 100) || generate_series(1, 1000000000)) TO STDOUT", "-o", "/dev/null")
	sam := d.signedIn(t, "sam@example.com")
	sam.live(t, 1)
	token := d.token(t)
	way.Add(t, faulttest.Broken)
	sam.live(t, 0)
	eventually(t, "the backend to be gone", func() bool { return d.backends(t, "reader") == 0 })
	way.Remove(t, faulttest.Broken)
	if shown, err := far.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'served again'").ends(t); err != nil || !strings.Contains(shown, "served again") {
		t.Errorf("over a network that is whole again (%v) it shows:\n%s", err, shown)
	}
	d.verifies(t)
}

// ways are networks between ssh and browsers and the gate.
type ways []*faulttest.Path

func (w ways) add(t *testing.T, faults ...faulttest.Fault) {
	t.Helper()
	for _, one := range w {
		one.Add(t, faults...)
	}
}

func (w ways) remove(t *testing.T, faults ...faulttest.Fault) {
	t.Helper()
	for _, one := range w {
		for _, f := range faults {
			one.Remove(t, f)
		}
	}
}

// afar is the demo as ssh and browsers reach it over a network with faults.
func (d *demo) afar(t *testing.T) (*demo, ways) {
	t.Helper()
	network, far := faulttest.Start(t), *d
	host, port, err := net.SplitHostPort(d.SSH)
	if err != nil {
		t.Fatal(err)
	}
	shells := network.Path(t, net.JoinHostPort("127.0.0.1", port))
	_, farPort, err := net.SplitHostPort(shells.Address)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(d.Dir, "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	far.SSH, far.knownHosts = net.JoinHostPort(host, farPort), filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(far.knownHosts, []byte(strings.ReplaceAll(string(text), ":"+port, ":"+farPort)), 0o600); err != nil {
		t.Fatal(err)
	}
	web, err := url.Parse(d.App)
	if err != nil {
		t.Fatal(err)
	}
	pages := network.Path(t, net.JoinHostPort("127.0.0.1", web.Port()))
	far.detours = map[string]string{web.Port(): pages.Address}
	return &far, ways{shells, pages}
}

// clock listens to the application by a token.
func (b *browser) clock(t *testing.T, token string) *websocket.Conn {
	t.Helper()
	transport := b.http.Transport.(*http.Transport) //nolint:forcetypeassert // ours
	dialer := websocket.Dialer{TLSClientConfig: transport.TLSClientConfig, NetDialContext: transport.DialContext}
	conn, answer, err := dialer.DialContext(t.Context(), "wss"+strings.TrimPrefix(b.d.App, "https")+"/clock", http.Header{"Authorization": {"Bearer " + token}, "Origin": {b.d.App}})
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	t.Cleanup(func() { _ = conn.Close() })
	if _, _, err := conn.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	return conn
}

// sshByToken runs a command on web-1.
func (d *demo) sshByToken(t *testing.T, token, command string) *terminal {
	t.Helper()
	host, port, err := net.SplitHostPort(d.SSH)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"SSH_ASKPASS_REQUIRE=force", "DISPLAY=none", "SSH_ASKPASS=" + script(t, "echo "+token)}
	return start(t, env, "ssh", "-F", "/dev/null", "-p", port, "-o", "UserKnownHostsFile="+d.knownHosts, "-o", "StrictHostKeyChecking=yes", "-o", "PubkeyAuthentication=no", "deploy+token@web-1@"+host, command)
}

// The same faults between ssh or a browser with a websocket and the gate: slow, both end at
// their grants' end in words; reset, and silent until a revoke, nothing of them stays; and
// over a network that is whole again they are served.
func TestSSHAndWebOverFaultyNetworks(t *testing.T) {
	t.Parallel()
	d := ownDemo(t)
	far, all := d.afar(t)
	sam := d.signedIn(t, "sam@example.com")

	slow := []faulttest.Fault{faulttest.Slow, faulttest.Narrow, faulttest.Sliced}
	all.add(t, slow...)
	w := &atWork{d: far, alice: far.browser(t, "alice@example.com")}
	w.shell, _ = far.sshOpened(t, "15s", "-T", "echo before; sleep 600")
	w.shell.says(t, "before")
	token := d.grantedFor(t, "app", "user", "15s")
	w.clock = w.alice.clock(t, token)
	w.cut(t, "your access to web-1 ended at", "your access to app ended at")
	all.remove(t, slow...)

	tick := fmt.Sprintf("tick-%d", os.Getpid()) // of this run's program at the target
	shell, web := d.grantedFor(t, "web-1", "deploy", "15m"), d.grantedFor(t, "app", "user", "15m")
	begin := func() {
		t.Helper()
		w.shell = far.sshByToken(t, shell, "echo before; while echo "+tick+"; do sleep 0.1; done")
		w.shell.says(t, "before")
		w.clock = w.alice.clock(t, web)
	}
	over := func(target string) {
		t.Helper()
		eventually(t, "the session at "+target+" to end", func() bool {
			return !slices.ContainsFunc(list[session.Record](t, sam, "sessions", "?state=live"), func(s session.Record) bool { return s.Key.Target == target })
		})
	}
	hungUp := func() bool { return exec.Command("pgrep", "-f", "^[a-z/]*sh -c .*while echo "+tick+";").Run() != nil }
	begin()
	all.add(t, faulttest.Broken)
	over("web-1") // a session of HTTP outlives a connection
	eventually(t, "the program at the target to be gone", hungUp)
	for err := error(nil); err == nil; _, _, err = w.clock.ReadMessage() {
	}
	if shown, err := w.shell.ends(t); err == nil {
		t.Errorf("reset, ssh ends well:\n%s", shown)
	}
	all.remove(t, faulttest.Broken)

	begin()
	all.add(t, faulttest.Silent)
	took := stopwatch()
	d.endGrants(t)
	over("web-1")
	over("app")
	eventually(t, "the program at the target to be gone", hungUp)
	if took() > 10*time.Second {
		t.Errorf("silent clients kept their sessions for %v", took())
	}
	all.remove(t, faulttest.Silent)

	shell = d.grantedFor(t, "web-1", "deploy", "14m")
	if shown, err := far.sshByToken(t, shell, "echo served again").ends(t); err != nil || !strings.Contains(shown, "served again") {
		t.Errorf("over a network that is whole again (%v) it shows:\n%s", err, shown)
	}
	d.saidNoTrace(t)
	d.verifies(t)
}

// An approver's browser loses its connection with a yes under way: on the way to the gate
// the yes counts for nothing, and on the way back it counts once, however often it is said
// again.
func TestApproverOverAFaultyNetwork(t *testing.T) {
	t.Parallel()
	d := ownDemo(t)
	far, all := d.afar(t)
	pages := all[1]
	bob := far.browser(t, "bob@example.com")
	bob.open(t, d.Web+"/login")
	for lost, fault := range map[string]struct {
		begin, end func(testing.TB, faulttest.Fault)
		arrives    bool
	}{
		"on the way there": {func(t testing.TB, f faulttest.Fault) { pages.Add(t, f) }, pages.Remove, false},
		"on the way back":  {pages.AddBack, pages.RemoveBack, true},
	} {
		held := d.psql(t, "reader", nil, "-c", "SELECT 'in' || 'side'")
		link, phrase := held.link(t)
		d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
		r := bob.pending(t, "alice@example.com")
		fault.begin(t, faulttest.Silent)
		bob.http.Timeout = 5 * time.Second
		if err := bob.call(http.MethodPost, "/api/v1/requests/"+r.ID+"/approve", "{}", nil); err == nil {
			t.Errorf("lost %s: the yes has an answer", lost)
		}
		bob.http.Timeout = patience
		pages.Close(t)
		pages.Open(t)
		fault.end(t, faulttest.Silent)
		var now session.Request
		if err := bob.call(http.MethodGet, "/api/v1/requests/"+r.ID, "", &now); err != nil {
			t.Errorf("lost %s: %v", lost, err)
		}
		if fault.arrives != (now.State == session.RequestApproved) {
			t.Errorf("lost %s: the request is %s", lost, now.State)
		}
		if err := bob.call(http.MethodPost, "/api/v1/requests/"+r.ID+"/approve", "{}", nil); fault.arrives == (err == nil) {
			t.Errorf("lost %s: said again: %v", lost, err)
		}
		if shown, err := held.ends(t); err != nil || !strings.Contains(shown, "inside") {
			t.Errorf("lost %s: (%v) it shows:\n%s", lost, err, shown)
		}
		if err := bob.call(http.MethodGet, "/api/v1/requests/"+r.ID, "", &now); err != nil || len(now.Approvals) != 1 {
			t.Errorf("lost %s: the yes counts as %+v (%v)", lost, now.Approvals, err)
		}
		d.endGrants(t)
	}
	d.verifies(t)
}
