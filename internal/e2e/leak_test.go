package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// arrivals counts the TCP connections that the target has ever received: its own log
// has a line for each, before a byte is read.
func (d *demo) arrivals(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.Dir, "postgres", "log"))
	if err != nil {
		t.Fatal(err)
	}
	n := strings.Count(string(text), "connection received: ")
	if n == 0 {
		t.Fatal("the target's log shows not even the start-up check: this test would see nothing")
	}
	return n
}

// Promise 1 of a hold: not one byte reaches the target before the yes, for every proof.
func TestNothingReachesTheTargetBeforeTheYes(t *testing.T) {
	d := sharedDemo(t)
	bob := d.signedIn(t, "bob@example.com")
	home := d.login(t, "alice@example.com")
	cert := []string{"PGSSLCERT=" + filepath.Join(home, "client.crt"), "PGSSLKEY=" + filepath.Join(home, "client.key")}
	before := d.arrivals(t)

	browser := d.psql(t, "reader", nil, "-c", "SELECT 'by browser'")
	link, phrase := browser.link(t)
	certificate := d.psql(t, "writer", append(cert, "PGOPTIONS=-c sallyport.reason=INC-1"), "-c", "SELECT 'by certificate'")
	certificate.says(t, "waiting for 2 of")
	token := d.psql(t, "reader+token", []string{"PGPASSWORD=spg_" + strings.Repeat("A", 43)}, "-c", "SELECT 1")
	if shown, err := token.ends(t); err == nil || !strings.Contains(shown, "that token is not valid") {
		t.Errorf("an invented token (%v) shows:\n%s", err, shown)
	}
	nowait := d.psql(t, "reader", append(cert, "PGOPTIONS=-c sallyport.wait=0"), "-c", "SELECT 1")
	if shown, err := nowait.ends(t); err == nil || !strings.Contains(shown, "waits for") {
		t.Errorf("wait=0 (%v) shows:\n%s", err, shown)
	}
	d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	browser.says(t, "waiting for")
	if n := d.arrivals(t); n != before {
		t.Fatalf("%d connections reached the target before anybody said yes", n-before)
	}
	for _, r := range list[struct {
		ID   string
		User struct{ Email string }
	}](t, bob, "requests", "?state=pending") {
		if r.User.Email == "alice@example.com" {
			bob.api(t, http.MethodPost, "/api/v1/requests/"+r.ID+"/approve", nil)
		}
	}
	browser.says(t, "by browser")
	if n := d.arrivals(t); n == before {
		t.Fatal("after the yes nothing reached the target: this test would see nothing")
	}
	if strings.Contains(certificate.out.String(), "by certificate") {
		t.Fatal("one yes of two opened the writer")
	}
}

// Class: RFC 8628 section 5.4, a link that is sent to somebody else. Two browsers.
func TestPhishingReplayWithTwoBrowsers(t *testing.T) {
	d := sharedDemo(t)
	term := d.psql(t, "reader", nil, "-c", "SELECT 1")
	link, phrase := term.link(t)
	id := link[strings.LastIndex(link, "/")+1:]
	alice, carol := d.signedIn(t, "alice@example.com"), d.signedIn(t, "carol@example.com")
	page := alice.open(t, link)
	form := page.form(t, "/h/"+id)
	// The link belongs to the first browser that opened it.
	if p := carol.open(t, link); p.status == http.StatusOK || strings.Contains(p.text, phrase) {
		t.Errorf("a second browser sees the hold: %d %s", p.status, p.text)
	}
	if p := carol.submit(t, form, map[string]string{"phrase": phrase, "reason": "replay"}); p.status == http.StatusOK {
		t.Errorf("a second browser confirms: %d %s", p.status, p.text)
	}
	if status, text := carol.api(t, http.MethodPost, "/api/v1/holds/"+id+"/confirm", map[string]string{"phrase": phrase}); status != http.StatusNotFound {
		t.Errorf("a second browser confirms by the API: %d %s", status, text)
	}
	// Nor does a second browser of the same person take it over.
	if p := d.signedIn(t, "alice@example.com").open(t, link); strings.Contains(p.text, phrase) {
		t.Errorf("a second browser of the same person sees the hold: %s", p.text)
	}
	if status, _ := alice.api(t, http.MethodGet, "/api/v1/requests?state=pending", nil); status != http.StatusOK {
		t.Fatal("alice's own browser is out")
	}
	// A wrong phrase twice ends it.
	for _, wrong := range form.choices["phrase"] {
		if wrong != phrase {
			alice.submit(t, form, map[string]string{"phrase": wrong, "reason": "guess"})
		}
	}
	if shown, err := term.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: ") {
		t.Fatalf("two wrong phrases (%v), it shows:\n%s", err, shown)
	}
}

// Class: the connection's address and the browser's differ: it is said, and no
// existing grant is used.
func TestTwoAddressesAreSaidAndUseNoGrant(t *testing.T) {
	d := sharedDemo(t)
	d.opened(t, "5m")
	term := d.psql(t, "reader", nil, "-c", "SELECT 'other address'")
	link, phrase := term.link(t)
	far := d.browserFrom(t, "alice@example.com", "127.0.0.2")
	if p := far.open(t, link); !strings.Contains(p.text, "127.0.0.1") || !strings.Contains(p.text, "127.0.0.2") {
		t.Errorf("the page does not say both addresses: %s", p.text)
	}
	far.confirm(t, link, phrase, nil)
	term.says(t, "waiting for 1 of")
	bob := d.signedIn(t, "bob@example.com")
	r := bob.pending(t, "alice@example.com")
	if p := bob.open(t, "/requests/"+r.ID); !strings.Contains(p.text, "127.0.0.2") {
		t.Errorf("the approver's page does not say both addresses: %s", p.text)
	}
	if strings.Contains(term.out.String(), "other address") {
		t.Fatal("an existing grant was used across two addresses")
	}
}
