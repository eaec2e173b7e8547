package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/faulttest"
)

// farTarget is a gate that reaches its PostgreSQL over a network with faults.
func farTarget(t *testing.T) (*machine, *faulttest.Path) {
	t.Helper()
	m := newMachine(t)
	m.alone(t)
	way := faulttest.Start(t).Path(t, fmt.Sprintf("127.0.0.1:%d", m.pg.Port))
	_, port, err := net.SplitHostPort(way.Address)
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, "policy/policy/targets.hcl", target("orders", "localhost:"+port, "db-ca.crt", "orders-reader"))
	m.release(t)
	m.serve(t)
	return m, way
}

// gone waits until nobody is at the target.
func (m *machine) gone(t *testing.T) {
	t.Helper()
	eventually(t, "the backends to be gone", func() bool {
		return m.pg.Query(t, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")[0][0] == "0"
	})
}

// A target behind a network that is slow, silent, gone and broken: sessions live on or are
// ended with words, new ones get one sentence, and when it is back the gate serves again.
func TestFaultsBetweenGateAndTarget(t *testing.T) {
	t.Parallel()
	m, way := farTarget(t)
	way.Add(t, faulttest.Slow, faulttest.Sliced)
	term, _ := m.opened(t, "20m", "-c", "SELECT 'rows: ' || count(*) FROM generate_series(1, 500)", "-c", "SELECT pg_sleep(600)")
	term.says(t, "rows: 500")
	way.Remove(t, faulttest.Slow)
	way.Remove(t, faulttest.Sliced)
	token := m.token(t)
	again := func(args ...string) *terminal {
		return m.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, args...)
	}
	sam := m.signedIn(t, "sam@example.com")

	// Silent. Who ends the session learns, with an alarm, that the backend was not seen to end.
	way.Add(t, faulttest.Silent)
	took := stopwatch()
	id := sam.live(t, 1)[0].ID
	killed := make(chan string, 1)
	go func() {
		defer close(killed)
		status, text := sam.api(t, http.MethodPost, "/api/v1/sessions/"+id+"/kill", map[string]string{"why": "fault"})
		killed <- fmt.Sprint(status, " ", text)
	}()
	if shown, err := term.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: this session was ended by sam@example.com") || took() > 5*time.Second {
		t.Errorf("after %v (%v) it shows:\n%s", took(), err, shown)
	}
	if answer := <-killed; !strings.HasPrefix(answer, "200 ") {
		t.Errorf("kill: %s", answer)
	}
	if shown, err := again("-c", "SELECT 1").ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: the target orders ") {
		t.Errorf("a new session at a silent target (%v) shows:\n%s", err, shown)
	}
	way.Remove(t, faulttest.Silent)

	// Gone.
	way.Close(t)
	if shown, err := again("-c", "SELECT 1").ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: the target orders cannot be reached now") {
		t.Errorf("a new session at a target that is gone (%v) shows:\n%s", err, shown)
	}
	way.Open(t)

	// Broken in the middle of rows.
	rows := again("-c", "COPY (SELECT repeat('x', 100) || generate_series(1, 1000000000)) TO STDOUT", "-o", "/dev/null")
	sam.live(t, 1)
	eventually(t, "the rows to come", func() bool {
		return len(m.pg.Query(t, "SELECT pid FROM pg_stat_activity WHERE usename = 'reader' AND state = 'active' AND query LIKE 'COPY%'")) == 1
	})
	way.Add(t, faulttest.Broken)
	if shown, err := rows.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: the connection to the target broke; connect again") {
		t.Errorf("broken in the middle of rows (%v) it shows:\n%s", err, tail(shown, 5))
	}
	sam.live(t, 0)
	way.Remove(t, faulttest.Broken)

	if shown, err := again("-c", "SELECT 'served again'").ends(t); err != nil || !strings.Contains(shown, "served again") {
		t.Errorf("when it is back (%v) it shows:\n%s", err, shown)
	}
	m.gone(t)
	m.saidNoTrace(t)
	m.verifies(t)
}
