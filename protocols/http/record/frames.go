package record

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/proxy"
)

// Opcodes of frames (RFC 6455, section 5.2); from opClose on they are of control.
const (
	opMore   = 0
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

var opcodes = map[byte]string{opText: "text", opBinary: "binary", opClose: "close", opPing: "ping", opPong: "pong"}

// Frames follows one direction of a websocket (RFC 6455, section 5.2) as a
// proxy.Observer. Frames go on unchanged.
type Frames struct {
	Count int64 // of frames whose heads have passed
	Bytes int64

	head  [14]byte
	have  int    // bytes of head
	left  uint64 // bytes of the payload that are to come
	shown int    // bytes of the frame that were shown
	tape  *messages
}

// Frames follows one direction of the websocket of request n, "up" or "down", and
// records its messages where they are asked for.
func (r *Rules) Frames(to *audit.Recorder, n int64, direction string) *Frames {
	f := &Frames{}
	if r.o.Messages {
		f.tape = &messages{rules: r, to: to, n: n, direction: direction}
	}
	return f
}

// Observe implements proxy.Observer. The last bytes of a message are shown to the
// recording before they go on.
func (f *Frames) Observe(p []byte) (proxy.Verdict, error) {
	f.Bytes += int64(len(p))
	for len(p) > 0 {
		if f.left > 0 {
			n := int(min(uint64(len(p)), f.left))
			f.left -= uint64(n)
			f.shown += n
			f.tape.payload(p[:n])
			p = p[n:]
			if err := f.endFrame(); err != nil {
				return proxy.Pass, err
			}
			continue
		}
		f.head[f.have] = p[0]
		f.have++
		f.shown++
		p = p[1:]
		if f.have < 2 || f.have < f.size() {
			continue
		}
		f.left = f.length()
		f.Count++
		if f.left > 1<<62 {
			return proxy.Pass, fmt.Errorf("a websocket frame of %d bytes", f.left)
		}
		if err := f.tape.begin(f.head[:f.have]); err != nil {
			return proxy.Pass, err
		}
		f.have = 0
		if err := f.endFrame(); err != nil {
			return proxy.Pass, err
		}
	}
	return proxy.Pass, nil
}

func (f *Frames) endFrame() error {
	if f.left > 0 {
		return nil
	}
	f.shown = 0
	return f.tape.end()
}

// size is how long the frame's head is.
func (f *Frames) size() int {
	n := 2
	switch f.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&0x80 != 0 {
		n += 4
	}
	return n
}

func (f *Frames) length() uint64 {
	switch n := f.head[1] & 0x7f; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.head[2:])
	default:
		return uint64(n)
	}
}

// Tail implements proxy.Observer.
func (f *Frames) Tail() int { return f.shown }

// Close records what there is of a message that never came to its end.
func (f *Frames) Close() error {
	if f.tape == nil || f.tape.open.kind == 0 {
		return nil
	}
	return f.tape.write(&f.tape.open, false)
}

// messages records one direction's messages. A nil *messages records nothing.
type messages struct {
	rules     *Rules
	to        *audit.Recorder
	n         int64
	direction string

	open    message  // of data, over several frames
	control message  // may come between two frames of a message
	now     *message // whose frame it is
	last    bool     // the frame ends its message
	masked  bool
	mask    [4]byte
	at      int // in the frame's payload
}

type message struct {
	kind byte // its opcode; 0: there is none
	text []byte
	size int64
}

var errFrames = errors.New("the websocket's frames are not in order, and its messages are recorded")

// begin looks at a frame's head. Bits of extensions are refused: none was agreed on, and
// what they do to the payload is not known here.
func (m *messages) begin(head []byte) error {
	if m == nil {
		return nil
	}
	opcode := head[0] & 0x0f
	m.last, m.at = head[0]&0x80 != 0, 0
	if m.masked = head[1]&0x80 != 0; m.masked {
		copy(m.mask[:], head[len(head)-4:])
	}
	switch {
	case head[0]&0x70 != 0:
		return errFrames
	case opcode == opMore && m.open.kind != 0:
		m.now = &m.open
	case (opcode == opText || opcode == opBinary) && m.open.kind == 0:
		m.now = &m.open
		m.now.kind = opcode
	case opcode >= opClose && opcodes[opcode] != "" && m.last && m.control.kind == 0:
		m.now = &m.control
		m.now.kind = opcode
	default:
		return errFrames
	}
	return nil
}

func (m *messages) payload(p []byte) {
	if m == nil {
		return
	}
	m.now.size += int64(len(p))
	keep := p[:max(0, min(len(p), m.rules.o.Largest-len(m.now.text)))]
	from := len(m.now.text)
	m.now.text = append(m.now.text, keep...)
	if m.masked {
		for i := range keep {
			m.now.text[from+i] ^= m.mask[(m.at+i)%4]
		}
	}
	m.at += len(p)
}

func (m *messages) end() error {
	if m == nil || !m.last {
		return nil
	}
	return m.write(m.now, true)
}

func (m *messages) write(of *message, whole bool) error {
	line := audit.Message{N: m.n, Direction: m.direction, Kind: opcodes[of.kind], Size: of.size}
	whole = whole && of.size == int64(len(of.text))
	text, left, err := m.rules.redact("", "", of.text, whole)
	line.Text, line.Hidden, line.Cut = text, left, !whole || err != nil
	*of = message{}
	return m.to.Write(&line)
}
