package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/session"
)

// atWork are clients of all protocols at work when a fault comes: an ssh and a browser with
// a websocket that are live, beside whatever the test has of psql; and a psql of the writer
// that has one yes of two.
type atWork struct {
	d           *demo
	shell, held *terminal
	clock       *websocket.Conn
	alice       *browser // her pages of the application
	carol       *browser // whose yes is missing
	waits       session.Request
}

// allAtWork brings them to work. The test's own psql comes first: some helpers want Alice to
// have one grant.
func (d *demo) allAtWork(t *testing.T) *atWork {
	t.Helper()
	w := &atWork{d: d, alice: d.signedIn(t, "alice@example.com"), carol: d.signedIn(t, "carol@example.com")}
	bob := d.signedIn(t, "bob@example.com")
	w.shell, _ = d.sshOpened(t, "20m", "-T", "echo before; sleep 600")
	w.shell.says(t, "before")

	status, text := w.alice.api(t, http.MethodPost, "/api/v1/requests", map[string]string{"target": "app", "role": "user", "reason": "INC-42 web", "duration": "15m"})
	if status != http.StatusOK && status != http.StatusCreated {
		t.Fatalf("ask for the application: %d %s", status, text)
	}
	bob.decide(t, must[session.Request](t, text).ID, "yes", nil)
	w.alice.open(t, d.App+"/")
	w.clock = w.alice.usesDemo(t)

	w.held = d.psql(t, "writer", nil, "-c", "SELECT 'writer is ' || 'in'")
	link, phrase := w.held.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, map[string]string{"ticket": "OPS-1"})
	w.waits = bob.pending(t, "alice@example.com")
	bob.decide(t, w.waits.ID, "yes", nil)
	w.held.says(t, "waiting for 1 of")
	return w
}

// grantOf is the running grant for a target.
func (w *atWork) grantOf(t *testing.T, target string) session.Grant {
	t.Helper()
	for _, g := range list[session.Grant](t, w.alice, "grants", "?state=active") {
		if g.Key.Target == target {
			return g
		}
	}
	t.Fatalf("no grant for %s runs", target)
	return session.Grant{}
}

// yes is the missing one; said is the answer's text.
func (w *atWork) yes(t *testing.T) (status int, said string) {
	t.Helper()
	status, text := w.carol.api(t, http.MethodPost, "/api/v1/requests/"+w.waits.ID+"/approve", nil)
	return status, string(text)
}

// cut waits for the end of what is live, in one of these words.
func (w *atWork) cut(t *testing.T, words ...string) {
	t.Helper()
	oneOf := func(text string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
	}
	if shown, err := w.shell.ends(t); err == nil || !oneOf(shown) {
		t.Errorf("ssh (%v) shows:\n%s", err, shown)
	}
	for {
		_, _, err := w.clock.ReadMessage()
		if err == nil {
			continue
		}
		if !oneOf(err.Error()) {
			t.Errorf("the websocket ends with %v", err)
		}
		return
	}
}

// opens waits for what was held to be let in.
func (w *atWork) opens(t *testing.T) {
	t.Helper()
	if shown, err := w.held.ends(t); err != nil || !strings.Contains(shown, "writer is in") {
		t.Errorf("what was held (%v) shows:\n%s", err, shown)
	}
}
