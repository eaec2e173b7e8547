package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/session"
)

// The demo's web application: sent to sign in, asked for, approved, used, cut, and told.
func TestWebApplication(t *testing.T) {
	d := sharedDemo(t)
	bob := d.signedIn(t, "bob@example.com")
	alice := d.browser(t, "alice@example.com")
	p := alice.open(t, d.App+"/?from=mail")
	if p.url.Path != "/requests/new" || p.url.Query().Get("to") != "/?from=mail" {
		t.Fatalf("sent to %s: %s", p.url, p.text)
	}
	p = alice.submit(t, p.form(t, "/requests/new"), map[string]string{"access": "app as user", "reason": "INC-42 web", "for": "10s"})
	if !strings.Contains(p.text, "Waiting for 1 of: dba") {
		t.Fatalf("%s says: %s", p.url, p.text)
	}
	waiting := p.url.String()
	r := bob.pending(t, "alice@example.com")
	if r.Input.Target != "app" || r.Input.Role != "user" || r.Input.Reason != "INC-42 web" {
		t.Errorf("the request is %+v", r)
	}
	if p := bob.decide(t, r.ID, "yes", nil); !strings.Contains(p.text, "Approved") {
		t.Fatalf("decide: %d %s", p.status, p.text)
	}
	p = alice.get(t, waiting)
	onward := ""
	for _, link := range p.links {
		if strings.HasPrefix(link, "/.sallyport/open?") {
			onward = link
		}
	}
	if onward == "" || !strings.Contains(p.raw, `http-equiv="refresh"`) {
		t.Fatalf("the waiting page does not move on: %s", p.raw)
	}
	p = alice.get(t, onward)
	if p.status != http.StatusOK || p.url.String() != d.App+"/?from=mail" || !strings.Contains(p.text, "you are alice@example.com , as user") {
		t.Fatalf("%s: %d %s", p.url, p.status, p.text)
	}
	if p = alice.submit(t, p.form(t, "/notes"), map[string]string{"note": "kept behind the gate"}); !strings.Contains(p.text, "alice@example.com: kept behind the gate") {
		t.Errorf("%s: %d %s", p.url, p.status, p.text)
	}
	eventually(t, "the cut", func() bool {
		p = alice.get(t, d.App+"/")
		return p.status != http.StatusOK
	})
	if p.status != http.StatusForbidden || !strings.Contains(p.text, "Your access to app ended at") {
		t.Errorf("at the end: %d %s", p.status, p.text)
	}
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
	if p := sam.open(t, "/recordings/"+record.ID); p.status != http.StatusOK || !strings.Contains(p.text, "POST") || !strings.Contains(p.text, "/notes") {
		t.Errorf("the recording's page: %d %s", p.status, p.text)
	}
	if out := d.verify(t); !strings.HasPrefix(out, "verified: ") {
		t.Errorf("verify says %s", out)
	}
}
