package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Limits of one entry.
const (
	MaxLeaf  = 65535   // bytes; C2SP tlog-tiles gives an entry's length two bytes
	MaxBody  = 1 << 20 // bytes of JSON
	maxWord  = 128     // bytes of an identifier
	saltSize = 32
)

// Pending is an encoded Event in the outbox: the exact bytes of leaf and body.
type Pending struct {
	Counter uint64
	Leaf    []byte // the Merkle leaf, never re-serialised
	Body    []byte // 32 bytes of salt, then the body as JSON
}

// Fields are what a leaf says. Its bytes are the JSON of this struct, compact and
// in this order; they are stored and hashed as they were first written.
type Fields struct {
	ID      string     `json:"id"`      // 128 random bits, hex
	Time    string     `json:"time"`    // RFC 3339 in UTC, with nanoseconds
	Node    string     `json:"node"`    // the stream: a node's name, or "<node>/direct"
	Counter uint64     `json:"counter"` // of the stream, from 1, without gaps
	Type    string     `json:"type"`
	Actor   string     `json:"actor,omitempty"` // HMAC-SHA-256 of Event.Actor under the log's pseudonym key, hex
	Session string     `json:"session,omitempty"`
	Request string     `json:"request,omitempty"`
	Grant   string     `json:"grant,omitempty"`
	Policy  *PolicyRef `json:"policy,omitempty"`
	Body    string     `json:"body"` // SHA-256 of salt and body, hex
}

// When is the time of the event.
func (f Fields) When() time.Time {
	t, err := time.Parse(time.RFC3339Nano, f.Time)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Encode makes the bytes of an event for the node's outbox stream. The counter is
// the one that the event's row carries; Append checks it. It does no I/O.
func (l *Log) Encode(e Event, counter uint64) (Pending, error) {
	d, err := l.draft(e, l.node)
	if err != nil {
		return Pending{}, err
	}
	return d.number(counter), nil
}

// Pseudonym is what a leaf says instead of an actor. It is the same for the same
// actor all through one log, and tells nothing without the log's pseudonym key.
func (l *Log) Pseudonym(actor string) string {
	mac := hmac.New(sha256.New, l.pseudonym)
	mac.Write([]byte(actor))
	return hex.EncodeToString(mac.Sum(nil))
}

// A draft is an encoded event that lacks its counter, because that is given only
// when the entry's place is certain.
type draft struct {
	head, tail []byte
	body       []byte
}

func (d draft) number(counter uint64) Pending {
	leaf := make([]byte, 0, len(d.head)+20+len(d.tail))
	leaf = append(leaf, d.head...)
	leaf = strconv.AppendUint(leaf, counter, 10)
	leaf = append(leaf, d.tail...)
	return Pending{Counter: counter, Leaf: leaf, Body: d.body}
}

func (l *Log) draft(e Event, stream string) (draft, error) {
	if !word(e.Type) {
		return draft{}, fmt.Errorf("audit event: %q is no type", e.Type)
	}
	for _, id := range []string{e.Session, e.Request, e.Grant} {
		if id != "" && !word(id) {
			return draft{}, fmt.Errorf("audit event %s: %q is no identifier", e.Type, id)
		}
	}
	when := e.Time
	if when.IsZero() {
		when = l.now()
	}
	body, err := sealBody(e.Body)
	if err != nil {
		return draft{}, fmt.Errorf("audit event %s: %w", e.Type, err)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	f := Fields{
		ID: hex.EncodeToString(id), Time: when.UTC().Format(time.RFC3339Nano), Node: stream, Type: e.Type,
		Session: e.Session, Request: e.Request, Grant: e.Grant, Body: bodyHash(body),
	}
	if e.Actor != "" {
		f.Actor = l.Pseudonym(e.Actor)
	}
	if e.Policy != (PolicyRef{}) {
		f.Policy = &e.Policy
	}
	leaf, err := json.Marshal(f)
	if err != nil {
		return draft{}, fmt.Errorf("audit event %s: %w", e.Type, err)
	}
	if len(leaf)+20 > MaxLeaf {
		return draft{}, fmt.Errorf("audit event %s: the leaf has %d bytes, more than %d", e.Type, len(leaf), MaxLeaf)
	}
	// Only the literal separates the two: no string in JSON holds a bare quote.
	head, tail, _ := bytes.Cut(leaf, []byte(`"counter":0`))
	return draft{head: append(head[:len(head):len(head)], `"counter":`...), tail: tail, body: body}, nil
}

// sealBody is 32 bytes of salt and the body's JSON. Without the salt a short body
// could be guessed from its hash after it was erased.
func sealBody(body any) ([]byte, error) {
	if body == nil {
		body = struct{}{}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	if len(text) > MaxBody {
		return nil, fmt.Errorf("the body has %d bytes, more than %d", len(text), MaxBody)
	}
	sealed := make([]byte, saltSize, saltSize+len(text))
	_, _ = rand.Read(sealed) // never fails (crypto/rand)
	return escapeControls(sealed, text), nil
}

// escapeControls appends JSON to dst with DEL and the C1 controls escaped: some
// terminals obey them, and encoding/json lets them through.
func escapeControls(dst, text []byte) []byte {
	const digits = "0123456789abcdef"
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == 0x7f:
			dst = append(dst, `\u007f`...)
		case c == 0xc2 && i+1 < len(text) && text[i+1] < 0xa0:
			i++
			dst = append(dst, `\u00`...)
			dst = append(dst, digits[text[i]>>4], digits[text[i]&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func bodyHash(sealed []byte) string {
	sum := sha256.Sum256(sealed)
	return hex.EncodeToString(sum[:])
}

var errLeaf = errors.New("the leaf is not the compact JSON of a leaf's fields")

// parseLeaf reads a leaf strictly: what it returns encodes to the same bytes.
func parseLeaf(leaf []byte) (Fields, error) {
	if f, ok := scanLeaf(leaf); ok {
		return f, nil
	}
	var f Fields
	dec := json.NewDecoder(bytes.NewReader(leaf))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Fields{}, errLeaf
	}
	again, err := json.Marshal(f)
	if err != nil || !bytes.Equal(again, leaf) {
		return Fields{}, errLeaf
	}
	return f, nil
}

// word reports that s can stand in a leaf and in a path: letters, digits and
// "-_.:/" without "..", at most 128 bytes, and no "/" or "." at its start.
func word(s string) bool {
	if s == "" || len(s) > maxWord || s[0] == '.' || s[0] == '/' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == ':', c == '/':
		case c == '.' && s[i-1] != '.':
		default:
			return false
		}
	}
	return true
}
