package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

const (
	msgTerminate = 'X'
	// maxRemembered bounds the prepared statements' texts and names that are kept to
	// be written beside their executions, in bytes. The record has the text of every
	// Parse in any case, by its name.
	maxRemembered = 256 << 10
	maxPortals    = 1_000
)

// up observes what the client sends, and records it before it goes on.
type up struct {
	framer
	t   *traffic
	now time.Time // of the run

	statements map[string]string // text by name
	portals    map[string]string // statement by portal
	remembered int               // bytes in statements

	// bind is the last Bind of the run, until its Execute or the end of the run.
	bind    audit.Query
	portal  string
	waiting bool
	values  [][]byte // bind's, used again

	query audit.Query // the line that is written, used again
	part  part
}

// part is where the message that passes in pieces stands.
type part struct {
	n       int64
	name    bool // a name comes before the text, and has not ended yet
	textEnd bool // the text has ended
}

// Observe implements proxy.Observer.
func (u *up) Observe(p []byte) (proxy.Verdict, error) {
	u.t.mu.Lock()
	defer u.t.mu.Unlock()
	u.now = time.Now()
	verdict, err := u.run(p, u, isTerminate)
	var length *lengthError
	if errors.As(err, &length) {
		return 0, &session.Invalid{Field: "protocol", Hint: length.Error()}
	}
	if err != nil {
		return 0, err
	}
	return verdict, u.flush("bind")
}

// Tail implements proxy.Observer.
func (u *up) Tail() int { return u.tail() }

// isTerminate: what a client sends behind its Terminate does not pass.
func isTerminate(kind byte) bool { return kind == msgTerminate }

// stream lets COPY data pass: only its size is recorded.
func (u *up) stream(kind byte) bool { return kind == 'd' }

func (u *up) message(kind byte, body []byte) error {
	switch kind {
	case 'Q':
		sql, _, _ := bytes.Cut(body, zero)
		return u.record('Q', audit.Query{Kind: "simple", SQL: redact(string(sql))})
	case 'P':
		return u.parse(body)
	case 'B':
		return u.bound(body)
	case 'E':
		return u.execute(body)
	case 'C':
		u.close(body)
		return u.t.push('C', 0, u.now)
	case 'D', 'S':
		return u.t.push(kind, 0, u.now)
	case 'F':
		return u.function(body)
	case 'd':
		u.t.bytes += int64(len(body))
	case 'H', 'c', 'f', msgTerminate:
	default:
		return unknownMessage(kind)
	}
	return nil
}

var zero = []byte{0}

func unknownMessage(kind byte) error {
	return &session.Invalid{Field: "protocol", Hint: fmt.Sprintf("a %q message has no place in a session", kind)}
}

// record writes a line for a message and notes that it waits for its answer.
func (u *up) record(kind byte, q audit.Query) error {
	if err := u.flush("bind"); err != nil {
		return err
	}
	u.query = q
	u.query.N, u.query.At = u.t.number(), u.now
	if err := u.t.push(kind, u.query.N, u.now); err != nil {
		return err
	}
	return u.t.write(&u.query)
}

func (u *up) parse(body []byte) error {
	name, rest, ok := bytes.Cut(body, zero)
	if !ok {
		return malformed('P')
	}
	text, _, ok := bytes.Cut(rest, zero)
	if !ok {
		return malformed('P')
	}
	sql := redact(string(text))
	u.remember(string(name), sql)
	return u.record('P', audit.Query{Kind: "parse", Name: string(name), SQL: sql})
}

// remember keeps a statement's text to show it with its executions.
func (u *up) remember(name, sql string) {
	u.forget(name)
	if u.remembered+len(name)+len(sql) > maxRemembered {
		return
	}
	if u.statements == nil {
		u.statements = map[string]string{}
	}
	u.statements[name] = sql
	u.remembered += len(name) + len(sql)
}

func (u *up) forget(name string) {
	if old, ok := u.statements[name]; ok {
		u.remembered -= len(name) + len(old)
		delete(u.statements, name)
	}
}

// bound reads a Bind. Its line is written with the Execute that follows in the same
// run, or else at the end of the run; either way before its bytes go on.
func (u *up) bound(body []byte) error {
	if err := u.flush("bind"); err != nil {
		return err
	}
	portal, rest, ok1 := bytes.Cut(body, zero)
	name, rest, ok2 := bytes.Cut(rest, zero)
	if !ok1 || !ok2 {
		return malformed('B')
	}
	values, err := bindValues(u.values[:0], rest)
	if err != nil {
		return err
	}
	u.values = values
	u.portal, u.waiting = string(portal), true
	u.bind = audit.Query{At: u.now, N: u.t.number(), Name: string(name), SQL: u.statements[string(name)], Binds: values}
	if u.portals == nil || (len(u.portals) >= maxPortals && len(portal) > 0) {
		u.portals = map[string]string{}
	}
	u.portals[u.portal] = u.bind.Name
	return u.t.push('B', u.bind.N, u.now)
}

