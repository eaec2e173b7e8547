package ssh

import (
	"strings"
	"sync"
)

// echo finds the typed lines that the terminal showed as they were typed. What is not
// shown may be a password, so a line counts only where nothing but its echo came, from
// its first key to the line break behind its last: byte by byte as typed, for a key that
// rubs out what a terminal or readline(3) sends, and between two keys how readline goes on
// at the terminal's left side. Any other byte between, such as the
// output of a program or what redraws the line, and any key that edits, and the line is
// not recorded. Whatever was shown is on the record as it was drawn.
type echo struct {
	mu   sync.Mutex
	want []byte // keys whose echo has not come yet, in their order
	part []byte // of the echo of the first of them
	line []byte // what was shown of the line that is being typed
	lost bool   // that line does not count, up to the key that ends it
}

// mostTyped is how many bytes may wait for their echo, or be one line: more is no typing.
const mostTyped = 4096

const (
	keyCancel  = 0x03 // Ctrl-C ends a line unused
	keyRubOut  = 0x7f
	keyRubOut2 = 0x08
)

// wrap is what readline writes behind the last column, before the next key's echo.
const wrap = " \r"

func endsLine(key byte) bool { return key == '\r' || key == '\n' || key == keyCancel }

func rubsOut(key byte) bool { return key == keyRubOut || key == keyRubOut2 }

// typed takes keys on their way to the target.
func (e *echo) typed(keys []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, key := range keys {
		switch {
		case !e.lost:
			e.want = append(e.want, key)
			if len(e.want) > mostTyped {
				e.lose()
			}
		case endsLine(key):
			e.lost = false
		}
	}
}

// shown takes output on its way to the terminal, and returns the lines that it completes,
// each with CR at its end.
func (e *echo) shown(data []byte) (lines [][]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range data {
		for len(e.line) == 0 && len(e.want) > 0 && rubsOut(e.want[0]) {
			e.want = e.want[1:] // nothing is there to be rubbed out, and nothing is shown
		}
		if len(e.line) == 0 && len(e.want) == 0 {
			break // nobody types
		}
		e.part = append(e.part, c)
		whole, begun := e.awaited()
		switch {
		case whole:
			if line := e.take(); len(line) > 0 {
				lines = append(lines, append(line, '\r'))
			}
		case !begun, len(e.line) > mostTyped:
			e.lose()
		}
	}
	return lines
}

// awaited reports whether part is the whole echo of the first key, or its beginning.
func (e *echo) awaited() (whole, begun bool) {
	if len(e.want) == 0 {
		return false, strings.HasPrefix(wrap, string(e.part))
	}
	var echoes []string
	switch key := e.want[0]; {
	case key == '\r' || key == '\n':
		echoes = []string{"\r\n", "\n"}
	case rubsOut(key):
		// How much of a wide character, or of its bytes, one key rubs out is the terminal's.
		if e.line[len(e.line)-1] < 0x80 {
			echoes = []string{"\b \b", "\b\x1b[K"}
		}
	case key >= 0x20:
		one := string([]byte{key})
		echoes = []string{one}
		if len(e.line) > 0 {
			echoes = append(echoes, wrap+one)
		}
	}
	for _, one := range echoes {
		whole = whole || one == string(e.part)
		begun = begun || strings.HasPrefix(one, string(e.part))
	}
	return whole, begun
}

// take takes the first key for shown, and returns the line that it ends.
func (e *echo) take() (line []byte) {
	key := e.want[0]
	e.want, e.part = e.want[1:], e.part[:0]
	switch {
	case endsLine(key):
		line, e.line = e.line, nil
		return line
	case rubsOut(key):
		e.line = e.line[:len(e.line)-1]
	default:
		e.line = append(e.line, key)
	}
	return nil
}

// lose gives up what was typed and not shown, and the line that is being typed.
func (e *echo) lose() {
	e.lost = len(e.want) == 0 || !endsLine(e.want[len(e.want)-1])
	e.want, e.part, e.line = nil, nil, nil
}
