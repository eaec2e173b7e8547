package postgres

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/pgtest"
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

// BenchmarkIdleSession reports the resident memory of one idle session, TLS on both
// sides.
func BenchmarkIdleSession(b *testing.B) {
	const sessions = 200
	r := newRig(b, rigOptions{})
	alice := r.person(b, gatetest.Alice)
	for b.Loop() {
		before := resident(b)
		done := make(chan struct{})
		go func() {
			defer close(done)
			pgbench(b, r.dsn(&alice, "user=writer dbname=orders"), "select 1;\n\\sleep 6 s\n", "-c", strconv.Itoa(sessions), "-j", "1", "-t", "1")
		}()
		eventually(b, func() bool {
			return strings.Contains(r.pg.Query(b, "select count(*) from pg_stat_activity where usename = 'writer' and state = 'idle' and query = 'select 1;'")[0][0], strconv.Itoa(sessions))
		},
			func() string { return "the sessions do not stand" })
		b.ReportMetric(float64(resident(b)-before)/sessions/1024, "KiB/session")
		<-done
	}
}

// resident is this process's resident memory in bytes, after a collection.
func resident(b *testing.B) int64 {
	b.Helper()
	runtime.GC()
	<-time.After(200 * time.Millisecond)
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
