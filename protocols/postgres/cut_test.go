package postgres

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
)

var pidOf = regexp.MustCompile(`PID \d+`)

func portOf(port int) string { return strconv.Itoa(port) }

func TestCancelByCtrlC(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	// This libpq sends the cancel in plaintext, also of a TLS connection.
	p := r.psql(t, r.dsn(&alice, "user=writer dbname=orders"), "-c", "select pg_sleep(60)", "-c", "select 'still ' || 'here'")
	eventually(t, func() bool { return r.backends(t, "writer", "and wait_event = 'PgSleep'") == 1 }, func() string { return "the query does not run\n" + p.out.String() })
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.see(t, `ERROR:  canceling statement due to user request`)
}

func TestCancelInTLSEndsOneQueryOfOneSession(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	one, two := r.pgx(t, alice, "writer"), r.pgx(t, alice, "writer")
	failed := make(chan error, 2)
	for _, conn := range []*pgconn.PgConn{one, two} {
		go func() {
			_, err := conn.Exec(context.Background(), "select pg_sleep(1.5)").ReadAll()
			failed <- err
		}()
	}
	eventually(t, func() bool { return r.backends(t, "writer", "and wait_event = 'PgSleep'") == 2 }, func() string { return "the queries do not run" })
	if err := one.CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	var canceled *pgconn.PgError
	if err := <-failed; !errors.As(err, &canceled) || canceled.Code != "57014" {
		t.Fatalf("the cancelled query: %v", err)
	}
	if err := <-failed; err != nil {
		t.Fatalf("the other session's query: %v", err)
	}
	for _, conn := range []*pgconn.PgConn{one, two} {
		if _, err := conn.Exec(t.Context(), "select 1").ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCancelWithAWrongKeyDoesNothing(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	conn := r.pgx(t, alice, "writer")
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select pg_sleep(0.7)").ReadAll()
		done <- err
	}()
	eventually(t, func() bool { return r.backends(t, "writer", "and wait_event = 'PgSleep'") == 1 }, func() string { return "the query does not run" })
	for _, secret := range [][]byte{{0, 0, 0, 0}, append(bytes.Clone(conn.SecretKey()), 0)} {
		m, err := (&pgproto3.CancelRequest{ProcessID: conn.PID(), SecretKey: secret}).Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.say(t, m); len(got) > 0 {
			t.Errorf("a wrong key was answered with %q", got)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestKillCutsARunningQuery(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, sam := r.person(t, gatetest.Alice), r.SignIn(t, gatetest.Sam)
	p := r.psql(t, r.dsn(&alice, "user=writer dbname=orders"), "-c", "select pg_sleep(60)")
	eventually(t, func() bool { return r.backends(t, "writer", "and wait_event = 'PgSleep'") == 1 }, func() string { return "the query does not run" })
	live := r.live(t, alice.signIn)
	begun := time.Now()
	if err := r.Kill(t.Context(), sam, live.ID, "wrong table"); err != nil {
		t.Fatal(err)
	}
	p.see(t, `FATAL:  sallyport: `)
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the client was told after %v", took)
	}
	if record := r.ended(t, alice.signIn); record.Cause != "killed" {
		t.Errorf("%+v", record)
	}
	if n := r.backends(t, "writer", ""); n != 0 {
		t.Errorf("%d backends are left", n)
	}
}

// A DO block that catches the cancel goes on for ever, and commits as it goes. It
// sleeps long, so that the cancel meets it where it is caught.
const stubborn = `do $$ begin loop
 begin insert into ledger (note) values ('on and on'); perform pg_sleep(1); exception when query_canceled then null; end;
 commit;
end loop; end $$`

func TestStubbornBackendIsSeenGone(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, sam := r.person(t, gatetest.Alice), r.SignIn(t, gatetest.Sam)
	p := r.psql(t, r.dsn(&alice, "user=writer dbname=orders"))
	p.sql(t, stubborn+";")
	eventually(t, func() bool { return len(r.pg.Query(t, "select 1 from ledger limit 1")) == 1 }, func() string { return "the loop does not run\n" + p.out.String() })
	live := r.live(t, alice.signIn)
	begun := time.Now()
	if err := r.Kill(t.Context(), sam, live.ID, "stubborn"); err != nil {
		t.Fatal(err)
	}
	p.see(t, `FATAL:  sallyport: `)
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the client was told after %v", took)
	}
	record := r.ended(t, alice.signIn)
	if n := r.backends(t, "writer", ""); n != 0 {
		t.Fatalf("%d backends work on after the session's end: %+v", n, record)
	}
	if !strings.Contains(r.pg.Log(), "terminating connection due to administrator command") {
		t.Error("nobody terminated it")
	}
	if r.Count(t, audit.SessionAlarm) != 0 {
		t.Error("an alarm, though the backend is gone")
	}
	r.pg.Query(t, "truncate ledger")
}

func TestBackendThatCannotBeEndedRaisesAnAlarm(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, sam := r.person(t, gatetest.Alice), r.SignIn(t, gatetest.Sam)
	p := r.psql(t, r.dsn(&alice, "user=limited dbname=orders")) // one connection, and so no second one
	p.sql(t, endless+";")
	eventually(t, func() bool { return r.backends(t, "limited", "and wait_event = 'PgSleep'") == 1 }, func() string { return "the loop does not run\n" + p.out.String() })
	if err := r.Kill(t.Context(), sam, r.live(t, alice.signIn).ID, "stubborn"); err != nil {
		t.Fatal(err)
	}
	p.see(t, `FATAL:  sallyport: `)
	r.ended(t, alice.signIn)
	eventually(t, func() bool { return r.Count(t, audit.SessionAlarm) == 1 }, func() string { return "no alarm\n" + r.log.String() })
	r.pg.Query(t, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'limited'")
}

func TestCutInTheMiddleOfCopyOut(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, sam := r.person(t, gatetest.Alice), r.SignIn(t, gatetest.Sam)
	p := r.psql(t, r.dsn(&alice, "user=writer dbname=orders"), "-c", "\\copy (select repeat('x', 1000), generate_series(1, 100000000)) to '/dev/null'")
	eventually(t, func() bool { return r.backends(t, "writer", "and query like 'COPY%' and state = 'active'") == 1 }, func() string { return "the copy does not run\n" + p.out.String() })
	if err := r.Kill(t.Context(), sam, r.live(t, alice.signIn).ID, "too much"); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t); err == nil {
		t.Fatal("psql succeeded")
	}
	p.see(t, `FATAL:  sallyport: `)
	r.ended(t, alice.signIn)
	if n := r.backends(t, "writer", ""); n != 0 {
		t.Errorf("%d backends are left", n)
	}
}

func TestCutInTheMiddleOfCopyIn(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, sam := r.person(t, gatetest.Alice), r.SignIn(t, gatetest.Sam)
	p := r.psql(t, r.dsn(&alice, "user=writer dbname=orders"), "-c", "copy ledger (note) from stdin")
	p.sql(t, strings.Repeat("half a copy\n", 100_000))
	eventually(t, func() bool { return r.backends(t, "writer", "and query like 'copy%' and state = 'active'") == 1 }, func() string { return "the copy does not run\n" + p.out.String() })
	if err := r.Kill(t.Context(), sam, r.live(t, alice.signIn).ID, "too much"); err != nil {
		t.Fatal(err)
	}
	r.ended(t, alice.signIn)
	if n := r.backends(t, "writer", ""); n != 0 {
		t.Errorf("%d backends are left", n)
	}
	_ = p.shut()
	p.see(t, `FATAL:  sallyport: `)
	if rows := r.pg.Query(t, "select count(*) from ledger where note = 'half a copy'"); rows[0][0] != "0" {
		t.Errorf("%s rows of the copy that was cut", rows[0][0])
	}
}

func TestClientThatStopsReadingIsGoneAtTheCut(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice, sam := r.person(t, gatetest.Alice), r.SignIn(t, gatetest.Sam)
	p := r.psql(t, r.dsn(&alice, "user=writer dbname=orders"), "-c", "\\copy (select repeat('x', 1000), generate_series(1, 100000000)) to '/dev/null'")
	eventually(t, func() bool { return r.backends(t, "writer", "and query like 'COPY%' and state = 'active'") == 1 }, func() string { return "the copy does not run\n" + p.out.String() })
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return r.backends(t, "writer", "and wait_event = 'ClientWrite'") == 1 }, func() string { return "the copy does not stand still" })
	begun := time.Now()
	if err := r.Kill(t.Context(), sam, r.live(t, alice.signIn).ID, "asleep"); err != nil {
		t.Fatal(err)
	}
	r.ended(t, alice.signIn)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the session ended after %v", took)
	}
	if n := r.backends(t, "writer", ""); n != 0 {
		t.Errorf("%d backends are left", n)
	}
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := p.wait(t); err == nil {
		t.Error("psql took the part for the whole")
	}
}

func TestGrantsEndIsTold(t *testing.T) {
	r := newRig(t, rigOptions{})
	alice := r.person(t, gatetest.Alice)
	p := r.psql(t, r.dsn(&alice, "user=writer dbname=orders options='-c sallyport.duration=2s'"))
	p.sql(t, "select 'ready';")
	p.see(t, "ready")
	record := r.ended(t, alice.signIn)
	if late := record.Ended.Sub(record.Ends); record.Cause != "expired" || late < 0 || late > time.Second {
		t.Errorf("%v late: %+v", late, record)
	}
	p.sql(t, "select 'too late';")
	p.see(t, `FATAL:  sallyport: your access to orders ended at \d\d:\d\d:\d\d UTC`)
}
