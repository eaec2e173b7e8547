package postgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/session"
)

var tpsOf = regexp.MustCompile(`tps = ([\d.]+)`)

// pgbench runs a script and returns its transactions per second.
func pgbench(b *testing.B, dsn, script string, args ...string) float64 {
	b.Helper()
	bin, err := pgtest.Bin()
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		b.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(bin, "pgbench"), append([]string{"-n", "-f", file}, append(args, dsn)...)...).CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	found := tpsOf.FindSubmatch(out)
	if found == nil {
		b.Fatalf("%s", out)
	}
	tps, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return tps
}

// BenchmarkAgainstDirect runs pgbench through the gate and directly, by turns, over
// TLS, and reports the ratio: 1 is as fast as without a gate.
func BenchmarkAgainstDirect(b *testing.B) {
	r := newRig(b, rigOptions{})
	alice := r.person(b, gatetest.Alice)
	gate := r.dsn(&alice, "user=writer dbname=orders")
	direct := fmt.Sprintf("host=%s port=%d user=writer dbname=orders sslmode=require password='%s'", r.pg.Host, r.pg.Port, pgtest.Password)
	const script = "\\set id random(1, 1000)\nselect name from customers where id = :id;\n"
	for _, mode := range []string{"simple", "prepared"} {
		for _, clients := range []string{"1", "8"} {
			b.Run(mode+"/c"+clients, func(b *testing.B) {
				args := []string{"-M", mode, "-c", clients, "-j", "1", "-t", "2000"}
				var with, without float64
				for b.Loop() {
					without += pgbench(b, direct, script, args...)
					with += pgbench(b, gate, script, args...)
				}
				b.ReportMetric(with/without, "ratio")
				b.ReportMetric(with/float64(b.N), "tps")
			})
		}
	}
	b.Run("connections", func(b *testing.B) {
		var with, without float64
		for b.Loop() {
			without += pgbench(b, direct, "select 1;", "-C", "-c", "4", "-j", "1", "-t", "50")
			with += pgbench(b, gate, "select 1;", "-C", "-c", "4", "-j", "1", "-t", "50")
		}
		b.ReportMetric(with/without, "ratio")
	})
}

// BenchmarkYesToFirstByte reports how long it takes from an approver's yes until the
// target of a held connection sees its first byte: the entry is on disk before it.
func BenchmarkYesToFirstByte(b *testing.B) {
	var took []time.Duration
	for b.Loop() {
		target, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		first := make(chan time.Time, 1)
		go func() {
			conn, err := target.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			first <- time.Now()
			_ = conn.Close()
		}()
		r := newRig(b, rigOptions{address: target.Addr().String()})
		alice, bob := r.person(b, gatetest.Alice), r.SignIn(b, gatetest.Bob)
		config, err := pgconn.ParseConfig(r.dsn(&alice, "user=reader dbname=orders options='-c sallyport.reason=bench'"))
		if err != nil {
			b.Fatal(err)
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			_, _ = pgconn.ConnectConfig(context.Background(), config) // the target does not answer
		}()
		request := r.inbox(b, bob)
		yes := time.Now()
		if _, err := r.Decide(b.Context(), bob, request.ID, session.Verdict{Yes: true}); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-first).Sub(yes))
		<-over
		_ = target.Close()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "last-ms")
}

// BenchmarkIdleSession reports the heap and stack of one idle session, TLS on both
// sides.
func BenchmarkIdleSession(b *testing.B) {
	const sessions = 100
	r := newRig(b, rigOptions{})
	alice := r.person(b, gatetest.Alice)
	for b.Loop() {
		before := resident(b)
		done := make(chan struct{})
		go func() {
			defer close(done)
			pgbench(b, r.dsn(&alice, "user=writer dbname=orders"), "select 1;\n\\sleep 10 s\n", "-c", strconv.Itoa(sessions), "-j", "1", "-t", "1")
		}()
		const idle = "select from pg_stat_activity where usename = 'writer' and state = 'idle' and query = 'select 1;'"
		for tick := time.Tick(100 * time.Millisecond); len(r.pg.Query(b, idle)) < sessions; {
			select {
			case <-done:
				b.Fatal("the sessions ended before they all stood")
			case <-tick:
			}
		}
		b.ReportMetric(float64(resident(b)-before)/sessions/1024, "KiB/session")
		<-done
	}
}

// resident is what this process's heap and stacks take, in bytes, after collections.
// The resident set of so few sessions would show the collector's own moods.
func resident(b *testing.B) int64 {
	b.Helper()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
