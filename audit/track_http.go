package audit

import (
	"encoding/json"
	"time"
)

// A Request is an HTTP request, recorded before it goes to the target.
type Request struct {
	At      time.Time
	N       int64 // numbers the requests of a session; what follows of it has the same
	Method  string
	Host    string
	Path    string   // with the query
	Headers []Header // those that the policy asks for
}

// A RequestDone is how an HTTP request ended.
type RequestDone struct {
	At      time.Time
	N       int64
	Status  int
	Call    string // gRPC's status, "7"; empty: no call, or it ended without one
	Sent    int64  // bytes of the request's body
	Bytes   int64  // bytes of the answer's body
	Up      int64  // websocket frames to the target
	Down    int64  // and from it
	Cut     bool   // the client did not get the whole answer
	Took    time.Duration
	Headers []Header // of the answer: those that the policy asks for
}

// A Header is one field of a head, as it was sent.
type Header struct{ Name, Value string }

// A Body is the body of an HTTP request or of its answer, where the policy asks for it.
type Body struct {
	At        time.Time
	N         int64
	Direction string // "up": the request's, "down": the answer's
	Type      string // the Content-Type, as it was sent
	Encoding  string // the Content-Encoding, which Text is free of
	Text      string // its beginning, without what the policy names as secret
	Size      int64  // bytes of all of it, as it was sent
	SHA256    string // hex, of all of it, as it was sent
	Hidden    int64  // values that were left out
	Cut       bool   // Text is not all of it
}

// A Message is a message of a websocket, where the policy asks for them.
type Message struct {
	At        time.Time
	N         int64
	Direction string // "up" or "down"
	Kind      string // "text", "binary", "close", "ping", "pong"
	Text      string // its beginning, without what the policy names as secret
	Size      int64  // bytes of all of it
	Hidden    int64  // values that were left out
	Cut       bool   // Text is not all of it
}

func (r Request) appendTo(b []byte, now time.Time) []byte {
	b = append(b, `{"k":"request"`...)
	b = appendTime(b, r.At, now)
	b = appendInt(b, "n", r.N)
	b = appendText(b, "method", r.Method)
	b = appendText(b, "host", r.Host)
	b = appendText(b, "path", r.Path)
	b = appendHeaders(b, r.Headers)
	return append(b, '}')
}

func (r Request) count(s *Summary) { s.Statements++ }

func (r RequestDone) appendTo(b []byte, now time.Time) []byte {
	b = append(b, `{"k":"request-done"`...)
	b = appendTime(b, r.At, now)
	b = appendInt(b, "n", r.N)
	b = appendInt(b, "status", int64(r.Status))
	b = appendText(b, "call", r.Call)
	b = appendInt(b, "sent", r.Sent)
	b = appendInt(b, "bytes", r.Bytes)
	b = appendInt(b, "up", r.Up)
	b = appendInt(b, "down", r.Down)
	b = appendTrue(b, "cut", r.Cut)
	b = appendInt(b, "took_us", r.Took.Microseconds())
	b = appendHeaders(b, r.Headers)
	return append(b, '}')
}

// Failed reports that the answer says no, in HTTP's or in gRPC's words.
func (r RequestDone) Failed() bool { return r.Status >= 400 || r.Call != "" && r.Call != "0" }

func (r RequestDone) count(s *Summary) {
	s.Bytes += r.Sent + r.Bytes
	if r.Failed() {
		s.Errors++
	}
}

func (x Body) appendTo(b []byte, now time.Time) []byte {
	b = append(b, `{"k":"body"`...)
	b = appendTime(b, x.At, now)
	b = appendInt(b, "n", x.N)
	b = appendText(b, "direction", x.Direction)
	b = appendText(b, "type", x.Type)
	b = appendText(b, "encoding", x.Encoding)
	b = appendText(b, "text", x.Text)
	b = appendInt(b, "size", x.Size)
	b = appendText(b, "sha256", x.SHA256)
	b = appendInt(b, "hidden", x.Hidden)
	b = appendTrue(b, "cut", x.Cut)
	return append(b, '}')
}

func (x Body) count(*Summary) {} // RequestDone has its bytes

func (m Message) appendTo(b []byte, now time.Time) []byte {
	b = append(b, `{"k":"message"`...)
	b = appendTime(b, m.At, now)
	b = appendInt(b, "n", m.N)
	b = appendText(b, "direction", m.Direction)
	b = appendText(b, "kind", m.Kind)
	b = appendText(b, "text", m.Text)
	b = appendInt(b, "size", m.Size)
	b = appendInt(b, "hidden", m.Hidden)
	b = appendTrue(b, "cut", m.Cut)
	return append(b, '}')
}

func (m Message) count(*Summary) {} // RequestDone has its bytes

func appendTrue(b []byte, key string, is bool) []byte {
	if !is {
		return b
	}
	return append(append(append(b, `,"`...), key...), `":true`...)
}

// appendHeaders appends pairs, because a name may be there more than once.
func appendHeaders(b []byte, headers []Header) []byte {
	if len(headers) == 0 {
		return b
	}
	b = append(b, `,"headers":[`...)
	for i, h := range headers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '[')
		b = appendBind(b, []byte(h.Name))
		b = append(b, ',')
		b = appendBind(b, []byte(h.Value))
		b = append(b, ']')
	}
	return append(b, ']')
}

// header is a Header as it is written: [name, value].
type header struct{ Header }

// UnmarshalJSON implements json.Unmarshaler.
func (h *header) UnmarshalJSON(p []byte) error {
	var pair [2]bind
	err := json.Unmarshal(p, &pair)
	h.Header = Header{string(pair[0].value), string(pair[1].value)}
	return err
}

func fromWire(pairs []header) []Header {
	if len(pairs) == 0 {
		return nil
	}
	all := make([]Header, len(pairs))
	for i := range pairs {
		all[i] = pairs[i].Header
	}
	return all
}
