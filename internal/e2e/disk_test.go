package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/smalldisk"
	"github.com/sallyport/sallyport/session"
)

// withDisk is a demo's folder in which these parts are on a small disk.
func withDisk(t *testing.T, parts ...string) (string, smalldisk.Disk) {
	t.Helper()
	dir, at := diskFor(t)
	small := smalldisk.Mount(t, at, 48)
	onDisk(t, dir, parts...)
	return dir, small
}

// diskFor is a demo's folder, and in it an empty one to mount a disk at.
func diskFor(t *testing.T) (dir, at string) {
	t.Helper()
	dir = freshDir(t)
	at = filepath.Join(dir, "disk")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, at
}

// onDisk has these parts of the demo on the disk that is mounted.
func onDisk(t *testing.T, dir string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if part != "gate.db" {
			if err := os.Mkdir(filepath.Join(dir, "disk", part), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(filepath.Join("disk", part), filepath.Join(dir, part)); err != nil {
			t.Fatal(err)
		}
	}
}

const diskIsFull = "the gate's disk is full, so nothing new opens until there is space; ask the platform team"

// askWriter makes a request and takes it back.
func (b *browser) askWriter() error {
	var r session.Request
	if err := b.call(http.MethodPost, "/api/v1/requests", `{"target":"orders","role":"writer","reason":"load","duration":"7m"}`, &r); err != nil {
		return err
	}
	return b.call(http.MethodPost, "/api/v1/requests/"+r.ID+"/withdraw", "", nil)
}

// untilFull makes requests until the gate says that its disk is full: what it has in
// hand (SQLite's write-ahead log begins again at its start) lasts for a while.
func (b *browser) untilFull(t *testing.T) {
	t.Helper()
	for range 3000 {
		if err := b.askWriter(); err != nil {
			if !strings.Contains(err.Error(), diskIsFull[1:]) {
				t.Fatalf("a request on a full disk: %v", err)
			}
			return
		}
	}
	t.Fatal("3,000 requests found room on a full disk: this test sees nothing")
}

// Class: disk full locks everyone out, or lets everyone on. Nothing new opens, a revoke
// cuts, all of it is said, and with room the gate goes on and has lost nothing.
func TestFullDisk(t *testing.T) {
	for name, parts := range map[string][]string{"log": {"audit"}, "store": {"gate.db"}, "both": {"audit", "gate.db", "recordings"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, small := withDisk(t, parts...)
			d := demoIn(t, dir)
			sam := d.login(t, "sam@example.com")
			term, r := d.opened(t, "20m", "-c", "SELECT 'before: ' || count(*) FROM orders", "-c", "SELECT pg_sleep(600)")
			token, grant := d.token(t), d.activeGrant(t)
			term.says(t, "before: 500")
			w := d.allAtWork(t)
			shell, app := w.grantOf(t, "web-1"), w.grantOf(t, "app")
			alice := d.signedIn(t, "alice@example.com")
			small.Fill(t)
			alice.untilFull(t)
			if status, said := w.yes(t); status/100 == 2 || !strings.Contains(said, diskIsFull[1:]) {
				t.Errorf("a yes on a full disk: %d %s", status, said)
			}
			shown, err := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 1").ends(t)
			if err == nil || !strings.Contains(shown, "FATAL:  sallyport: "+diskIsFull) {
				t.Errorf("a connection on a full disk (%v) shows:\n%s", err, shown)
			}
			for _, one := range []session.Grant{grant, shell, app} {
				if out, err := d.sallyport(t, sam, "grants", "revoke", one.ID, "--why", "enough"); err != nil {
					t.Errorf("revoke on a full disk: %v\n%s", err, out)
				}
			}
			if shown, err := term.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: ") {
				t.Errorf("revoked on a full disk (%v), it shows:\n%s", err, shown)
			}
			w.cut(t, wasRevoked, notRecorded, cannotRecord)
			small.Free(t)
			eventually(t, "the yes to be taken", func() bool { status, _ := w.yes(t); return status == http.StatusOK })
			w.opens(t)
			if s := d.sessionOf(t, r); s.Cause != "revoked" && s.Cause != "recorder" {
				t.Errorf("the session's record is %+v", s)
			}
			d.saidNoTrace(t)
			if err := d.stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
			d.verifies(t)
		})
	}
}

