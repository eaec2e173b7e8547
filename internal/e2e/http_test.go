package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

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
	clock := alice.usesDemo(t)
	eventually(t, "the cut", func() bool {
		p = alice.get(t, d.App+"/")
		return p.status != http.StatusOK
	})
	for err := error(nil); err == nil; {
		_, _, err = clock.ReadMessage()
		var closed *websocket.CloseError
		if err != nil && (!errors.As(err, &closed) || closed.Code != websocket.ClosePolicyViolation || !strings.Contains(closed.Text, "your access to app ended at")) {
			t.Errorf("the clock ended with %v", err)
		}
	}
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
	d.verifies(t)
}

// usesDemo uses what the demo's application has beside its form: the API that says what it
// was sent, the stream of events and the clock, whose websocket it returns.
func (b *browser) usesDemo(t *testing.T) *websocket.Conn {
	t.Helper()
	send := func(method, path string, body io.Reader) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, b.d.App+path, body)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := b.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	answer := send(http.MethodPut, "/api/echo?a=b", strings.NewReader("body"))
	defer answer.Body.Close()
	var echo struct {
		Method, Path, Body string
		Headers            http.Header
		Caller             struct{ Email, Role string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&echo); err != nil {
		t.Fatal(err)
	}
	if echo.Method != http.MethodPut || echo.Path != "/api/echo?a=b" || echo.Body != "body" || echo.Caller.Email != b.email || echo.Caller.Role != "user" || echo.Headers["Cookie"] != nil {
		t.Errorf("the application was sent %+v", echo)
	}
	events := send(http.MethodGet, "/events", nil)
	defer events.Body.Close()
	if line, err := bufio.NewReader(events.Body).ReadString('\n'); err != nil || line != "id: 1\n" {
		t.Errorf("the stream says %q, %v", line, err)
	}
	transport := b.http.Transport.(*http.Transport) //nolint:forcetypeassert // ours
	dialer := websocket.Dialer{TLSClientConfig: transport.TLSClientConfig, NetDialContext: transport.DialContext, Jar: b.http.Jar}
	clock, upgraded, err := dialer.DialContext(t.Context(), "wss"+strings.TrimPrefix(b.d.App, "https")+"/clock", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = upgraded.Body.Close()
	t.Cleanup(func() { _ = clock.Close() })
	if _, text, err := clock.ReadMessage(); err != nil || !strings.HasSuffix(string(text), " UTC") {
		t.Errorf("the clock says %q, %v", text, err)
	}
	return clock
}
