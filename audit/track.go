package audit

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// A Track is one line of a recording: Query, QueryDone, Terminal, Request,
// RequestDone, Body, Message, File, Piece or Note, or a pointer to one. A recording is newline JSON; "k"
// is the kind, "at" the time in UTC. Text that is not valid UTF-8 is kept exactly,
// in base64 under the key with "_b64" behind it.
type Track interface {
	// appendTo appends the line's fields after "k"; now stands in for a zero At.
	appendTo(dst []byte, now time.Time) []byte
	count(s *Summary)
}

// A Query is a statement that the client sent. It is recorded whole, before its
// bytes go to the target.
type Query struct {
	At    time.Time // zero: now
	N     int64     // numbers the statements of a session; QueryDone names it
	Kind  string    // what the client does with it, in the protocol's word: "simple", "parse", "execute", "function", "copy"
	Name  string    // of a prepared statement or portal, where it has one
	SQL   string
	Binds [][]byte // as they were sent; nil: NULL
}

// A QueryDone is how a statement ended.
type QueryDone struct {
	At       time.Time
	N        int64
	Tag      string // the target's word: "SELECT 5"
	Rows     int64
	Bytes    int64  // of rows or COPY data, both ways
	SQLState string // empty: no error
	Message  string // the target's error
	Took     time.Duration
}

// A Terminal is an event of a terminal, by asciicast v3's codes.
type Terminal struct {
	At   time.Time
	Code string // "o" output, "i" input, "r" resize, "m" marker, "x" exit
	Data []byte
}

// A File is a file that was moved through the session.
type File struct {
	At        time.Time
	Name      string
	Direction string // "up": to the target, "down": from it
	Size      int64
	SHA256    string // hex
	N         int64  // names its Pieces; 0: its bytes are not on the record
}

// A Piece is a run of a file's bytes, where the policy asks for them. It is recorded
// before they go on, so pieces stand before the File that they are of.
type Piece struct {
	At     time.Time
	N      int64 // numbers the files of a session
	Offset int64 // in the file
	Data   []byte
}

// A Note is something that the gate itself did or said: a warning, the sentence of the cut.
type Note struct {
	At   time.Time
	Text string
}

