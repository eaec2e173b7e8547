package ssh

import (
	"bytes"
	"sync"
)

// tty follows a terminal's output just far enough to know when it can be written to:
// not inside an escape sequence or a character, and whether a full-screen program has
// the alternate screen. Its own mutex guards the echo, which input uses too.
type tty struct {
	state ttyState
	param []byte // of the control sequence that is being read
	runes int    // bytes that the character being read still lacks
	alt   bool
	drawn bool // the cursor is hidden: a program draws the screen

	mu    sync.Mutex
	input bool // what is typed shall be recorded
	line  []byte
	seen  int      // how much of line the output has shown, in order
	lines [][]byte // finished lines that wait for the rest of their echo
}

type ttyState int

const (
	ground ttyState = iota
	escape
	control // ESC [ ...
	text    // ESC ] ... and other strings, which end with BEL or ESC \
	textEnd
)

func newTTY(input bool) *tty { return &tty{input: input} }

// see follows output that goes to the terminal.
func (t *tty) see(data []byte) {
	for len(data) > 0 {
		if t.state == ground && t.runes == 0 {
			// Most output is plain: find the next byte that is not.
			n := bytes.IndexFunc(data, func(r rune) bool { return r == 0x1b || r >= 0x80 })
			if n < 0 {
				return
			}
			data = data[n:]
		}
		t.step(data[0])
		data = data[1:]
	}
}

func (t *tty) step(c byte) {
	switch t.state {
	case ground:
		switch {
		case c == 0x1b:
			t.state, t.runes = escape, 0
		case c >= 0xf0:
			t.runes = 3
		case c >= 0xe0:
			t.runes = 2
		case c >= 0xc0:
			t.runes = 1
		case c >= 0x80 && t.runes > 0:
			t.runes--
		default:
			t.runes = 0
		}
	case escape:
		switch {
		case c == '[':
			t.state, t.param = control, t.param[:0]
		case c == ']', c == 'P', c == '_', c == '^', c == 'X':
			t.state = text
		case c >= 0x20 && c <= 0x2f:
			// an intermediate byte; the final one follows
		default:
			t.state = ground
		}
	case control:
		switch {
		case c == 0x1b:
			t.state = escape
		case c >= 0x40 && c <= 0x7e:
			t.mode(c)
			t.state = ground
		case len(t.param) < 32:
			t.param = append(t.param, c)
		}
	case text:
		switch c {
		case 0x07:
			t.state = ground
		case 0x1b:
			t.state = textEnd
		}
	case textEnd:
		t.state = ground
	}
}

// mode follows DECSET and DECRST of the alternate screen, and of the cursor.
func (t *tty) mode(final byte) {
	if (final != 'h' && final != 'l') || len(t.param) == 0 || t.param[0] != '?' {
		return
	}
	for _, one := range bytes.Split(t.param[1:], []byte{';'}) {
		switch string(one) {
		case "47", "1047", "1049":
			t.alt = final == 'h'
		case "25":
			t.drawn = final == 'l'
		}
	}
}

// words dresses a line for the terminal as it is now. On the usual screen it is a
// line of its own, as wall(1) writes. A full-screen program does not know that a line
// was drawn over it and would leave it there, so it gets the line as the window's
// title (OSC 2), which no program draws in; so does one that hides the cursor to draw.
// Inside an escape sequence or a character nothing can be said.
func (t *tty) words(line string) string {
	if t.state != ground || t.runes > 0 {
		return ""
	}
	if t.alt || t.drawn {
		return "\x1b]2;" + line + "\x07"
	}
	return "\r\n" + line + "\r\n"
}

// leave brings the terminal back to where last words can be read: out of whatever
// sequence was cut, off the alternate screen, with a cursor and its own colours.
func (t *tty) leave() string {
	const plainText = "\x1b[0m\x1b[?25h"
	s := ""
	if t.state != ground {
		s = "\x1b\\"
	}
	if t.alt {
		s += "\x1b[?1049l"
	}
	if s == "" && !t.drawn {
		return ""
	}
	return s + plainText
}

// typed keeps what the user types until the terminal has shown it. What is never
// shown is dropped: it may be a password.
func (t *tty) typed(data []byte) {
	if !t.input {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 4096 // a longer line is no typing
	for _, c := range data {
		switch {
		case c == '\r' || c == '\n':
			t.lines = append(t.lines, append([]byte(nil), t.line...))
			t.line = t.line[:0]
		case c == 0x7f || c == 0x08:
			t.line = t.line[:max(0, len(t.line)-1)]
			t.seen = min(t.seen, len(t.line))
		case c < 0x20:
			t.line, t.seen = t.line[:0], 0 // keys that edit: what the line is then only the output says
		case len(t.line) < most:
			t.line = append(t.line, c)
		}
	}
	if len(t.lines) > 64 {
		t.lines = t.lines[len(t.lines)-64:]
	}
}

// echoed compares output with what was typed, and returns the lines that were shown
// in whole before the output moved to its next line.
func (t *tty) echoed(data []byte) (lines [][]byte) {
	if !t.input {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range data {
		waiting := t.line
		if len(t.lines) > 0 {
			waiting = t.lines[0]
		}
		switch {
		case t.seen < len(waiting) && c == waiting[t.seen]:
			t.seen++
		case c == '\n' && len(t.lines) > 0:
			if t.seen == len(waiting) {
				lines = append(lines, append(append([]byte(nil), waiting...), '\r'))
			}
			t.lines, t.seen = t.lines[1:], 0
		}
	}
	return lines
}
