package postgres

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// maxErrorText is how much of a target's error text is recorded, in bytes.
const maxErrorText = 1_000

// down observes what the target sends: it records how statements ended.
type down struct {
	framer
	t     *traffic
	now   time.Time // of the run; zero until something asks
	bye   bool      // the target has said why it ends
	lines <-chan string
	last  func(why error) []byte
}

// Observe implements proxy.Observer.
func (d *down) Observe(p []byte) (proxy.Verdict, error) {
	d.t.mu.Lock()
	defer d.t.mu.Unlock()
	d.now = time.Time{}
	verdict, err := d.run(p, d, nil)
	var length *lengthError
	if errors.As(err, &length) {
		return 0, strange(err)
	}
	return verdict, err
}

// strange is the end of a session whose target says what none may.
func strange(err error) error {
	return &session.Failed{Say: "the target does not answer as it should, so the session is ended; ask the platform team", Err: err}
}

// Tail implements proxy.Observer.
func (d *down) Tail() int { return d.tail() }

var errNoWord = errors.New("the target ended the connection without a word")

// Ended implements proxy.Ender: PostgreSQL ends a session by a FATAL error, or because the
// client has terminated it.
func (d *down) Ended() error {
	if d.bye {
		return nil
	}
	return errNoWord
}

// Lines implements proxy.Speaker.
func (d *down) Lines() <-chan string { return d.lines }

// Dress implements proxy.Speaker. What the user is told is on the record too; where
// that fails the session ends by the recorder's own word.
func (d *down) Dress(line string) []byte {
	_ = d.t.rec.Write(&audit.Note{Text: line})
	return appendNotice(nil, line)
}

// Last implements proxy.Speaker.
func (d *down) Last(why error) []byte { return d.last(why) }

func (d *down) clock() time.Time {
	if d.now.IsZero() {
		d.now = time.Now()
	}
	return d.now
}

// stream lets rows and COPY data pass in pieces: only their size is recorded.
func (d *down) stream(kind byte) bool { return kind == 'D' || kind == 'd' }

func (d *down) message(kind byte, body []byte) error {
	t := d.t
	switch kind {
	case 'D':
		t.rows++
		t.bytes += int64(len(body))
	case 'd':
		t.bytes += int64(len(body))
	case 'C':
		return d.complete(tagOf(body))
	case 'I':
		return d.complete("")
	case 's':
		return d.complete("suspended")
	case 'V':
		if i, ok := t.seek("F"); ok {
			return t.finish(i, "FUNCTION", "", "", d.clock())
		}
	case '1':
		d.answered("P")
	case '2':
		d.answered("B")
	case '3':
		d.answered("C")
	case 'T', 'n':
		if i, ok := t.seek("DEQ"); ok && i.kind == 'D' {
			t.pop()
		}
	case 'E':
		return d.failed(body)
	case 'Z':
		d.ready()
	case 'R', 'K':
		// A target that asks the client to log in, or swaps its cancel key, in the middle
		// of a session is not what was logged in to.
		return strange(fmt.Errorf("the target sent a %q message in the middle of a session", kind))
	}
	return nil
}

func tagOf(body []byte) string {
	if n := len(body); n > 0 && body[n-1] == 0 {
		body = body[:n-1]
	}
	return string(body)
}

// complete is the end of an Execute, or of one statement of a simple query.
func (d *down) complete(tag string) error {
	i, ok := d.t.seek("EQ")
	err := d.t.finish(i, tag, "", "", d.clock())
	if ok && i.kind == 'E' {
		d.t.pop()
	}
	return err
}

func (d *down) answered(kinds string) {
	if _, ok := d.t.seek(kinds); ok {
		d.t.pop()
	}
}

// failed is an error: in the extended protocol the target passes over everything up
// to the next Sync.
func (d *down) failed(body []byte) error {
	var m pgproto3.ErrorResponse
	if err := m.Decode(body); err != nil {
		return strange(fmt.Errorf("read the target's error: %w", err))
	}
	i, _ := d.t.seek("QPBEDCF")
	if len(m.Message) > maxErrorText {
		m.Message = m.Message[:maxErrorText]
	}
	if err := d.t.finish(i, "", m.Code, m.Message, d.clock()); err != nil {
		return err
	}
	switch {
	case m.SeverityUnlocalized == "FATAL", m.SeverityUnlocalized == "PANIC": // the backend ends by itself
		d.bye = true
		d.t.clear()
	case i.kind != 'Q' && i.kind != 'F':
		d.t.seek("S")
	}
	return nil
}

// ready is the answer to a simple query, a FunctionCall or a Sync.
func (d *down) ready() {
	for d.t.head < len(d.t.queue) {
		i := d.t.front()
		d.t.pop()
		if i.kind == 'Q' || i.kind == 'F' || i.kind == 'S' {
			break
		}
	}
	d.t.rows, d.t.bytes, d.t.since = 0, 0, time.Time{}
}

var errLongMessage = errors.New("the target sent a control message that is too long")

// begin is a message that passes in pieces.
func (d *down) begin(kind byte, length int) error {
	switch kind {
	case 'D':
		d.t.rows++
		d.t.bytes += int64(length)
	case 'd':
		d.t.bytes += int64(length)
	case 'R', 'K', 'Z', 'C':
		return strange(errLongMessage)
	case 'E': // an error with a text of many kilobytes: its SQLSTATE is not looked for
		i, _ := d.t.seek("QPBEDCF")
		return d.t.finish(i, "", "XX000", "an error of the target that is too long to record", d.clock())
	}
	return nil
}

func (d *down) piece(byte, []byte, bool) error { return nil }
