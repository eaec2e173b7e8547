package web

import (
	"context"
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/session"
)

// The whole way without any script: held, confirmed, approved, through.
func TestHeldConnectionGoesThrough(t *testing.T) {
	f := start(t)
	alice, bob := f.browser(t), f.as(t, "bob")
	c := f.connect(t, "orders", "reader", "127.0.0.1:5000")
	page := alice.signIn("/login?to="+c.link, "alice").want(t, 200, "A connection of yours is waiting for", c.phrase, "psql from 127.0.0.1", "1 of dba")
	page.lacks(t, "The connection came from")
	alice.post(c.link, "phrase", c.phrase, "reason", "", "for", "30").want(t, 422, `role="alert"`, `aria-invalid="true"`)
	alice.post(c.link, "phrase", c.phrase, "reason", "INC-42\r\nstuck", "for", "30").want(t, 200, "Waiting for 1 of", `<noscript><meta http-equiv="refresh"`, "INC-42 stuck")
	id := decode[struct{ Requests []session.Request }](t, bob.api("GET", "/api/v1/inbox", "", nil)).Requests[0].ID
	bob.get("/").want(t, 200, "Inbox (1)", "1 request waits for your yes or no")
	bob.get("/requests/"+id).want(t, 200, "wants", "psql is waiting", "INC-42 stuck", "signed in from the same address", "Never alice")
	bob.post("/requests/"+id, "verdict", "yes", "for", "15").want(t, 200, "Approved by bob@example.com")
	fatal(t, c.wait(t))
	if left := time.Until(c.sess.Ends()); left > 15*time.Minute || left < 14*time.Minute {
		t.Errorf("the grant ends in %s", left)
	}
	alice.get(c.link).want(t, 200, "Approved by bob@example.com", "goes on by itself")
	bob.post("/requests/"+id, "verdict", "no").want(t, 403, "approved already")
}

// Two wrong phrases end it; one may be mended.
func TestPhraseWrongTwiceEndsTheHold(t *testing.T) {
	f := start(t)
	alice := f.browser(t)
	c := f.connect(t, "orders", "reader", "127.0.0.1:5000")
	wrong := c.wrong(t, alice.signIn("/login?to="+c.link, "alice").body)
	alice.post(c.link, "phrase", wrong[0], "reason", "typed with care").want(t, 422, "one more try", "typed with care")
	alice.post(c.link, "phrase", wrong[1], "reason", "x").want(t, 403, "wrong twice")
	if err := c.wait(t); err == nil {
		t.Fatal("the connection went through")
	}
	alice.get(c.link).want(t, 200, "wrong twice")
}

// The link that was sent to somebody else: it binds to the first who opens it, shows
// both addresses in red, and "Not mine" ends it.
func TestLinkSentToSomebodyElse(t *testing.T) {
	f := start(t)
	alice, bob := f.browser(t), f.as(t, "bob")
	c := f.connect(t, "orders", "reader", "198.51.100.23:5000")
	alice.signIn("/login?to="+c.link, "alice").want(t, 200, `class="note bad"`, "The connection came from 198.51.100.23, your browser from 127.0.0.1")
	bob.get(c.link).want(t, 404)
	bob.post(c.link, "phrase", c.phrase, "reason", "mine").want(t, 404)
	bob.post(c.link+"/not-mine").want(t, 404)
	alice.post(c.link+"/not-mine").want(t, 200, "was ended")
	if err := c.wait(t); err == nil || !strings.Contains(err.Error(), "not theirs") {
		t.Errorf("the client was told %v", err)
	}
}

func TestMismatchIsShownToTheApprover(t *testing.T) {
	f := start(t)
	alice, bob := f.browser(t), f.as(t, "bob")
	c := f.connect(t, "billing", "writer", "198.51.100.23:5000")
	alice.signIn("/login?to="+c.link, "alice").want(t, 200)
	alice.post(c.link, "phrase", c.phrase, "reason", "refunds", "keep", "yes").want(t, 200, "Waiting for")
	id := decode[struct{ Requests []session.Request }](t, bob.api("GET", "/api/v1/inbox", "", nil)).Requests[0].ID
	bob.get("/requests/"+id).want(t, 200, "The connection came from 198.51.100.23, the sign-in from 127.0.0.1", "No automatic rule applies")
	bob.post("/requests/"+id, "verdict", "yes").want(t, 200, "Decided so far", "Missing", "1 of dba", "said yes to this request already")
	c.hangUp()
	<-c.opened
	until(t, "the page says that the client has gone", func() bool { return strings.Contains(bob.get("/requests/"+id).body, "The client has gone.") })
}

