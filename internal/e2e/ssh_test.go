package e2e

import (
	"cmp"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/session"
)

// sshOpened runs a command on the demo's machine by ssh, which waits for Alice's
// browser and Bob's yes, and returns once it was said.
func (d *demo) sshOpened(t *testing.T, lasts, pty, command string) (*terminal, session.Request) {
	t.Helper()
	host, port, err := net.SplitHostPort(d.SSH)
	if err != nil {
		t.Fatalf("the demo has no web-1 (%v): %+v", err, d.ready)
	}
	bob := d.signedIn(t, "bob@example.com")
	term := start(t, nil, "ssh", pty, "-F", "/dev/null", "-p", port, "-o", "UserKnownHostsFile="+cmp.Or(d.knownHosts, filepath.Join(d.Dir, "known_hosts")), "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityFile=/nonexistent", "deploy@web-1@"+host, command)
	link, phrase := term.link(t)
	if p := d.browser(t, "alice@example.com").confirm(t, link, phrase, map[string]string{"for": lasts}); p.status != http.StatusOK {
		t.Fatalf("confirm: %d %s", p.status, p.text)
	}
	r := bob.pending(t, "alice@example.com")
	if r.Input.Target != "web-1" || r.Input.Role != "deploy" {
		t.Errorf("the request is %+v", r)
	}
	if strings.Contains(term.out.String(), "hello") {
		t.Fatal("output came before anybody said yes")
	}
	bob.decide(t, r.ID, "yes", nil)
	return term, r
}

// sessionOf waits until the session of a request has ended, and returns its record.
func (d *demo) sessionOf(t *testing.T, r session.Request) session.Record {
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
	return record
}

// A command by ssh: held, signed in, approved, run, recorded, verified.
func TestSSHCommand(t *testing.T) {
	d := sharedDemo(t)
	term, r := d.sshOpened(t, "5m", "-T", "echo hello")
	shown, err := term.ends(t)
	if err != nil || !strings.Contains(shown, "\nhello\n") || !strings.Contains(shown, "approved by bob@example.com until") {
		t.Fatalf("(%v) it shows:\n%s", err, shown)
	}
	record := d.sessionOf(t, r)
	if p := d.signedIn(t, "sam@example.com").open(t, "/recordings/"+record.ID); p.status != http.StatusOK || !strings.Contains(p.text, "echo hello") {
		t.Errorf("the recording's page: %d %s", p.status, p.text)
	}
	config := filepath.Join(d.Dir, "proxy.hcl")
	if all := list[session.Record](t, d.signedIn(t, "sam@example.com"), "recordings", "?target=web-1"); !slices.ContainsFunc(all, func(one session.Record) bool { return one.ID == record.ID }) {
		t.Errorf("the recordings lack %s: %+v", record.ID, all)
	}
	if out, err := d.sallyport(t, t.TempDir(), "recordings", "verify", record.ID, "--config", config); err != nil || !strings.HasPrefix(out, "verified: ") {
		t.Errorf("recordings verify: %v %s", err, out)
	}
	d.verifies(t)
}

// Class: live connections outlive the grant.
func TestSSHCut(t *testing.T) {
	d := sharedDemo(t)
	term, r := d.sshOpened(t, "4s", "-tt", "echo begun; sleep 100")
	term.says(t, "begun")
	shown, err := term.ends(t)
	if err == nil || !strings.Contains(shown, "sallyport: your access to web-1 ended at") {
		t.Fatalf("(%v) it shows:\n%s", err, shown)
	}
	if record := d.sessionOf(t, r); record.Cause != "expired" {
		t.Errorf("the session's record is %+v", record)
	}
	d.verifies(t)
}
