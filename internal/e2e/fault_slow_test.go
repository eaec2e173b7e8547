package e2e

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/faulttest"
	"github.com/sallyport/sallyport/session"
)

// A disk on which every fsync takes half a second: everything works, later; and a revoke
// waits for none.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.release(t)
	disk := &faulttest.SlowDisk{}
	m.launch = func(cmd *exec.Cmd) error { return disk.Start(t, cmd) }
	m.serve(t)
	disk.Takes(500 * time.Millisecond)
	took := stopwatch()
	term, r := m.opened(t, "20m", "-c", "SELECT 'rows: ' || count(*) FROM generate_series(1, 500)", "-c", "SELECT pg_sleep(600)")
	term.says(t, "rows: 500")
	token, grant := m.token(t), m.activeGrant(t)
	t.Logf("held, approved, rows: %v, with %d fsyncs", took(), disk.Synced.Load())
	if disk.Synced.Load() == 0 || took() < 500*time.Millisecond {
		t.Error("nothing waited for the disk")
	}

	// An fsync that began before the revoke would end long after.
	sam, answered := m.signedIn(t, "sam@example.com"), make(chan string, 1)
	disk.Takes(10 * time.Second)
	took = stopwatch()
	go func() {
		defer close(answered)
		status, text := sam.api(t, http.MethodPost, "/api/v1/grants/"+grant.ID+"/revoke", map[string]string{"why": "enough"})
		answered <- fmt.Sprint(status, " ", text)
	}()
	shown, err := term.ends(t)
	t.Logf("the revoke cut after %v", took())
	if err == nil || !strings.Contains(shown, "FATAL:  sallyport: your access was revoked by sam@example.com: enough") || took() > 10*time.Second {
		t.Errorf("revoked, after %v (%v) it shows:\n%s", took(), err, shown)
	}
	disk.Takes(0)
	if answer := <-answered; !strings.HasPrefix(answer, "200 ") {
		t.Errorf("revoke: %s", answer)
	}

	if s := m.sessionOf(t, r); s.Cause != "revoked" {
		t.Errorf("the session's record is %+v", s)
	}
	if shown, err := m.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 1").ends(t); err == nil {
		t.Errorf("its token still opens:\n%s", shown)
	}
	again, _ := m.opened(t, "20m", "-c", "SELECT 'served again'")
	if shown, err := again.ends(t); err != nil || !strings.Contains(shown, "served again") {
		t.Errorf("once the disk is fast (%v) it shows:\n%s", err, shown)
	}
	m.saidNoTrace(t)
	if err := m.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	m.verifies(t)
}

// The same for ssh and a websocket, with everything that the demo runs on that disk.
func TestSlowDiskUnderSSHAndWeb(t *testing.T) {
	t.Parallel()
	disk := &faulttest.SlowDisk{}
	d := demoBy(t, func(cmd *exec.Cmd) error { return disk.Start(t, cmd) }, freshDir(t))
	sam := d.signedIn(t, "sam@example.com")
	disk.Takes(500 * time.Millisecond)
	w := d.allAtWork(t)
	grants := []session.Grant{w.grantOf(t, "web-1"), w.grantOf(t, "app")}

	disk.Takes(10 * time.Second)
	took := stopwatch()
	var answers sync.WaitGroup
	for _, g := range grants {
		answers.Go(func() {
			if err := sam.call(http.MethodPost, "/api/v1/grants/"+g.ID+"/revoke", `{"why":"enough"}`, nil); err != nil {
				t.Errorf("revoke: %v", err)
			}
		})
	}
	w.cut(t, wasRevoked)
	t.Logf("both revokes had cut after %v", took())
	if took() > 10*time.Second {
		t.Errorf("the revokes cut after %v", took())
	}
	disk.Takes(0)
	answers.Wait()
	if status, said := w.yes(t); status != http.StatusOK {
		t.Errorf("the missing yes: %d %s", status, said)
	}
	w.opens(t)
	d.saidNoTrace(t)
	if err := d.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	d.verifies(t)
}
