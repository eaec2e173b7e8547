package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/chromiumtest"
	"github.com/sallyport/sallyport/session"
)

// drawn is a session on a machine, by the lines of its recording.
func (f *fixture) drawn(t *testing.T, alice *browser, tracks ...audit.Track) (id string) {
	t.Helper()
	c := f.connect(t, "web-1", "deploy", "127.0.0.1:5000")
	alice.get(c.link).want(t, 200)
	alice.post(c.link, "phrase", c.phrase).want(t, 200)
	fatal(t, c.wait(t))
	fatal(t, c.sess.Run(t.Context(), func(_ context.Context, up *session.Upstream) error {
		var err error
		for _, track := range tracks {
			err = errors.Join(err, up.Recorder().Write(track))
		}
		return err
	}))
	return c.sess.ID()
}

// twoChannels is a shell on a terminal and a command beside it, a file and a forward.
func twoChannels() []audit.Track {
	at := time.Now().Add(-time.Minute)
	after := func(d time.Duration) time.Time { return at.Add(d) }
	return []audit.Track{
		audit.Note{Text: `channel 1: TERM="xterm-256color"`},
		audit.Terminal{Code: "m", Data: []byte("channel 1")},
		audit.Terminal{Code: "r", Data: []byte("90x20")},
		audit.Query{At: at, N: 1, Kind: "shell"},
		audit.Query{At: after(time.Second), N: 2, Kind: "exec", SQL: "deploy --now <b>"},
		audit.Terminal{At: after(time.Second), Code: "o", Data: []byte("\x1b[1mhello from the terminal\x1b[0m \xe6\xbc")},
		audit.Terminal{Code: "m", Data: []byte("channel 2")},
		audit.Terminal{At: after(time.Second), Code: "i", Data: []byte("yes\n")},
		audit.Terminal{At: after(time.Second), Code: "o", Data: []byte("a\nb\n")},
		audit.QueryDone{N: 2, Tag: "3", Bytes: 4, Took: time.Second},
		audit.Terminal{Code: "m", Data: []byte("channel 1")},
		audit.Terminal{At: after(1100 * time.Millisecond), Code: "o", Data: []byte("\xa2\r\n")},
		audit.Terminal{At: after(1200 * time.Millisecond), Code: "x", Data: []byte("0")},
		audit.Piece{N: 1, Data: []byte("hello \x00")},
		audit.Piece{N: 2, Data: []byte("tampered")},
		audit.Piece{N: 1, Offset: 7, Data: []byte("\xffworld")},
		audit.File{Name: "/srv/naïve.txt", Direction: "up", Size: 13, SHA256: digestOf("hello \x00\xffworld"), N: 1},
		audit.File{Name: "/srv/tampered", Direction: "up", Size: 8, SHA256: digestOf("what was moved"), N: 2},
		audit.File{Name: "/srv/pieces", Direction: "up", Size: 8, N: 3},
		audit.File{Name: "/etc/<motd>", Direction: "up", Size: 1234, SHA256: "c0ffee"},
		audit.Query{N: 3, Kind: "forward", SQL: "db:5432"},
		audit.QueryDone{N: 3, Tag: "closed", Bytes: 77},
		audit.QueryDone{N: 1, Tag: "0", Bytes: 30, Took: 2 * time.Second},
	}
}

