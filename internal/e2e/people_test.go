package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/session"
)

// confirm does what the person at a held connection does in the browser: open the
// link, sign in, pick the phrase, say why. Changes are other form fields.
func (b *browser) confirm(t *testing.T, link, phrase string, changes map[string]string) page {
	t.Helper()
	p := b.open(t, link)
	id := link[strings.LastIndex(link, "/")+1:]
	f := p.form(t, "/h/"+id)
	if len(f.choices["phrase"]) != 3 {
		t.Fatalf("the page offers %d phrases, not 3: %v", len(f.choices["phrase"]), f.choices)
	}
	all := map[string]string{"phrase": phrase, "reason": "INC-42 stuck order"}
	for name, value := range changes {
		all[name] = value
	}
	return b.submit(t, f, all)
}

// pending finds the newest pending request of somebody that this browser's person may see.
func (b *browser) pending(t *testing.T, user string) session.Request {
	t.Helper()
	var found session.Request
	eventually(t, "a pending request of "+user, func() bool {
		status, text := b.api(t, http.MethodGet, "/api/v1/inbox", nil)
		if status != http.StatusOK {
			t.Fatalf("inbox: %d %s", status, text)
		}
		for _, r := range must[struct{ Requests []session.Request }](t, text).Requests {
			if r.User.Email == user {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// decide answers a request on its page.
func (b *browser) decide(t *testing.T, id, verdict string, changes map[string]string) page {
	t.Helper()
	p := b.open(t, "/requests/"+id)
	f := p.form(t, "/requests/"+id)
	// The page counts in minutes, and these tests in seconds: as long as was asked.
	all := map[string]string{"verdict": verdict, "for": ""}
	for name, value := range changes {
		all[name] = value
	}
	return b.submit(t, f, all)
}

// signedIn is a person's browser, signed in.
func (d *demo) signedIn(t *testing.T, email string) *browser {
	t.Helper()
	b := d.browser(t, email)
	b.open(t, "/")
	if status, text := b.api(t, http.MethodGet, "/api/v1/whoami", nil); status != http.StatusOK || !strings.Contains(string(text), email) {
		t.Fatalf("signed in as %s: %d %s", email, status, text)
	}
	return b
}

// opened is psql behind a grant: held, confirmed by alice, approved by bob. It returns
// once psql has its prompt.
func (d *demo) opened(t *testing.T, lasts string, args ...string) (*terminal, session.Request) {
	t.Helper()
	bob := d.signedIn(t, "bob@example.com")
	term := d.psql(t, "reader", nil, args...)
	link, phrase := term.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, map[string]string{"for": lasts})
	r := bob.pending(t, "alice@example.com")
	bob.decide(t, r.ID, "yes", nil)
	term.says(t, "approved by bob@example.com")
	return term, r
}

// list reads a list of the API.
func list[T any](t *testing.T, b *browser, kind, query string) []T {
	t.Helper()
	status, text := b.api(t, http.MethodGet, "/api/v1/"+kind+query, nil)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", kind, status, text)
	}
	return must[map[string][]T](t, text)[kind]
}

// endGrants revokes what an earlier test left.
func (d *demo) endGrants(t *testing.T) {
	t.Helper()
	sam := d.signedIn(t, "sam@example.com")
	for _, g := range list[session.Grant](t, sam, "grants", "?state=active") {
		if status, text := sam.api(t, http.MethodPost, "/api/v1/grants/"+g.ID+"/revoke", map[string]string{"why": "next test"}); status != http.StatusOK {
			t.Fatalf("revoke: %d %s", status, text)
		}
	}
}

// live waits until alice has n live sessions, and returns them.
func (b *browser) live(t *testing.T, n int) []session.Record {
	t.Helper()
	var all []session.Record
	eventually(t, "live sessions", func() bool {
		all = list[session.Record](t, b, "sessions", "?state=live")
		return len(all) == n
	})
	return all
}

// stopwatch measures a cut.
func stopwatch() func() time.Duration {
	begun := time.Now()
	return func() time.Duration { return time.Since(begun) }
}
