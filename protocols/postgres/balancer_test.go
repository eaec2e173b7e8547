package postgres

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// balancer stands between the gate and PostgreSQL, as load balancers and poolers do. It
// can lose its connections: nothing passes on them any more, their backends hear
// nothing of that, and the gate is answered by the end of the stream.
type balancer struct {
	l    net.Listener
	shut atomic.Bool // nothing new passes
	busy sync.WaitGroup
	mu   sync.Mutex
	all  []*balanced
}

type balanced struct {
	front, back *net.TCPConn
	lost        atomic.Bool
}

func newBalancer(t *testing.T, pg *pgtest.Server) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{l: l}
	b.busy.Go(func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			if b.shut.Load() {
				_ = front.Close()
				continue
			}
			back, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: pg.Port})
			if err != nil {
				_ = front.Close()
				continue
			}
			c := &balanced{front: front.(*net.TCPConn), back: back} //nolint:forcetypeassert // of a TCP listener
			b.mu.Lock()
			b.all = append(b.all, c)
			b.mu.Unlock()
			b.busy.Go(func() { c.pass(c.back, c.front); _ = c.front.CloseWrite() })
			b.busy.Go(func() {
				if c.pass(c.front, c.back); c.lost.Load() {
					_ = c.front.CloseWrite()
				} else {
					_ = c.back.CloseWrite()
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.mu.Lock()
		for _, c := range b.all {
			_, _ = c.front.Close(), c.back.Close()
		}
		b.mu.Unlock()
		b.busy.Wait()
	})
	return b
}

// pass copies until the end; what comes after the connection was lost is thrown away.
func (c *balanced) pass(from io.Reader, to io.Writer) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if n > 0 && !c.lost.Load() {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// lose loses every connection of now, and ends its stream at once if told so.
func (b *balancer) lose(ends bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.all {
		if c.lost.Store(true); ends {
			_ = c.front.CloseWrite()
		}
	}
}

// endless catches the cancel, and writes nothing.
const endless = `do $$ begin loop begin perform pg_sleep(1); exception when query_canceled then null; end; end loop; end $$`

// Class: live connections outlive the grant. The end of a connection is not the end of a
// backend that was at work: it catches the cancel, and would go on unseen.
func TestBackendBehindALostConnectionIsEnded(t *testing.T) {
	pg := pgtest.Start(t)
	for _, target := range []struct{ name, how, role string }{{"orders", "tls", "writer"}, {"loopback", "plain", "loose"}} {
		for _, cut := range []bool{false, true} {
			t.Run(target.how+map[bool]string{false: " lost", true: " lost, then cut"}[cut], func(t *testing.T) {
				b := newBalancer(t, pg)
				r := newRig(t, rigOptions{pg: pg, address: b.l.Addr().String()})
				alice, sam := r.person(t, gatetest.Alice), r.SignIn(t, gatetest.Sam)
				p := r.psql(t, r.dsn(&alice, "user="+target.role+" dbname="+target.name))
				p.sql(t, endless+";")
				eventually(t, func() bool { return r.backends(t, target.role, "and wait_event = 'PgSleep'") == 1 }, func() string { return "the loop does not run\n" + p.out.String() })
				before := strings.Count(pg.Log(), "terminating connection due to administrator command")
				b.lose(!cut)
				if cut {
					if err := r.Kill(t.Context(), sam, r.live(t, alice.signIn).ID, "enough"); err != nil {
						t.Fatal(err)
					}
				}
				record := r.ended(t, alice.signIn)
				if n := r.backends(t, target.role, "and query like 'do %'"); n != 0 { // the gate's second connection may still be leaving
					t.Errorf("%d backends work on after the session's end: %+v", n, record)
				}
				if after := strings.Count(pg.Log(), "terminating connection due to administrator command"); after != before+1 {
					t.Errorf("%d backends were terminated", after-before)
				}
				if r.Count(t, audit.SessionAlarm) != 0 {
					t.Error("an alarm, though the backend is gone")
				}
			})
		}
	}
}

// Class: live connections outlive the grant. Where the gate cannot reach the target at the
// end somebody has to know, and the backend stops when it sees that nobody is there.
func TestBackendThatCannotBeReachedStopsByItself(t *testing.T) {
	pg := pgtest.Start(t)
	b := newBalancer(t, pg)
	r := newRig(t, rigOptions{pg: pg, address: b.l.Addr().String()})
	alice, sam := r.person(t, gatetest.Alice), r.SignIn(t, gatetest.Sam)
	p := r.psql(t, r.dsn(&alice, "user=writer dbname=orders"))
	p.sql(t, endless+";")
	eventually(t, func() bool { return r.backends(t, "writer", "and wait_event = 'PgSleep'") == 1 }, func() string { return "the loop does not run\n" + p.out.String() })
	b.shut.Store(true)
	b.lose(false)
	if err := r.Kill(t.Context(), sam, r.live(t, alice.signIn).ID, "enough"); err != nil {
		t.Fatal(err)
	}
	if n := r.Count(t, audit.SessionAlarm); n != 1 {
		t.Errorf("%d alarms", n)
	}
	b.mu.Lock()
	for _, c := range b.all {
		_ = c.back.Close()
	}
	b.mu.Unlock()
	eventually(t, func() bool { return r.backends(t, "writer", "") == 0 }, func() string { return "the backend works on" })
}
