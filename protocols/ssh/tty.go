package ssh

import "bytes"

// tty follows a terminal's output just far enough to know when it can be written to:
// not inside an escape sequence or a character, and whether a full-screen program has
// the alternate screen.
type tty struct {
	state ttyState
	param []byte // of the control sequence that is being read
	runes int    // bytes that the character being read still lacks
	alt   bool
	drawn bool // the cursor is hidden: a program draws the screen
}

type ttyState int

const (
	ground ttyState = iota
	escape
	control // ESC [ ...
	text    // ESC ] ... and other strings, which end with BEL or ESC \
	textEnd
)

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
