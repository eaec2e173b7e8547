package e2e

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/faulttest"
	"github.com/sallyport/sallyport/internal/smalldisk"
)

// withExt4 is a demo's folder in which these parts are on a disk that can break.
func withExt4(t *testing.T, parts ...string) (string, smalldisk.Ext4) {
	t.Helper()
	dir, at := diskFor(t)
	disk := smalldisk.MountExt4(t, at, 64)
	onDisk(t, dir, parts...)
	return dir, disk
}

const (
	keepsNoRecord = "the gate has stopped: it cannot keep its record"
	tookEffect    = "this took effect, but the gate cannot write it down and has stopped; do it again once the gate is back"
	cannotRecord  = "this session cannot be recorded, so it is ended; ask the platform team"
	notRecorded   = "the session could not be recorded any more"
	goneAlready   = "Connection refused" // something else wrote first, and the gate has stopped
	wasRevoked    = "your access was revoked by sam@example.com: enough"
)

// stopsByItself waits until the gate has stopped by its own word.
func (d *demo) stopsByItself(t *testing.T) {
	t.Helper()
	select {
	case <-d.ended:
	case <-time.After(patience):
		t.Fatal("the gate goes on without its record")
	}
	if said := d.log.String(); d.err == nil || !strings.Contains(said, "the gate stops: it cannot keep its record") || !strings.Contains(said, "read-only file system") && !strings.Contains(said, "disk I/O error") && !strings.Contains(said, "input/output error") {
		t.Errorf("it ended with %v and says:\n%s", d.err, tail(said, 20))
	}
	d.saidNoTrace(t)
}

// Class: a record that fails open. The disk of the log, or of the store, which the kernel
// makes read-only while people are at work: live sessions are cut with words, a revoke
// at once, nobody new gets in, and the gate stops by its own word. What was acknowledged
// is there once the disk is repaired.
func TestDiskThatTurnsReadOnly(t *testing.T) {
	eachLoss(t, func(t *testing.T, part string, revokes bool) {
		dir, disk := withExt4(t, part)
		demoIn(t, dir).losesItsRecord(t, part, revokes, func() { disk.Break(t) }, func() *demo {
			disk.Repair(t)
			return demoIn(t, dir)
		})
	})
}

// The same where an fsync says that what was written before is not on the disk.
func TestSyncThatFails(t *testing.T) {
	eachLoss(t, func(t *testing.T, part string, revokes bool) {
		dir, disk := freshDir(t), &faulttest.FailingDisk{}
		d := demoBy(t, func(cmd *exec.Cmd) error { return disk.Start(t, cmd) }, dir)
		d.losesItsRecord(t, part, revokes, func() { disk.Break(filepath.Join(dir, part)) }, func() *demo {
			if n := disk.Failed.Load(); n == 0 {
				t.Error("no fsync failed")
			}
			return demoIn(t, dir)
		})
	})
}

func eachLoss(t *testing.T, try func(t *testing.T, part string, revokes bool)) {
	for _, c := range []struct {
		name, part string
		revokes    bool
	}{{"log", "audit", true}, {"log and nobody revokes", "audit", false}, {"store", "gate.db", true}, {"store and nobody revokes", "gate.db", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			try(t, c.part, c.revokes)
		})
	}
}

// losesItsRecord breaks the disk of a part of the record with people at work; again starts
// the gate once it is repaired.
func (d *demo) losesItsRecord(t *testing.T, part string, revokes bool, breaks func(), again func() *demo) {
	t.Helper()
	sam := d.login(t, "sam@example.com")
	term, r := d.opened(t, "20m", "-c", "SELECT 'before: ' || count(*) FROM orders", "-c", "SELECT pg_sleep(600)")
	term.says(t, "before: 500")
	token, grant := d.token(t), d.activeGrant(t)
	w := d.allAtWork(t)
	breaks()
	revoked := false // acknowledged
	if revokes {
		took := stopwatch()
		_, err := d.sallyport(t, sam, "grants", "revoke", grant.ID, "--why", "enough")
		if revoked = err == nil; part == "gate.db" && (revoked || !strings.Contains(err.Error(), tookEffect) && !strings.Contains(err.Error(), "cannot be reached")) {
			t.Errorf("who revokes is told %v", err)
		}
		if <-term.ended; took() > 5*time.Second {
			t.Errorf("the revoke cut after %v", took())
		}
	} else {
		shown, err := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 1").ends(t)
		if err == nil || !slices.ContainsFunc([]string{"FATAL:  sallyport: " + keepsNoRecord, "FATAL:  sallyport: " + cannotRecord, goneAlready}, func(w string) bool { return strings.Contains(shown, w) }) {
			t.Errorf("a new session (%v) shows:\n%s", err, shown)
		}
	}
	shown, err := term.ends(t)
	if err == nil || !slices.ContainsFunc([]string{keepsNoRecord, notRecorded, cannotRecord, wasRevoked}, func(w string) bool { return strings.Contains(shown, "FATAL:  sallyport: "+w) }) {
		t.Errorf("the live session (%v) shows:\n%s", err, shown)
	}
	w.cut(t, keepsNoRecord, notRecorded, cannotRecord)
	if shown, err := w.held.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: ") || strings.Contains(shown, "writer is in") {
		t.Errorf("what was held (%v) shows:\n%s", err, shown)
	}
	d.stopsByItself(t)

	d = again()
	if s := d.sessionOf(t, r); !slices.Contains([]string{"crashed", "stopping", "recorder", "revoked"}, s.Cause) {
		t.Errorf("the session's record is %+v", s)
	}
	shown, err = d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'served again'").ends(t)
	if served := err == nil && strings.Contains(shown, "served again"); served == revoked {
		t.Errorf("once it is repaired, revoked %v, (%v) it shows:\n%s", revoked, err, shown)
	}
	d.verifies(t)
}

