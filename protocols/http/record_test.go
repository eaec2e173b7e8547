package http

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
)

const recordAll = `record {
      headers  = ["User-Agent", "X-Kind", "Cookie"]
      bodies   = ["application/json", "text/plain"]
      messages = true
      largest  = 1000
      secrets  = ["password", "token"]
    }
    websocket = true`

func packed(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.String()
}

// send makes a request with a body; head is "Name: value".
func send(t testing.TB, c *http.Client, address, body string, head ...string) said {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	must(t, err)
	for _, line := range head {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	res, err := c.Do(r)
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return said{res.StatusCode, res.Header, string(text)}
}

// What the policy asks for is on the record, without what it names as secret; what
// cannot be read does not pass.
func TestBodiesAreRecorded(t *testing.T) {
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Kind", "echo")
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		switch r.URL.Path {
		case "/br":
			w.Header().Set("Content-Encoding", "br")
		case "/packed":
			w.Header().Set("Content-Encoding", "gzip")
			body = []byte(packed(string(body)))
		case "/accept":
			body = []byte("<" + r.Header.Get("Accept-Encoding") + ">")
		}
		_, _ = w.Write(body)
	})
	w := newWorld(t, app, options{extra: recordAll})
	by := w.SignIn(t, gatetest.Alice)
	c := w.client(t, false, w.certificate(t, by))
	const secret = `{"user":"alice","password":"hunter2"}`
	json, long := "Content-Type: application/json", strings.Repeat("long ", 1000)
	for _, one := range []struct {
		path, body string
		head       []string
		status     int
		words      string
	}{
		{"/a?token=hunter2&b=c", secret, []string{json, "User-Agent: tester", "Cookie: a=b"}, 200, "hunter2"},
		{"/packed", packed(secret), []string{json, "Content-Encoding: gzip"}, 200, "\x1f\x8b"},
		{"/long", long, []string{"Content-Type: text/plain"}, 200, long},
		{"/other", "octets", []string{"Content-Type: application/octet-stream"}, 200, "octets"},
		{"/a", "\x0b\x02", []string{json, "Content-Encoding: br"}, 415, "with gzip or deflate"},
		{"/a", packed(secret), []string{json, "Content-Encoding: gzip", "Content-Encoding: gzip"}, 415, "with gzip or deflate"},
		{"/a", "no gzip", []string{json, "Content-Encoding: gzip"}, 400, "not of the form"},
		{"/a", `{password:"hunter2"}`, []string{json}, 400, "not of the form"},
		{"/a", secret, []string{"Content-Type: application/octet-stream", json}, 400, "not of the form"},
		{"/br", "{}", []string{json}, 502, "encoding that cannot be recorded"},
		{"/accept", "x", []string{"Content-Type: text/plain", "Accept-Encoding: br, GZIP;q=0.5, zstd, *"}, 200, "<GZIP;q=0.5>"},
	} {
		if s := send(t, c, w.app+one.path, one.body, one.head...); s.status != one.status || !strings.Contains(s.body, one.words) {
			t.Errorf("%s: %d %q", one.path, s.status, s.body)
		}
	}
	w.end(t, gatetest.Alice)
	got := w.record(t, by)
	if strings.Contains(got.raw, "hunter2") {
		t.Errorf("a secret is recorded: %s", got.raw)
	}
	if head := fmt.Sprint(got.requests[0].Headers, got.done[0].Headers); head != "[{User-Agent tester} {Cookie (hidden)}] [{X-Kind echo}]" || got.requests[0].Path != "/a?token=(hidden)&b=c" {
		t.Errorf("recorded %s of %s", head, got.requests[0].Path)
	}
	const clean = `{"user":"alice","password":"(hidden)"}`
	sum := func(s string) string { b := sha256.Sum256([]byte(s)); return hex.EncodeToString(b[:]) }
	gz := packed(secret)
	want := []audit.Body{
		{N: 1, Direction: "up", Type: "application/json", Text: clean, Size: int64(len(secret)), SHA256: sum(secret), Hidden: 1},
		{N: 1, Direction: "down", Type: "application/json", Text: clean, Size: int64(len(secret)), SHA256: sum(secret), Hidden: 1},
		{N: 2, Direction: "up", Type: "application/json", Encoding: "gzip", Text: clean, Size: int64(len(gz)), SHA256: sum(gz), Hidden: 1},
		{N: 2, Direction: "down", Type: "application/json", Encoding: "gzip", Size: int64(len(packed(gz))), SHA256: sum(packed(gz)), Cut: true}, // packed twice
		{N: 3, Direction: "up", Type: "text/plain", Text: long[:1000], Cut: true},
		{N: 3, Direction: "down", Type: "text/plain", Text: long[:1000], Size: int64(len(long)), SHA256: sum(long), Cut: true},
		{N: 3, Direction: "up", Size: int64(len(long)), SHA256: sum(long), Cut: true},
	}
	for i, body := range got.bodies {
		if body.Type == "application/json" && body.Encoding == "gzip" && body.Direction == "down" {
			body.Text, body.Hidden = "", 0
		}
		body.At = audit.Body{}.At
		if i < len(want) && body != want[i] {
			t.Errorf("recorded %+v\nwant     %+v", body, want[i])
		}
	}
	if len(got.bodies) != len(want)+3 { // and of /br and /accept
		t.Errorf("%d bodies are recorded: %s", len(got.bodies), got.raw)
	}
	w.Verify(t)
}

