package e2e

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

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
