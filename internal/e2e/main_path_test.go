package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/session"
)

// The main job, end to end: held, signed in, approved, forwarded, recorded, cut,
// verified.
func TestHeldApprovedForwardedRecordedCut(t *testing.T) {
	d := sharedDemo(t)
	bob := d.signedIn(t, "bob@example.com")
	term := d.psql(t, "reader", nil, "-c", "SELECT 'first: ' || count(*) FROM orders", "-c", "SELECT pg_sleep(60)")
	link, phrase := term.link(t)
	if strings.Contains(term.out.String(), "first:") {
		t.Fatal("rows came before anybody said yes")
	}
	alice := d.browser(t, "alice@example.com")
	if p := alice.confirm(t, link, phrase, map[string]string{"for": "4s"}); p.status != http.StatusOK {
		t.Fatalf("confirm: %d %s", p.status, p.text)
	}
	term.says(t, "signed in as alice@example.com")
	r := bob.pending(t, "alice@example.com")
	if r.Input.Reason != "INC-42 stuck order" || r.Input.Target != "orders" || r.Input.Role != "reader" || !r.Waiting {
		t.Errorf("the request is %+v", r)
	}
	if strings.Contains(term.out.String(), "first:") {
		t.Fatal("rows came before anybody said yes")
	}
	if p := bob.decide(t, r.ID, "yes", nil); !strings.Contains(p.text, "Approved") {
		t.Fatalf("decide: %d %s", p.status, p.text)
	}
	shown := term.says(t, "first: 500")
	if !strings.Contains(shown, "approved by bob@example.com until") || !strings.Contains(shown, "Recorded.") {
		t.Errorf("it shows:\n%s", shown)
	}
	shown, err := term.ends(t)
	if err == nil || !strings.Contains(shown, "FATAL:  sallyport: your access to orders ended at") {
		t.Errorf("at the end (%v) it shows:\n%s", err, shown)
	}
	d.checkRecording(t, r)
}

// checkRecording looks at the session of a request in the record, by every way in.
func (d *demo) checkRecording(t *testing.T, r session.Request) {
	t.Helper()
	sam := d.signedIn(t, "sam@example.com")
	var record session.Record
	eventually(t, "the session's end", func() bool {
		for _, s := range list[session.Record](t, sam, "sessions", "?state=ended") {
			if s.Request == r.ID {
				record = s
				return true
			}
		}
		return false
	})
	if record.Cause != "expired" || record.User.Email != "alice@example.com" {
		t.Errorf("the session's record is %+v", record)
	}
	if p := sam.open(t, "/recordings/"+record.ID); p.status != http.StatusOK || !strings.Contains(p.text, "count(*) FROM orders") {
		t.Errorf("the recording's page: %d %s", p.status, p.text)
	}
	d.verifies(t)
	out, err := d.sallyport(t, t.TempDir(), "recordings", "verify", record.ID, "--config", filepath.Join(d.Dir, "proxy.hcl"))
	if err != nil || !strings.HasPrefix(out, "verified: ") {
		t.Errorf("recordings verify: %v %s", err, out)
	}
}

func TestDenied(t *testing.T) {
	d := sharedDemo(t)
	bob := d.signedIn(t, "bob@example.com")
	term := d.psql(t, "reader", nil, "-c", "SELECT 1")
	link, phrase := term.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	bob.decide(t, bob.pending(t, "alice@example.com").ID, "no", map[string]string{"word": "ask the oncall first"})
	shown, err := term.ends(t)
	if err == nil || !strings.Contains(shown, "FATAL:  sallyport: ") || !strings.Contains(shown, "bob@example.com") || !strings.Contains(shown, "ask the oncall first") {
		t.Fatalf("denied (%v), it shows:\n%s", err, shown)
	}
	if grants := list[session.Grant](t, d.signedIn(t, "sam@example.com"), "grants", "?state=active"); len(grants) != 0 {
		t.Errorf("a no made the grants %+v", grants)
	}
}

func TestHangUpWithdrawsTheRequest(t *testing.T) {
	d := sharedDemo(t)
	bob := d.signedIn(t, "bob@example.com")
	term := d.psql(t, "reader", nil, "-c", "SELECT 1")
	link, phrase := term.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	r := bob.pending(t, "alice@example.com")
	if err := term.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request to be withdrawn", func() bool {
		_, text := bob.api(t, http.MethodGet, "/api/v1/requests/"+r.ID, nil)
		return must[session.Request](t, text).State == session.RequestWithdrawn
	})
	// A yes that comes too late opens nothing, and says so.
	status, text := bob.api(t, http.MethodPost, "/api/v1/requests/"+r.ID+"/approve", nil)
	if status/100 == 2 {
		t.Errorf("a yes after the withdrawal: %d %s", status, text)
	}
	if grants := list[session.Grant](t, d.signedIn(t, "sam@example.com"), "grants", "?state=active"); len(grants) != 0 {
		t.Errorf("it made the grants %+v", grants)
	}
}
