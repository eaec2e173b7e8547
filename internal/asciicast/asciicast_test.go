package asciicast_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/asciicast"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestCast(t *testing.T) {
	var b strings.Builder
	w, err := asciicast.New(&b, asciicast.Header{Columns: 100, Rows: 30, Type: "xterm", Began: began, Title: "channel 1", Command: "ls <x>"}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		at           time.Duration
		code, stream string
		data         string
	}{
		{time.Second, "o", "", "a\n漢"[:4]},
		{1500 * time.Millisecond, "o", "stderr", "\x1b[31m!"},
		{2 * time.Second, "o", "", "漢"[2:] + "\xff."},
		{2 * time.Second, "r", "", "80x24"},
		{time.Second, "i", "", "q"}, // a clock that went back
		{3 * time.Second, "x", "", "7"},
	} {
		if err := w.Event(began.Add(e.at), e.code, e.stream, []byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"version":3,"term":{"cols":100,"rows":30,"type":"xterm"},"timestamp":1767323045,"title":"channel 1","command":"ls <x>"}
[1.000000,"o","a\n"]
[0.500000,"o","\u001b[31m!"]
[0.500000,"o","漢�."]
[0.000000,"r","80x24"]
[0.000000,"i","q"]
[1.000000,"x","7"]
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestProgramWithoutATerminal(t *testing.T) {
	var b strings.Builder
	w, err := asciicast.New(&b, asciicast.Header{Began: began}, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Event(began, "o", "", []byte("one\ntwo\n")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), `"cols":80,"rows":24`) || !strings.Contains(b.String(), `"one\r\ntwo\r\n"`) {
		t.Error(b.String())
	}
}

// Players hold a side in 16 bits, and fail on more.
func TestSizesAreBounded(t *testing.T) {
	var b strings.Builder
	w, err := asciicast.New(&b, asciicast.Header{Columns: 4294967295, Rows: 24, Began: began}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []string{"80x70000", "0x0"} {
		if err := w.Event(began, asciicast.Resize, "", []byte(size)); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.String(); !strings.Contains(s, `"cols":1000,"rows":24`) || !strings.Contains(s, `"r","80x1000"]`) || !strings.Contains(s, `"r","80x24"]`) {
		t.Error(s)
	}
}

// FuzzCuts cuts valid text anywhere: what is played is the text.
func FuzzCuts(f *testing.F) {
	f.Add("漢字 é 🎉 \x1b[0m", uint8(2))
	f.Fuzz(func(t *testing.T, text string, size uint8) {
		if !utf8.ValidString(text) {
			return
		}
		var b strings.Builder
		w, err := asciicast.New(&b, asciicast.Header{Began: began}, true)
		if err != nil {
			t.Fatal(err)
		}
		for rest := text; rest != ""; {
			n := min(len(rest), int(size)+1)
			if err := w.Event(began, "o", "", []byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		played := ""
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		for _, line := range lines[1:] {
			var e []any
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			played += e[2].(string)
		}
		if played != text {
			t.Fatalf("%q plays as %q", text, played)
		}
	})
}