func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// A yes needs a person who signed in just now; a no does not.
func TestApprovingNeedsAFreshSignIn(t *testing.T) {
	f := start(t)
	alice, bob := f.as(t, "alice"), f.as(t, "bob")
	token := f.login(t, "bob")
	id := alice.ask("orders", "reader", "INC-3")
	f.ahead.Store(int64(freshFor + time.Minute))
	bob.get("/requests/"+id).want(t, 200, "Sign in again", "Deny").lacks(t, `value="yes"`)
	bob.post("/requests/"+id, "verdict", "yes").want(t, 403, "a yes needs a sign-in of the last ten minutes"[2:])
	bob.api("POST", "/api/v1/requests/"+id+"/approve", token, nil).want(t, 403, "sign-in of the last ten minutes")
	bob.post("/requests/"+id, "verdict", "no", "word", "not today").want(t, 200, "Denied by bob@example.com", "not today")
}

// Who signs in by the provider's session of this morning has not just signed in: the
// provider is told to ask, and then they have. The same on the command line.
func TestTheProvidersOldSessionIsNoFreshSignIn(t *testing.T) {
	f := start(t)
	fatal(t, f.idp.AskedBefore("bob", time.Hour))
	alice, bob := f.as(t, "alice"), f.as(t, "bob")
	id := alice.ask("orders", "reader", "INC-3")
	at := "/requests/" + id
	bob.get(at).want(t, 200, "Sign in again", "Deny").lacks(t, `value="yes"`)
	bob.post(at, "verdict", "yes").want(t, 403, "yes needs a sign-in of the last ten minutes")
	bob.api("POST", "/api/v1"+at+"/approve", f.login(t, "bob"), nil).want(t, 403, "run: sallyport login --fresh")
	bob.signIn("/login?again=1&to="+at, "bob").want(t, 200, `value="yes"`)
	bob.post(at, "verdict", "yes").want(t, 200, "Approved by bob@example.com")
	second := decode[session.Request](t, alice.api("POST", "/api/v1/requests", "", json.RawMessage(`{"target":"web-1","role":"admin"}`)).want(t, 201)).ID
	f.browser(t).api("POST", "/api/v1/requests/"+second+"/approve", f.login(t, "bob", "yes"), nil).want(t, 200, `"state":"approved"`)
}

// Narrowing without a script: a round trip, which decides nothing.
func TestNarrowing(t *testing.T) {
	f := start(t)
	alice, bob := f.as(t, "alice"), f.as(t, "bob")
	id := alice.ask("orders", "reader", "INC-4")
	page := bob.get("/requests/"+id+"?for=15&word=hello").want(t, 200, `<option value="15m" data-seconds="900" selected>`, `value="hello"`, `data-until="900"`)
	deny, yes := strings.Index(page.body, `value="no"`), strings.Index(page.body, `value="yes"`)
	first := strings.Index(page.body, `<button type="submit" disabled hidden>`)
	if deny < 0 || yes < deny || first < 0 || first > deny {
		t.Error("Deny does not come first, or Enter in a field would decide")
	}
	bob.get("/requests/"+id+"?for=300").want(t, 200, `data-until="1800"`) // never longer
	bob.post("/requests/"+id, "verdict", "yes", "for", "300").want(t, 422, "never lengthen")
	bob.post("/requests/"+id, "verdict", "maybe").want(t, 422, "press Deny or Approve"[6:])
	alice.post("/requests/"+id+"/withdraw").want(t, 200, "Withdrawn. Nothing is opened")
}

func TestGrantPage(t *testing.T) {
	f := start(t)
	alice, bob, sam := f.as(t, "alice"), f.as(t, "bob"), f.as(t, "sam")
	grant := f.granted(t, alice, bob)
	page := alice.get("/g/"+grant).want(t, 200, "Active until", "Ask for longer", "Release")
	text := html.UnescapeString(page.body)
	for _, want := range []string{
		`psql 'host=127.0.0.1 port=5432 user=reader dbname=orders sslmode=verify-full sslrootcert='\''/etc/it\'\''s mine/ca.pem'\'''`, "user=reader+token ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %s:\n%s", want, text)
		}
	}
	page.lacks(t, "spg_")
	alice.post("/g/"+grant+"/token").want(t, 200, "spg_", "shown this once")
	alice.get("/g/"+grant).want(t, 200).lacks(t, "spg_")
	sam.get("/g/"+grant).want(t, 200, "Revoke").lacks(t, "Show a token")
	sam.post("/g/"+grant+"/revoke", "why", "leak").want(t, 200, "Revoked", "by sam@example.com")
	alice.post("/g/"+grant+"/token").want(t, 403, "has ended")
	other := f.granted(t, alice, bob)
	alice.post("/g/"+other+"/release").want(t, 200, "Released")
	until(t, "the log has the token, the revocation and the release", func() bool {
		n := f.counts(t)
		return n[audit.TokenIssued] == 1 && n[audit.GrantRevoked] == 1 && n[audit.GrantReleased] == 1
	})
}

