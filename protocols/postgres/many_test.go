//go:build !race

package postgres

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/session"
)

// ending is how a client saw its session end.
type ending struct {
	told  time.Time // the gate's FATAL came
	row   time.Time // the last byte of rows came
	fatal string
	err   error // instead of the end of the stream
}

// use does one kind of work on a connection until it ends: rows without end, a
// query that sleeps, or nothing.
func use(conn net.Conn, work string) (e ending) {
	front := pgproto3.NewFrontend(conn, conn)
	if work != "" {
		front.Send(&pgproto3.Query{String: work})
		if e.err = front.Flush(); e.err != nil {
			return e
		}
	}
	for {
		m, err := front.Receive()
		now := time.Now()
		switch m := m.(type) {
		case *pgproto3.CopyData:
			e.row = now
		case *pgproto3.ErrorResponse:
			if m.Severity == "FATAL" {
				e.told, e.fatal = now, m.Message
			}
		}
		if errors.Is(err, io.ErrUnexpectedEOF) { // the Frontend's word for the end
			return e
		}
		if err != nil {
			e.err = err
			return e
		}
	}
}

// extend lengthens a grant again and again, until stop is closed.
func (r *rig) extend(who person, grant string, by time.Duration, stop <-chan struct{}) error {
	tick := time.NewTicker(by / 3)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		if _, err := r.Ask(context.Background(), who.signIn, loopback, session.NewRequest{Extends: grant, Duration: by}); err != nil {
			return err
		}
	}
}

// open makes sessions of the role, several at a time.
func (r *rig) open(t testing.TB, who person, n int, settings string) []net.Conn {
	t.Helper()
	config, err := pgconn.ParseConfig(r.dsn(&who, settings))
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, n)
	errs := make([]error, n)
	slots := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for i := range conns {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var c *pgconn.PgConn
			if c, errs[i] = pgconn.ConnectConfig(context.Background(), config); errs[i] == nil {
				conns[i] = c.Conn()
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("%.500v\n%.2000s", err, r.log)
	}
	return conns
}

// streaming sends one row each tenth of a second, each as long as the buffer that
// PostgreSQL fills before it sends (PQ_SEND_BUFFER_SIZE): the client stands between
// two messages. The first row makes room for the CopyOutResponse.
const streaming = `copy (select repeat('x', case i when 1 then 8176 else 8186 - length(pg_sleep(0.1)::text) end) from generate_series(1, 100000) i) to stdout`

// undisturbed lets this process, and what it starts, run before all others of the
// machine, where it may: what is measured is the gate, not its neighbours.
func undisturbed(t testing.TB) {
	t.Helper()
	set := func(nice int) {
		// Where the kernel groups processes by their terminal session, the group has one too.
		_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(nice)), 0)
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks { // Linux has it per thread
			if id, err := strconv.Atoi(task.Name()); err == nil {
				_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, nice)
			}
		}
	}
	before, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	set(-15)
	t.Cleanup(func() { set(20 - before) }) // the system call counts the other way round
}

// sessions are as many as a run of all tests has time for; make thousand asks for more.
var sessions = flag.Int("sessions", 100, "live sessions that are cut at the same time")

// The hardest case is all of one grant: sessions that end in the same instant, on one
// target.
func TestManyLiveSessionsAreCutInTime(t *testing.T) {
	const lasts, late, silent = 10 * time.Second, 250 * time.Millisecond, time.Second
	many := *sessions
	undisturbed(t)
	r := newRig(t, rigOptions{pg: pgtest.New(t, many+60)})
	alice := r.person(t, gatetest.Alice)
	begun := time.Now()
	conns := r.open(t, alice, 1, fmt.Sprintf("user=writer dbname=local options='-c sallyport.duration=%s'", lasts))
	// However long this machine takes to open them, the end comes soon after.
	opening, extended := make(chan struct{}), make(chan error, 1)
	go func() { extended <- r.extend(alice, r.live(t, alice.signIn).Grant, lasts, opening) }()
	conns = append(conns, r.open(t, alice, many-1, "user=writer dbname=local")...)
	close(opening)
	if err := <-extended; err != nil {
		t.Fatal(err)
	}
	opened := time.Now()
	ends := r.live(t, alice.signIn).Ends
	endings := make([]ending, many)
	var wg sync.WaitGroup
	for i, conn := range conns {
		work := ""
		switch i % 10 {
		case 0:
			work = streaming
		case 1:
			work = "select pg_sleep(600)"
		}
		wg.Go(func() { endings[i] = use(conn, work) })
	}
	wg.Wait()
	t.Logf("opened in %v", opened.Sub(begun).Round(time.Millisecond))
	t.Logf("open for %v before the end", ends.Sub(opened).Round(time.Millisecond))
	var delays []time.Duration
	for i, e := range endings {
		if !strings.HasPrefix(e.fatal, "sallyport: your access to local ended at ") || e.err != nil {
			t.Errorf("session %d: told %v, last row %v after, %q, %v", i, e.told.Sub(ends), e.row.Sub(ends), e.fatal, e.err)
			continue
		}
		if i%10 == 0 && (e.row.IsZero() || e.row.After(ends.Add(silent))) {
			t.Errorf("session %d: the last row came %v after the end", i, e.row.Sub(ends))
		}
		delays = append(delays, e.told.Sub(ends))
	}
	if slices.Sort(delays); len(delays) == many {
		t.Logf("told after the end: first %v, median %v, 99%% %v, last %v", delays[0], delays[many/2], delays[many*99/100], delays[many-1])
		if delays[0] < 0 || delays[many-1] > late {
			t.Errorf("the first is cut %v, the last %v after the end of the grant", delays[0], delays[many-1])
		}
	}
	for begun := time.Now(); ; {
		left, err := r.Sessions(t.Context(), alice.signIn, session.Filter{State: "live"})
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d sessions or more have not ended\n%.2000s", len(left), r.log)
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Logf("all had ended %v after the end", time.Since(ends).Round(time.Millisecond))
	if n := r.backends(t, "writer", ""); n != 0 {
		t.Errorf("%d backends are left", n)
	}
	if n := r.Count(t, audit.SessionAlarm); n != 0 {
		t.Errorf("%d alarms", n)
	}
}
