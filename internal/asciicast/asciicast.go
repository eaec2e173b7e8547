// Package asciicast writes what a terminal drew as an asciicast, version 3
// (docs.asciinema.org/manual/asciicast/v3), which players read.
//
// An asciicast is JSON, so it holds text. Bytes that are the beginning of a character
// wait for the rest of it, however a program's output was cut; bytes that are no UTF-8
// at all are shown as U+FFFD. Everything else is played as it was written.
package asciicast

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Codes of events.
const (
	Output = "o"
	Input  = "i"
	Resize = "r" // "80x24"
	Marker = "m"
	Exit   = "x" // the status as a number
)

// A Header says what the terminal was.
type Header struct {
	Columns, Rows int       // at the beginning; zero: 80x24
	Type          string    // TERM
	Began         time.Time // when the first event is counted from
	Title         string
	Command       string
}

// A Writer writes the events of one terminal.
type Writer struct {
	to    io.Writer
	last  time.Time // of the event before
	raw   bool
	parts map[string]string // of characters that are not whole, by stream
}

// New writes the header. raw says that the bytes come from a terminal; those of a
// program without one get a CR before each LF, as the terminal they are shown on does.
func New(to io.Writer, h Header, raw bool) (*Writer, error) {
	type term struct {
		Columns int    `json:"cols"`
		Rows    int    `json:"rows"`
		Type    string `json:"type,omitempty"`
	}
	h.Columns, h.Rows = bounded(h.Columns, h.Rows)
	w := &Writer{to: to, last: h.Began, raw: raw, parts: map[string]string{}}
	return w, w.line(struct {
		Version   int    `json:"version"`
		Term      term   `json:"term"`
		Timestamp int64  `json:"timestamp"`
		Title     string `json:"title,omitempty"`
		Command   string `json:"command,omitempty"`
	}{3, term{h.Columns, h.Rows, h.Type}, h.Began.Unix(), h.Title, h.Command})
}

// bounded is a size that players take: they hold 16 bits, and fail on more.
func bounded(columns, rows int) (c, r int) {
	const most = 1000
	if columns <= 0 || rows <= 0 {
		return 80, 24
	}
	return min(columns, most), min(rows, most)
}

// Event writes an event. stream tells apart what is drawn on one terminal from several
// sides, such as a program's two outputs: a character is never made of both.
func (w *Writer) Event(at time.Time, code, stream string, data []byte) error {
	text := string(data)
	if code == Resize {
		var columns, rows int
		if _, err := fmt.Sscanf(text, "%dx%d", &columns, &rows); err != nil {
			return fmt.Errorf("read a terminal's size: %w", err)
		}
		columns, rows = bounded(columns, rows)
		text = fmt.Sprintf("%dx%d", columns, rows)
	}
	if code == Output || code == Input {
		text = w.parts[code+stream] + text
		whole := wholeRunes(text)
		w.parts[code+stream] = text[whole:]
		text = strings.ToValidUTF8(text[:whole], "\ufffd")
		if text == "" {
			return nil
		}
		if code == Output && !w.raw {
			text = strings.ReplaceAll(text, "\n", "\r\n")
		}
	}
	after := max(0, at.Sub(w.last))
	w.last = w.last.Add(after)
	return w.line([]any{json.Number(fmt.Sprintf("%.6f", after.Seconds())), code, text})
}

// wholeRunes is how much of text is not the beginning of a character that may go on.
func wholeRunes(text string) int {
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		c := text[len(text)-back]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRuneInString(text[len(text)-back:]) {
				return len(text) - back
			}
			break
		}
	}
	return len(text)
}

func (w *Writer) line(v any) error {
	e := json.NewEncoder(w.to)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