// A revoke on a full disk is on disk: after kill -9 and a start with room the grant is
// still revoked, though SQLite had no room for it.
func TestRevokeOnAFullDiskOutlivesKillNine(t *testing.T) {
	t.Parallel()
	dir, small := withDisk(t, "audit", "gate.db", "recordings")
	d := demoIn(t, dir)
	sam := d.login(t, "sam@example.com")
	term, _ := d.opened(t, "20m", "-c", "SELECT pg_sleep(600)")
	token, grant := d.token(t), d.activeGrant(t)
	alice := d.signedIn(t, "alice@example.com")
	small.Fill(t)
	alice.untilFull(t)
	small.Fill(t) // what the refusals gave back
	if out, err := d.sallyport(t, sam, "grants", "revoke", grant.ID, "--why", "enough"); err != nil {
		t.Fatalf("revoke on a full disk: %v\n%s", err, out)
	}
	if shown, err := term.ends(t); err == nil {
		t.Errorf("revoked on a full disk, it shows:\n%s", shown)
	}
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.ended
	small.Free(t)
	d = demoIn(t, d.Dir)
	for _, g := range list[session.Grant](t, d.signedIn(t, "alice@example.com"), "grants", "") {
		if g.State != session.GrantRevoked || g.EndedBy != "sam@example.com" {
			t.Errorf("after kill -9 the grant is %+v", g)
		}
	}
	shown, err := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'inside'").ends(t)
	if err == nil || strings.Contains(shown, "inside") || !strings.Contains(shown, "its grant has ended") {
		t.Errorf("its token (%v) shows:\n%s", err, shown)
	}
	d.verifies(t)
	if status, text := d.signedIn(t, "sam@example.com").api(t, http.MethodGet, "/api/v1/grants/"+grant.ID, nil); status != http.StatusOK {
		t.Errorf("the grant: %d %s", status, text)
	}
}

// Class: recorder fails open. A session whose recording has no room ends, and says so.
func TestFullDiskOfRecordingsEndsTheSession(t *testing.T) {
	t.Parallel()
	dir, small := withDisk(t, "recordings")
	d := demoIn(t, dir)
	term, r := d.opened(t, "20m")
	token := d.token(t)
	small.Fill(t)
	for i := range 2000 {
		if _, err := fmt.Fprintf(term.in, "SELECT 'statement %d' || '%s';\n", i, strings.Repeat("x", 500)); err != nil {
			break // psql has gone
		}
	}
	if shown, err := term.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: ") || strings.Contains(shown, "internal error") {
		t.Errorf("with no room for its recording (%v) it shows:\n%s", err, tail(shown, 4))
	}
	shown, err := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'not recorded'").ends(t)
	if err == nil || strings.Contains(strings.ReplaceAll(shown, "SELECT 'not recorded'", ""), "not recorded") || strings.Contains(shown, "internal error") {
		t.Errorf("a new session with no room for its recording (%v) shows:\n%s", err, shown)
	}
	small.Free(t)
	eventually(t, "a session again", func() bool {
		_, err := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 1").ends(t)
		return err == nil
	})
	var causes []string
	for _, s := range list[session.Record](t, d.signedIn(t, "sam@example.com"), "sessions", "?state=ended") {
		if s.Request == r.ID {
			causes = append(causes, s.Cause)
		}
	}
	if !slices.Contains(causes, "recorder") {
		t.Errorf("the sessions ended by %v", causes)
	}
	d.saidNoTrace(t)
	d.verifies(t)
}

// verifies has the record of all so far verified.
func (d *demo) verifies(t *testing.T) {
	t.Helper()
	if out := d.verify(t); !strings.HasPrefix(out, "verified: ") {
		t.Errorf("verify says %s", out)
	}
}

// saidNoTrace looks for the traces of a panic in what the program said.
func (d *demo) saidNoTrace(t *testing.T) {
	t.Helper()
	if said := d.log.String(); strings.Contains(said, "goroutine ") || strings.Contains(said, "panic") {
		t.Errorf("a stack trace:\n%s", tail(said, 40))
	}
}
