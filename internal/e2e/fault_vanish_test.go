package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/faulttest"
	"github.com/sallyport/sallyport/session"
)

// noticed is how long a client that has vanished may seem to be there: 35 s of silence,
// 5 s until the next look, and what a busy machine takes.
const noticed = 60 * time.Second

// Clients whose network goes down, without a last packet: held, idle at a prompt, in the
// middle of rows, and one whose yes comes when it has gone. All are noticed by the
// silence, recorded, and nothing of them stays at the target.
func TestClientsThatVanish(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.alone(t)
	away := faulttest.NewNamespace(t)
	_, port, _ := strings.Cut(m.Postgres, ":")
	m.edit(t, m.config, `"127.0.0.1:`+port+`"`, `"0.0.0.0:`+port+`"`)
	m.release(t)
	m.serve(t)
	home := m.login(t, "alice@example.com")
	psql := func(reason string, args ...string) *terminal {
		line := away.Inside(append([]string{"psql", "-X", "-A", "-t", m.conninfo(t, "reader") + " hostaddr=" + away.Gate}, args...)...)
		env := []string{"PGSSLCERT=" + filepath.Join(home, "client.crt"), "PGSSLKEY=" + filepath.Join(home, "client.key"), "PGOPTIONS=-c sallyport.reason=" + reason}
		return start(t, env, line[0], line[1:]...)
	}
	bob, sam := m.signedIn(t, "bob@example.com"), m.signedIn(t, "sam@example.com")
	requests := map[string]session.Request{}
	for _, reason := range []string{"held", "late", "live"} {
		term := psql(reason)
		term.says(t, "waiting for 1 of")
		for _, r := range list[session.Request](t, bob, "requests", "?state=pending") {
			requests[r.Input.Reason] = r
		}
		if reason == "live" {
			m.yes(t, bob, requests[reason])
			term.says(t, "approved by bob@example.com")
			term.types(t, "SELECT 'at the ' || 'prompt';")
			term.says(t, "at the prompt")
		}
	}
	psql("live", "-c", "COPY (SELECT repeat('x', 1000) || generate_series(1, 1000000000)) TO STDOUT", "-o", "/dev/null")
	sam.live(t, 2)
	eventually(t, "both to be at work", func() bool { return m.atWork(t) == 2 })

	took := stopwatch()
	away.Vanish(t)
	m.yes(t, bob, requests["late"])
	sam.live(t, 3)
	for deadline := time.Now().Add(noticed); ; <-time.After(200 * time.Millisecond) {
		live := list[session.Record](t, sam, "sessions", "?state=live")
		pending := list[session.Request](t, bob, "requests", "?state=pending")
		if len(live) == 0 && len(pending) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v there are still the sessions %+v and the requests %+v", took(), live, pending)
		}
	}
	eventually(t, "nothing to be left at the target", func() bool { return m.atWork(t) == 0 })
	withdrawn := list[session.Request](t, bob, "requests", "?state=withdrawn")
	if !slices.ContainsFunc(withdrawn, func(r session.Request) bool { return r.ID == requests["held"].ID }) {
		t.Errorf("the request that was held is not withdrawn: %+v", withdrawn)
	}
	ended := list[session.Record](t, sam, "sessions", "?state=ended")
	if len(ended) != 3 || slices.ContainsFunc(ended, func(s session.Record) bool { return s.Cause != "closed" }) {
		t.Errorf("the sessions' record is %+v", ended)
	}
	if err := m.connect(t, home, "orders", "reader"); err != nil {
		t.Errorf("whoever is there: %v", err)
	}
	m.saidNoTrace(t)
	m.verifies(t)
}

func (m *machine) yes(t *testing.T, by *browser, r session.Request) {
	t.Helper()
	if status, text := by.api(t, http.MethodPost, "/api/v1/requests/"+r.ID+"/approve", nil); status != http.StatusOK {
		t.Fatalf("approve %s: %d %s", r.Input.Reason, status, text)
	}
}