// flush writes the Bind that waits.
func (u *up) flush(kind string) error {
	if !u.waiting {
		return nil
	}
	u.waiting = false
	u.bind.Kind = kind
	err := u.t.write(&u.bind)
	u.bind = audit.Query{}
	clear(u.values) // they lie in the relay's buffer
	return err
}

func (u *up) execute(body []byte) error {
	portal, _, ok := bytes.Cut(body, zero)
	if !ok {
		return malformed('E')
	}
	if u.waiting && u.portal == string(portal) {
		if err := u.t.push('E', u.bind.N, u.now); err != nil {
			return err
		}
		return u.flush("execute")
	}
	name := u.portals[string(portal)]
	if len(portal) > 0 {
		return u.record('E', audit.Query{Kind: "execute", Name: string(portal), SQL: u.statements[name]})
	}
	return u.record('E', audit.Query{Kind: "execute", Name: name, SQL: u.statements[name]})
}

func (u *up) close(body []byte) {
	if len(body) < 2 {
		return
	}
	name, _, _ := bytes.Cut(body[1:], zero)
	if body[0] == 'S' {
		u.forget(string(name))
	} else {
		delete(u.portals, string(name))
	}
}

// function records a FunctionCall: the function's oid and its arguments.
func (u *up) function(body []byte) error {
	if len(body) < 4 {
		return malformed('F')
	}
	values, err := bindValues(u.values[:0], body[4:])
	if err != nil {
		return err
	}
	u.values = values
	oid := strconv.FormatUint(uint64(binary.BigEndian.Uint32(body)), 10)
	err = u.record('F', audit.Query{Kind: "function", SQL: "function " + oid, Binds: values})
	clear(u.values)
	return err
}

// bindValues reads format codes and values (manual, "Message Formats", Bind). Text
// stays as it is; binary values are written as PostgreSQL writes bytea, \x and hex.
func bindValues(dst [][]byte, b []byte) ([][]byte, error) {
	formats, b, ok := counted(b)
	if !ok || len(b) < 2*formats {
		return nil, malformed('B')
	}
	codes, b := b[:2*formats], b[2*formats:]
	count, b, ok := counted(b)
	if !ok || (formats > 1 && formats != count) {
		return nil, malformed('B')
	}
	for i := range count {
		if len(b) < 4 {
			return nil, malformed('B')
		}
		size := int32(binary.BigEndian.Uint32(b))
		b = b[4:]
		if size == -1 {
			dst = append(dst, nil)
			continue
		}
		if size < 0 || int(size) > len(b) {
			return nil, malformed('B')
		}
		value := b[:size:size]
		b = b[size:]
		format := 0
		if formats > 0 {
			format = int(binary.BigEndian.Uint16(codes[2*min(i, formats-1):]))
		}
		if format != 0 {
			value = hex.AppendEncode([]byte(`\x`), value)
		}
		dst = append(dst, value)
	}
	return dst, nil
}

func counted(b []byte) (n int, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	return int(binary.BigEndian.Uint16(b)), b[2:], true
}

func malformed(kind byte) error {
	return &session.Invalid{Field: "protocol", Hint: fmt.Sprintf("a %q message cannot be read", kind)}
}

// begin starts a message that is recorded in parts.
func (u *up) begin(kind byte, length int) error {
	if err := u.flush("bind"); err != nil {
		return err
	}
	switch kind {
	case 'Q', 'P', 'B', 'F':
		u.part = part{n: u.t.number(), name: kind == 'P'}
		return u.t.push(kind, u.part.n, u.now)
	case 'd':
		u.t.bytes += int64(length)
	case 'f': // CopyFail has a text of any length
	default:
		return &session.Invalid{Field: "protocol", Hint: fmt.Sprintf("a %q message has the length %d", kind, length)}
	}
	return nil
}

// piece records a part, as text where the message has text and else as it is.
func (u *up) piece(kind byte, p []byte, _ bool) error {
	q := audit.Query{At: u.now, N: u.part.n}
	switch kind {
	case 'Q':
		q.Kind = "simple part"
	case 'P':
		q.Kind = "parse part"
	case 'B', 'F':
		q.Kind, q.Binds = "bind part", [][]byte{p}
	default:
		return nil
	}
	if kind == 'Q' || kind == 'P' {
		text := p
		if u.part.name {
			name, rest, ended := bytes.Cut(p, zero)
			q.Name, text, u.part.name = string(name), rest, !ended
			if ended {
				u.forget(q.Name) // its old text would be shown with the new one's executions
			}
		}
		if u.part.textEnd {
			return nil // types of parameters
		}
		text, _, u.part.textEnd = bytes.Cut(text, zero)
		q.SQL = string(text)
	}
	return u.t.write(&q)
}