func TestRecordingOfTerminals(t *testing.T) {
	f := start(t)
	alice, sam := f.as(t, "alice"), f.as(t, "sam")
	path := "/recordings/" + f.drawn(t, alice, twoChannels()...)
	sam.get(path).want(t, 200, "a shell", "deploy --now &lt;b&gt;", "ended: 3", "to the target", "/etc/&lt;motd&gt;", "c0ffee", "1234", "from the target to", "db:5432", "77", `href="`+path+`/cast/1"`).
		lacks(t, "rows out", "hello from the terminal")
	shell := sam.get(path+"/cast/1").want(t, 200, `"term":{"cols":90,"rows":20,"type":"xterm-256color"}`, `"title":"alice on web-1 as deploy"`)
	if got := shell.header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment; ") || shell.header.Get("Content-Type") != "application/x-asciicast" {
		t.Errorf("%q, %q", got, shell.header.Get("Content-Type"))
	}
	if got := played(t, shell.body); got != "\x1b[1mhello from the terminal\x1b[0m 漢\r\n" {
		t.Errorf("it plays %q", got)
	}
	if got := played(t, sam.get(path+"/cast/2").want(t, 200, `"command":"deploy --now <b>"`).body); got != "\x1b[2myes\r\n\x1b[22ma\r\nb\r\n" {
		t.Errorf("the command plays %q", got)
	}
	for _, n := range []string{"3", "4", "x", "-1"} {
		sam.get(path+"/cast/"+n).want(t, 404, "There is no such terminal in this recording")
	}
	if a := alice.get(path + "/cast/1"); a.status != 403 && a.status != 404 {
		t.Errorf("somebody without the right gets the cast: %d", a.status)
	}
	if n := f.viewed(t); n < 3 {
		t.Errorf("%d viewings", n)
	}
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// What the policy had recorded of a file is a download, for whoever may see the recording.
func TestRecordingOfFiles(t *testing.T) {
	f := start(t)
	alice, sam := f.as(t, "alice"), f.as(t, "sam")
	path := "/recordings/" + f.drawn(t, alice, twoChannels()...)
	sam.get(path).want(t, 200, `href="`+path+`/file/1"`).lacks(t, path+`/file/3"`, path+`/file/0"`)
	viewed := f.viewed(t)
	a := sam.get(path+"/file/1").want(t, 200)
	if a.body != "hello \x00\xffworld" || !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment; filename*=utf-8''na%C3%AFve.txt") || a.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%q, %v", a.body, a.header)
	}
	if f.viewed(t) != viewed+1 {
		t.Error("the download is not on the record")
	}
	for _, n := range []string{"0", "3", "4", "x", "-1"} {
		sam.get(path+"/file/"+n).want(t, 404, "The bytes of this file are not on the record")
	}
	if a := alice.get(path + "/file/1"); a.status != 403 && a.status != 404 {
		t.Errorf("somebody without the right gets the file: %d", a.status)
	}
	// What is not what was moved does not look like the end of a file.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.base+path+"/file/2", nil)
	fatal(t, err)
	reply, err := sam.client.Do(request)
	if err == nil {
		_, err = io.ReadAll(reply.Body)
		_ = reply.Body.Close() // read to its end
	}
	if err == nil {
		t.Error("a file that is not what was moved is sent whole")
	}
}

// played is the output of an asciicast.
func played(t *testing.T, cast string) (text string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(cast), "\n")
	for _, line := range lines[1:] {
		var e []any
		fatal(t, json.Unmarshal([]byte(line), &e))
		if e[1] == "o" {
			text += e[2].(string) //nolint:forcetypeassert // by the format
		}
	}
	return text
}

// The player is npm's, brought by make: without it the page offers the file.
func TestTerminalPlaysInABrowser(t *testing.T) {
	f := start(t)
	alice, sam := f.as(t, "alice"), chromiumtest.Start(t)()
	path := "/recordings/" + f.drawn(t, alice, twoChannels()...)
	f.enter(t, sam, path, "sam")
	if !f.web.player() {
		t.Log("the player is not built in; make player brings it")
		chromiumtest.Run(t, sam, "the page says so", shows("This gate was built without the player"))
		if script(t, sam, `document.querySelector("button[data-play]").checkVisibility()`) {
			t.Error("a button for a player that is not there")
		}
		return
	}
	chromiumtest.Run(t, sam, "play", chromiumtest.Click(`button[data-play$="/cast/1"]`),
		chromedp.WaitVisible(chromedp.CSS(`.ap-player`)), shows("hello from the terminal"), shows("漢"))
	look(t, sam, "terminal")
	if other := f.as(t, "sam").get("/recordings"); strings.Contains(other.header.Get("Content-Security-Policy"), "wasm") {
		t.Error("a page without a terminal lets WebAssembly run")
	}
}