// atWork counts what the database has of clients.
func (m *machine) atWork(t *testing.T) int {
	t.Helper()
	return len(m.pg.Query(t, "SELECT pid FROM pg_stat_activity WHERE usename = 'reader'"))
}

// A target whose network goes down, without a last packet: while a statement runs, while
// rows come, and while rows go to it. The silence is noticed, each client is told, and
// when it is back the gate serves again.
func TestTargetThatVanishes(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.alone(t)
	away := faulttest.NewNamespace(t)
	door := away.Listen(t)
	passOn(t, door, fmt.Sprintf("127.0.0.1:%d", m.pg.Port))
	m.write(t, "policy/policy/targets.hcl", strings.Replace(target("orders", door.Addr().String(), "db-ca.crt", "orders-reader"),
		"  tls {\n", "  tls {\n    server_name = \"localhost\"\n", 1))
	m.release(t)
	m.serve(t)
	waits, _ := m.opened(t, "20m", "-c", "SELECT 'be' || 'gun'", "-c", "SELECT pg_sleep(600)")
	waits.says(t, "begun")
	token := m.token(t)
	again := func(args ...string) *terminal {
		return m.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, args...)
	}
	comes := again("-c", "COPY (SELECT repeat('x', 1000) || generate_series(1, 1000000000)) TO STDOUT", "-o", "/dev/null")
	goes := again("-c", "CREATE TEMP TABLE t (x text)", "-c", "COPY t FROM STDIN")
	feeding := make(chan struct{})
	go func() {
		defer close(feeding)
		for line := []byte(strings.Repeat("y", 1000) + "\n"); ; {
			if _, err := goes.in.Write(line); err != nil {
				return // psql has gone
			}
		}
	}()
	sam := m.signedIn(t, "sam@example.com")
	sam.live(t, 3)
	eventually(t, "all three to be at work", func() bool {
		return len(m.pg.Query(t, "SELECT pid FROM pg_stat_activity WHERE usename = 'reader' AND state = 'active' AND query ~ 'COPY|pg_sleep'")) == 3
	})

	took := stopwatch()
	away.Vanish(t)
	for what, term := range map[string]*terminal{"waits": waits, "comes": comes, "goes": goes} {
		select {
		case <-term.ended:
		case <-time.After(noticed - took()):
		}
		shown, err := term.ends(t)
		told := strings.Contains(shown, "FATAL:  sallyport: the connection to the target broke; connect again")
		if err == nil || !told || took() > noticed {
			t.Errorf("%s: after %v (%v) it shows:\n%s", what, took(), err, tail(shown, 5))
		}
	}
	<-feeding
	if shown, err := again("-c", "SELECT 1").ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: the target orders cannot be reached now; ask the platform team") {
		t.Errorf("meanwhile a new session (%v) shows:\n%s", err, shown)
	}
	sam.live(t, 0)
	ended := list[session.Record](t, sam, "sessions", "?state=ended")
	if len(ended) != 4 || slices.ContainsFunc(ended, func(s session.Record) bool { return s.Cause != "error" }) {
		t.Errorf("the sessions' record is %+v", ended)
	}
	if n := strings.Count(m.log.String(), `msg="session alarm"`); n != 3 {
		t.Errorf("%d alarms of backends that were not seen to end, not 3", n)
	}
	away.Return(t)
	if shown, err := again("-c", "SELECT 'served again'").ends(t); err != nil || !strings.Contains(shown, "served again") {
		t.Errorf("when it is back (%v) it shows:\n%s", err, shown)
	}
	m.saidNoTrace(t)
	m.verifies(t)
}

// passOn connects whoever comes to an address of this machine's own network.
func passOn(t *testing.T, from net.Listener, to string) {
	t.Helper()
	var busy sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	busy.Go(func() {
		for {
			one, err := from.Accept()
			if err != nil {
				return
			}
			other, err := net.Dial("tcp", to)
			if err != nil {
				_ = one.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, one, other)
			mu.Unlock()
			for _, way := range [][2]net.Conn{{one, other}, {other, one}} {
				busy.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = from.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		busy.Wait()
	})
}