// Class: recorder fails open. The disk of the recordings turns read-only under a live
// session: it ends with words once something is to be recorded, a revoke cuts another at
// once, nobody new gets in, and everything goes on once the disk is repaired.
func TestDiskOfRecordingsThatTurnsReadOnly(t *testing.T) {
	t.Parallel()
	dir, disk := withExt4(t, "recordings")
	d := demoIn(t, dir)
	sam := d.login(t, "sam@example.com")
	term, _ := d.opened(t, "20m")
	term.types(t, "SELECT 'before ' || 'it';")
	term.says(t, "before it")
	token, grant := d.token(t), d.activeGrant(t)
	waits := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'be' || 'gun'", "-c", "SELECT pg_sleep(600)")
	waits.says(t, "begun")
	disk.Break(t)
	for range 100 {
		if _, err := term.in.Write([]byte("SELECT 'not recorded: ' || 1;\n")); err != nil {
			break // psql has gone
		}
	}
	if shown, err := term.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: "+notRecorded) {
		t.Errorf("with nothing recorded (%v) it shows:\n%s", err, tail(shown, 5))
	}
	again := func() (string, error) {
		return d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'in' || 'side'").ends(t)
	}
	if shown, err := again(); err == nil || !strings.Contains(shown, "FATAL:  sallyport: "+cannotRecord) {
		t.Errorf("a new session (%v) shows:\n%s", err, shown)
	}
	took := stopwatch()
	if out, err := d.sallyport(t, sam, "sessions", "kill", d.signedIn(t, "sam@example.com").live(t, 1)[0].ID, "--why", "enough"); err != nil {
		t.Errorf("kill: %v\n%s", err, out)
	}
	if shown, err := waits.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: this session was ended by sam@example.com: enough") || took() > 5*time.Second {
		t.Errorf("ended after %v (%v) it shows:\n%s", took(), err, shown)
	}
	if err := d.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	disk.Repair(t)
	d = demoIn(t, dir)
	if shown, err := again(); err != nil || !strings.Contains(shown, "inside") {
		t.Errorf("once it is repaired (%v) it shows:\n%s", err, shown)
	}
	if out, err := d.sallyport(t, sam, "grants", "revoke", grant.ID, "--why", "enough"); err != nil {
		t.Errorf("revoke: %v\n%s", err, out)
	}
	d.saidNoTrace(t)
	d.verifies(t)
}

// The same where the fsync of a recording fails: what was said is not known to be on the
// disk, so its session ends with words. The gate goes on, and records again once the disk
// works.
func TestSyncOfRecordingsThatFails(t *testing.T) {
	t.Parallel()
	dir, disk := freshDir(t), &faulttest.FailingDisk{}
	d := demoBy(t, func(cmd *exec.Cmd) error { return disk.Start(t, cmd) }, dir)
	sam := d.login(t, "sam@example.com")
	term, r := d.opened(t, "20m")
	term.types(t, "SELECT 'before ' || 'it';")
	term.says(t, "before it")
	token, grant := d.token(t), d.activeGrant(t)
	w := d.allAtWork(t)
	disk.Break(filepath.Join(dir, "recordings"))
	term.types(t, "SELECT 'not recorded: ' || 1; SELECT pg_sleep(600);")
	// Whoever writes next to a recorder that has failed is told the other sentence.
	told := func(shown string) bool {
		return strings.Contains(shown, "FATAL:  sallyport: "+cannotRecord) || strings.Contains(shown, "FATAL:  sallyport: "+notRecorded)
	}
	if shown, err := term.ends(t); err == nil || !told(shown) {
		t.Errorf("with nothing synced (%v) it shows:\n%s", err, tail(shown, 5))
	}
	if s := d.sessionOf(t, r); s.Cause != "recorder" {
		t.Errorf("the session's record is %+v", s)
	}
	w.cut(t, cannotRecord, notRecorded)
	shown, err := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'in' || 'side'", "-c", "SELECT pg_sleep(600)").ends(t)
	if err == nil || !told(shown) {
		t.Errorf("a new session (%v) shows:\n%s", err, shown)
	}
	if disk.Failed.Load() == 0 {
		t.Error("no fsync failed")
	}
	disk.Repair()
	if status, said := w.yes(t); status != http.StatusOK {
		t.Errorf("the missing yes: %d %s", status, said)
	}
	w.opens(t)
	shown, err = d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'in' || 'side'").ends(t)
	if err != nil || !strings.Contains(shown, "inside") {
		t.Errorf("once it is repaired (%v) it shows:\n%s", err, shown)
	}
	if out, err := d.sallyport(t, sam, "grants", "revoke", grant.ID, "--why", "enough"); err != nil {
		t.Errorf("revoke: %v\n%s", err, out)
	}
	d.saidNoTrace(t)
	d.verifies(t)
}