func (q Query) appendTo(b []byte, now time.Time) []byte {
	b = append(b, `{"k":"query"`...)
	b = appendTime(b, q.At, now)
	b = appendInt(b, "n", q.N)
	b = appendText(b, "kind", q.Kind)
	b = appendText(b, "name", q.Name)
	if b = appendText(b, "sql", q.SQL); q.SQL == "" {
		b = append(b, `,"sql":""`...)
	}
	if len(q.Binds) > 0 {
		b = append(b, `,"binds":[`...)
		for i, bind := range q.Binds {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendBind(b, bind)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func (q Query) count(s *Summary) { s.Statements++ }

func (q QueryDone) appendTo(b []byte, now time.Time) []byte {
	b = append(b, `{"k":"done"`...)
	b = appendTime(b, q.At, now)
	b = appendInt(b, "n", q.N)
	b = appendText(b, "tag", q.Tag)
	b = appendInt(b, "rows", q.Rows)
	b = appendInt(b, "bytes", q.Bytes)
	b = appendText(b, "sqlstate", q.SQLState)
	b = appendText(b, "message", q.Message)
	b = appendInt(b, "took_us", q.Took.Microseconds())
	return append(b, '}')
}

func (q QueryDone) count(s *Summary) {
	s.Rows += q.Rows
	s.Bytes += q.Bytes
	if q.SQLState != "" {
		s.Errors++
	}
}

func (t Terminal) appendTo(b []byte, now time.Time) []byte {
	b = append(b, `{"k":"terminal"`...)
	b = appendTime(b, t.At, now)
	b = appendText(b, "code", t.Code)
	b = appendText(b, "data", t.Data)
	return append(b, '}')
}

func (t Terminal) count(s *Summary) { s.Bytes += int64(len(t.Data)) }

func (f File) appendTo(b []byte, now time.Time) []byte {
	b = append(b, `{"k":"file"`...)
	b = appendTime(b, f.At, now)
	b = appendText(b, "name", f.Name)
	b = appendText(b, "direction", f.Direction)
	b = appendInt(b, "size", f.Size)
	b = appendText(b, "sha256", f.SHA256)
	b = appendInt(b, "n", f.N)
	return append(b, '}')
}

func (f File) count(s *Summary) { s.Bytes += f.Size }

func (p Piece) appendTo(b []byte, now time.Time) []byte {
	b = append(b, `{"k":"piece"`...)
	b = appendTime(b, p.At, now)
	b = appendInt(b, "n", p.N)
	b = appendInt(b, "offset", p.Offset)
	b = appendText(b, "data", p.Data)
	return append(b, '}')
}

func (p Piece) count(*Summary) {} // its File counts

func (n Note) appendTo(b []byte, now time.Time) []byte {
	b = append(b, `{"k":"note"`...)
	b = appendTime(b, n.At, now)
	b = appendText(b, "text", n.Text)
	return append(b, '}')
}

func (n Note) count(*Summary) {}

func appendTime(b []byte, at, now time.Time) []byte {
	if at.IsZero() {
		at = now
	}
	b = append(b, `,"at":"`...)
	b = at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	return append(b, '"')
}

func appendInt(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	b = append(append(append(b, `,"`...), key...), `":`...)
	return strconv.AppendInt(b, n, 10)
}

func appendText[T string | []byte](b []byte, key string, text T) []byte {
	if len(text) == 0 {
		return b
	}
	b = append(append(b, `,"`...), key...)
	if !utf8.ValidString(string(text)) {
		b = append(b, `_b64":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(text))
		return append(b, '"')
	}
	b = append(b, `":`...)
	return appendString(b, text)
}

// appendBind is null, a string, or {"b64":"..."} for what is no text.
func appendBind(b, bind []byte) []byte {
	if bind == nil {
		return append(b, "null"...)
	}
	if isText(bind) {
		return appendString(b, bind)
	}
	b = append(b, `{"b64":"`...)
	b = base64.StdEncoding.AppendEncode(b, bind)
	return append(b, `"}`...)
}

func isText(p []byte) bool {
	for _, c := range p {
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return utf8.Valid(p)
}

// appendString appends valid UTF-8 as a JSON string. Controls, DEL and C1 among
// them, are escaped: a recording is shown on terminals too.
func appendString[T string | []byte](b []byte, s T) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f && c != 0xc2 {
			continue
		}
		if c == 0xc2 && s[i+1] >= 0xa0 { // valid UTF-8: a byte follows
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		case 0xc2:
			i++
			b = append(b, '\\', 'u', '0', '0', digits[s[i]>>4], digits[s[i]&15])
		default:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
		from = i + 1
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// A Line is a Track that was read back.
type Line struct {
	Kind  string
	At    time.Time
	Track Track // a Query, QueryDone, ... by value; nil for a kind that this program does not know
	Raw   []byte
}

// wireLine is the union of all lines.
type wireLine struct {
	K         string    `json:"k"`
	At        time.Time `json:"at"`
	N         int64     `json:"n"`
	Kind      text      `json:"kind"`
	KindB     []byte    `json:"kind_b64"`
	Name      text      `json:"name"`
	NameB     []byte    `json:"name_b64"`
	SQL       text      `json:"sql"`
	SQLB      []byte    `json:"sql_b64"`
	Binds     []*bind   `json:"binds"`
	Tag       text      `json:"tag"`
	TagB      []byte    `json:"tag_b64"`
	Rows      int64     `json:"rows"`
	Bytes     int64     `json:"bytes"`
	SQLState  text      `json:"sqlstate"`
	Message   text      `json:"message"`
	MessageB  []byte    `json:"message_b64"`
	Took      int64     `json:"took_us"`
	Code      text      `json:"code"`
	Data      text      `json:"data"`
	DataB     []byte    `json:"data_b64"`
	Method    text      `json:"method"`
	MethodB   []byte    `json:"method_b64"`
	Host      text      `json:"host"`
	HostB     []byte    `json:"host_b64"`
	Path      text      `json:"path"`
	PathB     []byte    `json:"path_b64"`
	Headers   []header  `json:"headers"`
	Status    int       `json:"status"`
	Call      text      `json:"call"`
	CallB     []byte    `json:"call_b64"`
	Sent      int64     `json:"sent"`
	Up        int64     `json:"up"`
	Down      int64     `json:"down"`
	Cut       bool      `json:"cut"`
	Direction text      `json:"direction"`
	Type      text      `json:"type"`
	TypeB     []byte    `json:"type_b64"`
	Encoding  text      `json:"encoding"`
	EncodingB []byte    `json:"encoding_b64"`
	Hidden    int64     `json:"hidden"`
	Size      int64     `json:"size"`
	Offset    int64     `json:"offset"`
	SHA256    text      `json:"sha256"`
	Text      text      `json:"text"`
	TextB     []byte    `json:"text_b64"`
}

type text string

// or is the text, or the bytes that stand in its place.
func (t text) or(b []byte) string {
	if b != nil {
		return string(b)
	}
	return string(t)
}

type bind struct{ value []byte }

func (b *bind) UnmarshalJSON(p []byte) error {
	if len(p) > 0 && p[0] == '{' {
		var wrapped struct {
			B64 []byte `json:"b64"`
		}
		err := json.Unmarshal(p, &wrapped)
		b.value = wrapped.B64
		return err
	}
	var s string
	err := json.Unmarshal(p, &s)
	b.value = []byte(s)
	return err
}

func parseLine(raw []byte) (Line, error) {
	var w wireLine
	if err := json.Unmarshal(raw, &w); err != nil {
		return Line{}, fmt.Errorf("a line of the recording is no JSON: %w", err)
	}
	line := Line{Kind: w.K, At: w.At, Raw: raw}
	took := time.Duration(w.Took) * time.Microsecond
	switch w.K {
	case "query":
		q := Query{At: w.At, N: w.N, Kind: w.Kind.or(w.KindB), Name: w.Name.or(w.NameB), SQL: w.SQL.or(w.SQLB)}
		for _, b := range w.Binds {
			if b == nil {
				q.Binds = append(q.Binds, nil)
				continue
			}
			q.Binds = append(q.Binds, append([]byte{}, b.value...))
		}
		line.Track = q
	case "done":
		line.Track = QueryDone{w.At, w.N, w.Tag.or(w.TagB), w.Rows, w.Bytes, string(w.SQLState), w.Message.or(w.MessageB), took}
	case "terminal":
		line.Track = Terminal{w.At, string(w.Code), []byte(w.Data.or(w.DataB))}
	case "request":
		line.Track = Request{w.At, w.N, w.Method.or(w.MethodB), w.Host.or(w.HostB), w.Path.or(w.PathB), fromWire(w.Headers)}
	case "request-done":
		line.Track = RequestDone{w.At, w.N, w.Status, w.Call.or(w.CallB), w.Sent, w.Bytes, w.Up, w.Down, w.Cut, took, fromWire(w.Headers)}
	case "body":
		line.Track = Body{w.At, w.N, string(w.Direction), w.Type.or(w.TypeB), w.Encoding.or(w.EncodingB), w.Text.or(w.TextB), w.Size, string(w.SHA256), w.Hidden, w.Cut}
	case "message":
		line.Track = Message{w.At, w.N, string(w.Direction), string(w.Kind), w.Text.or(w.TextB), w.Size, w.Hidden, w.Cut}
	case "file":
		line.Track = File{w.At, w.Name.or(w.NameB), string(w.Direction), w.Size, string(w.SHA256), w.N}
	case "piece":
		line.Track = Piece{w.At, w.N, w.Offset, []byte(w.Data.or(w.DataB))}
	case "note":
		line.Track = Note{w.At, w.Text.or(w.TextB)}
	}
	return line, nil
}