// A body is on the record before any of it reaches the target, and so is a message.
func TestBodiesAreRecordedBefore(t *testing.T) {
	var w *world
	recorded := func(words string) bool {
		list, _ := w.Recordings.List(t.Context(), 10)
		for _, recording := range list {
			for line, err := range recording.Lines(t.Context()) {
				if err == nil && strings.Contains(string(line.Raw), words) {
					return true
				}
			}
		}
		return false
	}
	app := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = fmt.Fprint(rw, recorded(`"text":"unlikely"`))
			return
		}
		socket, err := (&websocket.Upgrader{EnableCompression: true}).Upgrade(rw, r, nil)
		if err != nil {
			return
		}
		defer socket.Close()
		for {
			kind, p, err := socket.ReadMessage()
			if err != nil || socket.WriteMessage(kind, fmt.Appendf(nil, "%v", recorded(fmt.Sprintf(`"size":%d`, len(p))))) != nil {
				return
			}
		}
	})
	w = newWorld(t, app, options{extra: recordAll})
	by := w.SignIn(t, gatetest.Alice)
	send(t, w.client(t, false, w.certificate(t, w.SignIn(t, gatetest.Eve))), w.app+"/", "unlikely", "Content-Type: text/plain").refused(t, http.StatusOK, "true")
	socket := w.dial(t, by, "/", nil)
	for i, message := range []string{`{"password":"hunter2"}`, "\xff\x00", strings.Repeat("m", 70_000)} {
		kind := websocket.TextMessage
		if i == 1 {
			kind = websocket.BinaryMessage
		}
		must(t, socket.WriteMessage(kind, []byte(message)))
		if _, p, err := socket.ReadMessage(); err != nil || string(p) != "true" {
			t.Fatalf("message %d: %q, %v", i, p, err)
		}
	}
	w.end(t, gatetest.Alice)
	_, _, _ = socket.ReadMessage()
	got := w.record(t, by)
	var all []string
	for _, m := range got.messages {
		all = append(all, fmt.Sprintf("%s %s %q %d %v", m.Direction, m.Kind, m.Text[:min(len(m.Text), 30)], m.Size, m.Cut))
	}
	want := []string{
		`up text "{\"password\":\"(hidden)\"}" 22 false`, `down text "true" 4 false`, `up binary "\xff\x00" 2 false`, `down binary "true" 4 false`,
		`up text "` + strings.Repeat("m", 30) + `" 70000 true`, `down text "true" 4 false`,
	}
	if len(all) < len(want) || strings.Join(all[:len(want)], "\n") != strings.Join(want, "\n") || strings.Contains(got.raw, "hunter2") {
		t.Errorf("recorded %s", strings.Join(all, "\n"))
	}
}

// Compressed frames could not be read, so a target that sends them all the same is refused.
func TestRecordedWebsocketsAreNotCompressed(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Sec-Websocket-Extensions"); got != "" {
			t.Errorf("the target was offered %s", got)
		}
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
	}), options{extra: recordAll})
	cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
	w.raw(t, "app.localhost", "GET / HTTP/1.1\r\nHost: "+strings.TrimPrefix(w.app, "https://")+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", cert).
		refused(t, http.StatusBadGateway, "does not answer as it should")
}

// An answer that says that it is JSON and is not goes on, and behind the place where it
// cannot be read nothing is recorded.
func TestAnswersThatAreNoJSON(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"a":"b", password:"hunter2"}`)
	}), options{extra: recordAll})
	by := w.SignIn(t, gatetest.Alice)
	ask(t, w.client(t, false, w.certificate(t, by)), http.MethodGet, w.app+"/").refused(t, http.StatusOK, "hunter2")
	w.end(t, gatetest.Alice)
	if got := w.record(t, by); len(got.bodies) != 1 || !got.bodies[0].Cut || got.bodies[0].Text != `{"a":"b", ` {
		t.Errorf("recorded %s", got.raw)
	}
}

// Where the policy does not ask for messages, their frames are counted, both ways.
func TestFramesAreCounted(t *testing.T) {
	w := newWorld(t, liveApp(t), options{extra: "websocket = true"})
	by := w.SignIn(t, gatetest.Alice)
	socket := w.dial(t, by, "/socket", nil)
	for range 3 {
		must(t, socket.WriteMessage(websocket.TextMessage, []byte("hunter2")))
		if _, p, err := socket.ReadMessage(); err != nil || string(p) != "hunter2" {
			t.Fatalf("%q, %v", p, err)
		}
	}
	w.end(t, gatetest.Alice)
	_, _, _ = socket.ReadMessage()
	got := w.record(t, by)
	if len(got.done) != 1 || got.done[0].Up != 3 || got.done[0].Down != 3 || got.done[0].Status != http.StatusSwitchingProtocols || len(got.messages) > 0 || strings.Contains(got.raw, "hunter2") {
		t.Errorf("recorded %s", got.raw)
	}
}
