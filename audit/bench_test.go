package audit

import (
	"fmt"
	"sync/atomic"
	"testing"
)

// BenchmarkAppend measures entries that are durable before the acknowledgement, with
// bodies, by so many writers at once.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			l := openLog(b, Config{Dir: newLogDir(b)})
			event := Event{
				Type: RefusalsCounted, Actor: "iss#alice", Session: "s1", Request: "r1", Grant: "g1",
				Policy: PolicyRef{Version: 7, Digest: "sha256:0123456789abcdef0123456789abcdef", Rule: "orders-read", At: "prod.hcl:3"}, Body: "512 bytes or so",
			}
			b.ResetTimer()
			b.SetParallelism(max(writers/2, 1))
			if writers == 1 {
				for range b.N {
					if _, err := l.Record(b.Context(), event); err != nil {
						b.Fatal(err)
					}
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := l.Record(b.Context(), event); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

// BenchmarkRecorder measures one statement's line, in the file when Write returns.
func BenchmarkRecorder(b *testing.B) {
	r := newRecorded(b, nil)
	rec := start(b, r, "s1")
	q := Query{Kind: "simple", SQL: "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;"}
	b.ReportAllocs()
	for n := range b.N {
		q.N = int64(n)
		if err := rec.Write(&q); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecorders measures 64 sessions, sealed and logged.
func BenchmarkRecorders(b *testing.B) {
	r := newRecorded(b, nil)
	q := Query{Kind: "simple", SQL: string(make([]byte, 0, 1000))}
	for range 1000 {
		q.SQL += "x"
	}
	b.SetParallelism(32)
	b.SetBytes(1060)
	var session atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		rec := start(b, r, fmt.Sprint("s", session.Add(1)))
		line := q
		for pb.Next() {
			if err := rec.Write(&line); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := rec.Seal(b.Context(), "closed"); err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkSession measures a recording from start to seal, with two lines.
func BenchmarkSession(b *testing.B) {
	r := newRecorded(b, nil)
	for n := range b.N {
		rec := start(b, r, fmt.Sprint("s", n))
		write(b, rec, Query{SQL: "select 1"}, QueryDone{Rows: 1})
		seal(b, rec, "closed")
	}
}

// BenchmarkVerify measures the check of a log, an entry at a time.
func BenchmarkVerify(b *testing.B) {
	dir := newLogDir(b)
	l := openLog(b, Config{Dir: dir})
	b.StopTimer()
	for n := 0; n < b.N; {
		var ps []Pending
		for range min(100, b.N-n) {
			ps = append(ps, encode(b, l, l.Counter()+uint64(len(ps))+1, Event{Type: SignedIn, Actor: "iss#alice", Session: "s1", Policy: PolicyRef{Version: 7, Digest: "sha256:0123456789abcdef0123456789abcdef", Rule: "r", At: "f:1"}, Body: "body"}))
		}
		if _, err := l.Append(b.Context(), ps); err != nil {
			b.Fatal(err)
		}
		n += len(ps)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
	mustVerify(b, dir, VerifyOptions{})
}
