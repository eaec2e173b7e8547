package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/policy/bundle"
	"github.com/sallyport/sallyport/session"
)

var targetAddress = regexp.MustCompile(`address\s*=\s*"([^"]+)"`)

// target is the address of the demo's own PostgreSQL, as its policy says it.
func (d *demo) target(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.Dir, "policy", "policy", "targets.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	m := targetAddress.FindSubmatch(text)
	if m == nil {
		t.Fatalf("no address in %s", text)
	}
	return string(m[1])
}

// backends counts the sessions of a role at the target, asked there directly, and
// without the one that asks.
func (d *demo) backends(t *testing.T, role string) int {
	t.Helper()
	host, port, err := net.SplitHostPort(d.target(t))
	if err != nil {
		t.Fatal(err)
	}
	password, err := os.ReadFile(filepath.Join(d.Dir, "credentials", "orders-"+role))
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=orders sslmode=verify-full sslrootcert=%s", host, port, role, d.CA))
	if err != nil {
		t.Fatal(err)
	}
	config.Password = string(password)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if _, err := fmt.Sscan(string(results[0].Rows[0][0]), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

const cutText = "FATAL:  sallyport: your access to orders ended at"

func TestCutInTheMiddleOfCopyOut(t *testing.T) {
	d := sharedDemo(t)
	term, _ := d.opened(t, "4s", "-c", "COPY (SELECT repeat('x', 4000) || i FROM generate_series(1, 100000000) i, pg_sleep(0.001)) TO STDOUT", "-o", "/dev/null")
	shown, err := term.ends(t)
	if err == nil || !strings.Contains(shown, cutText) {
		t.Fatalf("(%v) it shows:\n%s", err, tail(shown, 5))
	}
	eventually(t, "the backend to be gone", func() bool { return d.backends(t, "reader") == 0 })
}

func TestCutInTheMiddleOfCopyIn(t *testing.T) {
	d := sharedDemo(t)
	term, _ := d.opened(t, "4s", "-c", "CREATE TEMP TABLE t (x text)", "-c", "COPY t FROM STDIN")
	var feeding sync.WaitGroup
	feeding.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		line := []byte(strings.Repeat("y", 2000) + "\n")
		for {
			select {
			case <-term.ended:
				return
			case <-tick.C:
			}
			if _, err := term.in.Write(line); err != nil {
				return
			}
		}
	})
	shown, err := term.ends(t)
	feeding.Wait()
	if err == nil || !strings.Contains(shown, cutText) {
		t.Fatalf("(%v) it shows:\n%s", err, tail(shown, 5))
	}
	eventually(t, "the backend to be gone", func() bool { return d.backends(t, "reader") == 0 })
}

// Class: live connections outlive the grant. A loop that catches the cancellation
// goes on for ever unless its backend is ended.
func TestCutEndsALoopThatCatchesCancellation(t *testing.T) {
	d := sharedDemo(t)
	const loop = `DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(0.05); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$`
	term, r := d.opened(t, "4s", "-c", loop)
	shown, err := term.ends(t)
	if err == nil || !strings.Contains(shown, cutText) {
		t.Fatalf("(%v) it shows:\n%s", err, tail(shown, 5))
	}
	// The end entry says that the backend was seen gone: then it is.
	sam := d.signedIn(t, "sam@example.com")
	eventually(t, "the session's end", func() bool {
		for _, s := range list[session.Record](t, sam, "sessions", "?state=ended") {
			if s.Request == r.ID {
				return true
			}
		}
		return false
	})
	if n := d.backends(t, "reader"); n != 0 {
		t.Fatalf("the session has ended, and %d backends live", n)
	}
}