var statements = []audit.Track{
	audit.Query{N: 1, Kind: "execute", SQL: "select id from orders where note = $1 -- <script>alert(1)</script>", Binds: [][]byte{[]byte("x\x1b[31m"), nil}},
	audit.QueryDone{N: 1, Tag: "SELECT 1", Rows: 1, Took: 2 * time.Millisecond},
	audit.Query{N: 2, Kind: "simple", SQL: "update orders set paid = true"},
	audit.QueryDone{N: 2, SQLState: "25006", Message: "read-only transaction", Took: time.Millisecond},
}

// running makes a live session whose recording has some lines; default: some statements.
func (f *fixture) running(t *testing.T, alice, bob *browser, tracks ...audit.Track) (sess *session.Session, stop func() error) {
	t.Helper()
	c := f.connect(t, "orders", "reader", "127.0.0.1:5000")
	alice.get(c.link).want(t, 200)
	alice.post(c.link, "phrase", c.phrase, "reason", "INC-42").want(t, 200)
	id := decode[struct{ Requests []session.Request }](t, bob.api("GET", "/api/v1/inbox", "", nil)).Requests[0].ID
	bob.post("/requests/"+id, "verdict", "yes").want(t, 200)
	fatal(t, c.wait(t))
	recorded, ended := make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() {
		ended <- c.sess.Run(ctx, func(ctx context.Context, up *session.Upstream) error {
			var err error
			if tracks == nil {
				tracks = statements
			}
			for _, track := range tracks {
				err = errors.Join(err, up.Recorder().Write(track))
			}
			recorded <- err
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}()
	fatal(t, <-recorded)
	return c.sess, func() error { cancel(); return <-ended }
}

// viewed is how many viewings of recordings the log has.
func (f *fixture) viewed(t *testing.T) (n int) {
	t.Helper()
	entries, err := f.log.Entries(t.Context(), 0, 1<<20)
	fatal(t, err)
	for _, e := range entries {
		if e.Type == audit.RecordingViewed {
			n++
		}
	}
	return n
}

// Viewing a recording is an entry first; who may not review does not see it.
func TestRecordingPage(t *testing.T) {
	f := start(t)
	alice, bob, sam := f.as(t, "alice"), f.as(t, "bob"), f.as(t, "sam")
	sess, stop := f.running(t, alice, bob)
	alice.get("/sessions").want(t, 200, "1 session is live", "Kill")
	_ = stop()
	until(t, "the session has ended", func() bool { return strings.Contains(sam.get("/sessions").body, "No session is live") })
	path := "/recordings/" + sess.ID()
	for _, who := range []*browser{alice, bob} {
		if a := who.get(path); a.status != 403 && a.status != 404 {
			t.Errorf("somebody without the right sees the recording: %d", a.status)
		}
		if a := who.api("GET", "/api/v1"+path, "", nil); a.status != 403 && a.status != 404 {
			t.Errorf("somebody without the right reads the recording: %d", a.status)
		}
	}
	if n := f.viewed(t); n != 0 {
		t.Fatalf("%d viewings before any", n)
	}
	sam.get("/recordings").want(t, 200, path)
	page := sam.get(path).want(t, 200, "2 statements, 1 error, 1 rows out", "25006 read-only transaction", "$1 = x\\u{1b}[31m", "$2 = null", "Untouched", "<rect", "Your viewing is on the record")
	page.lacks(t, "<script>alert", "\x1b")
	if n := f.viewed(t); n != 1 {
		t.Errorf("%d viewings after one", n)
	}
	lines := sam.api("GET", "/api/v1"+path, "", nil).want(t, 200, `"sqlstate":"25006"`)
	if lines.header.Get("Content-Type") != "application/x-ndjson" {
		t.Error("not newline JSON")
	}
	sam.api("GET", "/api/v1"+path+"/verify", "", nil).want(t, 200, `"status":"verified"`)
	if n := f.viewed(t); n != 3 {
		t.Errorf("%d viewings after three", n)
	}
}

func TestKillFromAnotherBrowser(t *testing.T) {
	f := start(t)
	alice, bob, sam := f.as(t, "alice"), f.as(t, "bob"), f.as(t, "sam")
	sess, stop := f.running(t, alice, bob)
	f.as(t, "carol").post("/sessions/"+sess.ID()+"/kill").want(t, 404)
	sam.post("/sessions/"+sess.ID()+"/kill", "why", "strange").want(t, 200, "it was killed")
	if err := stop(); err == nil || !strings.Contains(err.Error(), "this session was ended by sam@example.com") {
		t.Errorf("the client was told %v", err)
	}
}

func TestDisabledUserIsOut(t *testing.T) {
	f := start(t)
	alice, sam := f.as(t, "alice"), f.as(t, "sam")
	token := f.login(t, "alice")
	id := f.idp.URL() + "#alice"
	sam.post("/users/disable", "user", id, "why", "left").want(t, 200, "disabled")
	alice.api("GET", "/api/v1/whoami", "", nil).want(t, 401)
	alice.api("GET", "/api/v1/whoami", token, nil).want(t, 401)
	again := f.browser(t)
	again.signIn("/login", "alice").want(t, 403, "disabled at this gate")
	if again.cookie(cookieName) != "" {
		t.Error("a disabled user has a cookie")
	}
	sam.post("/users/enable", "user", id).want(t, 200)
	again.signIn("/login", "alice").want(t, 200, "alice")
}

func TestLogPage(t *testing.T) {
	f := start(t)
	sam := f.as(t, "sam")
	sam.get("/log").want(t, 200, "user.signed-in", "gate.started", "test.example/audit")
	out := decode[struct {
		Entries []struct{ Index int64 }
		Next    int64
	}](t, sam.api("GET", "/api/v1/log/entries?from=1&limit=1", "", nil).want(t, 200))
	if len(out.Entries) != 1 || out.Entries[0].Index != 1 || out.Next != 2 {
		t.Errorf("%+v", out)
	}
	sam.api("GET", "/api/v1/log", "", nil).want(t, 200, `"size":`)
	for _, bad := range []string{"from=-1", "from=x", "limit=0", "limit=501"} {
		sam.api("GET", "/api/v1/log/entries?"+bad, "", nil).want(t, 422)
	}
}

// Errors come from one place: a page for browsers, RFC 9457 for the rest.
func TestErrorsByAudience(t *testing.T) {
	f := start(t)
	b := f.browser(t)
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if a := b.get("/requests/x?for=15"); a.status != 303 || a.header.Get("Location") != "/login?to=%2Frequests%2Fx%3Ffor%3D15" {
		t.Errorf("a browser without a sign-in: %d %s", a.status, a.header.Get("Location"))
	}
	b.post("/requests/x").want(t, 401, `href="/login"`)
	plain := b.do("GET", "/requests/x", nil, map[string]string{"Accept": "*/*"}).want(t, 401, `"open":"`+f.base+"/login", "You are not signed in.")
	if plain.header.Get("Content-Type") != "application/problem+json" || plain.header.Get("WWW-Authenticate") == "" {
		t.Errorf("headers %v", plain.header)
	}
	b.get("/nothing").want(t, 404, "There is no such page.")
	if a := b.post("/grants").want(t, 405, "takes GET only"); a.header.Get("Allow") != "GET" {
		t.Error("no Allow")
	}
	b.get("/api/v1/nothing").want(t, 404, `"status":404`)
	if a := b.get("/static/style.css"); a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/css") {
		t.Error("no style sheet")
	}
}

// A gate that stops says so, and what is asked of it meanwhile comes to nothing.
func TestStoppedGate(t *testing.T) {
	f := start(t)
	alice := f.as(t, "alice")
	f.browser(t).get("/readyz").want(t, 200, "ok")
	fatal(t, f.gate.Stop(t.Context(), 0))
	f.browser(t).get("/readyz").want(t, 503, "Not ready")
	f.browser(t).get("/healthz").want(t, 503, "The gate has stopped")
	alice.post("/requests/new", "access", "orders as reader", "reason", "INC-5").want(t, 503, "The gate is stopping")
}

func TestBudgets(t *testing.T) {
	assets, err := loadAssets()
	fatal(t, err)
	for name, most := range map[string]int{"style.css": 12 << 10, "app.js": 30 << 10} {
		if n := len(assets[name].body); n == 0 || n > most {
			t.Errorf("%s has %d bytes, of %d", name, n, most)
		}
	}
}