func TestCtrlCCancelsTheQueryAndNotTheSession(t *testing.T) {
	d := sharedDemo(t)
	bob := d.signedIn(t, "bob@example.com")
	// A terminal of its own (script makes one), because psql behaves otherwise without.
	// exec, for a shell that waited for psql would die of the same Ctrl-C.
	term := start(t, []string{"PSQL_PAGER=", "TERM=dumb"}, "script", "-qefc", "exec psql -X -A -t '"+d.conninfo(t, "reader")+"'", "/dev/null")
	link, phrase := term.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	bob.decide(t, bob.pending(t, "alice@example.com").ID, "yes", nil)
	term.says(t, "approved by")
	term.types(t, "SELECT 'rea' || 'dy'; SELECT pg_sleep(600);")
	term.says(t, "ready")
	eventually(t, "the query to run", func() bool { return d.backends(t, "reader") == 1 })
	took := stopwatch()
	term.types(t, "\x03")
	term.says(t, "canceling statement due to user request")
	if took() > 10*time.Second {
		t.Errorf("the cancellation took %v", took())
	}
	term.types(t, "SELECT 'still ' || 'here';")
	term.says(t, "still here")
	term.types(t, "\\q")
	if _, err := term.ends(t); err != nil {
		t.Errorf("psql ends with %v", err)
	}
}

func TestKillFromAnotherPersonsBrowser(t *testing.T) {
	d := sharedDemo(t)
	term, _ := d.opened(t, "5m", "-c", "SELECT pg_sleep(600)")
	sam := d.signedIn(t, "sam@example.com")
	id := sam.live(t, 1)[0].ID
	p := sam.open(t, "/sessions")
	p = sam.submit(t, p.form(t, "/sessions/"+id+"/kill"), map[string]string{"why": "runs too long"})
	if p.status != http.StatusOK {
		t.Fatalf("kill: %d %s", p.status, p.text)
	}
	shown, err := term.ends(t)
	if err == nil || !strings.Contains(shown, "FATAL:  sallyport: this session was ended by sam@example.com") {
		t.Fatalf("(%v) it shows:\n%s", err, shown)
	}
	if d.activeGrant(t).State != session.GrantActive {
		t.Error("a kill ended the grant too")
	}
	eventually(t, "the backend to be gone", func() bool { return d.backends(t, "reader") == 0 })
}

// Class: revoke leaves live sessions.
func TestRevokeFromAnotherPersonsBrowser(t *testing.T) {
	d := sharedDemo(t)
	term, _ := d.opened(t, "5m", "-c", "SELECT pg_sleep(600)")
	grant := d.activeGrant(t)
	token := d.token(t)
	sam := d.signedIn(t, "sam@example.com")
	p := sam.open(t, "/g/"+grant.ID)
	if p = sam.submit(t, p.form(t, "/g/"+grant.ID+"/revoke"), map[string]string{"why": "wrong database"}); p.status != http.StatusOK {
		t.Fatalf("revoke: %d %s", p.status, p.text)
	}
	shown, err := term.ends(t)
	if err == nil || !strings.Contains(shown, "FATAL:  sallyport: ") || !strings.Contains(shown, "revoked") {
		t.Fatalf("(%v) it shows:\n%s", err, shown)
	}
	shown, err = d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 1").ends(t)
	if err == nil || !strings.Contains(shown, "that token is not valid, or its grant has ended") {
		t.Fatalf("the token after the revoke (%v) shows:\n%s", err, shown)
	}
}

// The address of a target is in what was signed: changing it in place is noticed.
func TestTargetCannotBeRepointedOnDisk(t *testing.T) {
	t.Parallel()
	d := ownDemo(t)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.Dir, "policy", "policy", "targets.hcl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "127.0.0.1", "127.0.0.9", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = d.sallyport(t, t.TempDir(), "serve", "--config", filepath.Join(d.Dir, "proxy.hcl"))
	if err == nil || !strings.Contains(err.Error(), "policy refused: ") || !strings.Contains(err.Error(), "targets.hcl") {
		t.Fatalf("serve with a changed target: %v", err)
	}
	root, err := os.ReadFile(filepath.Join(d.Dir, "policy", "trust", "root.1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Open(filepath.Join(d.Dir, "policy"), bundle.Options{Root: bundle.Digest(root), Now: time.Now()}); err == nil {
		t.Fatal("the changed bundle opens")
	}
}
