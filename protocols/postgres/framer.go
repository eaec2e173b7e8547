package postgres

import (
	"encoding/binary"
	"fmt"

	"github.com/sallyport/sallyport/proxy"
)

const (
	header     = 5                  // type byte and length
	maxMessage = 1<<30 - 1          // bytes; PostgreSQL's MaxAllocSize
	maxWhole   = proxy.MaxHold - 64 // bytes of a message that is waited for until it is complete
	maxRow     = 8<<10 + header     // the same for one whose content nobody looks at: a buffer of PostgreSQL
)

// sink takes the messages of one direction.
type sink interface {
	// message is a whole message. Body is only lent.
	message(kind byte, body []byte) error
	// begin is a message that is too long to wait for, or that stream lets pass in
	// pieces: only its length is known yet, in bytes of body.
	begin(kind byte, length int) error
	// piece is a run of the body of the message that began.
	piece(kind byte, p []byte, last bool) error
	// stream reports a kind whose content nobody looks at. Only small ones are waited for,
	// so that their reader can be told something at almost any time.
	stream(kind byte) bool
}

// lengthError is a message of a length that none has.
type lengthError struct {
	kind   byte
	length int
}

func (e *lengthError) Error() string {
	return fmt.Sprintf("a %q message has the length %d", e.kind, e.length)
}

// framer finds the messages in the runs of one direction, in place.
type framer struct {
	kind byte
	left int // bytes still to come of the message that passes in pieces
	had  int // bytes of it that were shown, its header too
	held int // bytes at the end of the last run that are to be shown again
}

// tail is how many of the bytes shown belong to an incomplete message.
func (f *framer) tail() int {
	if f.left > 0 {
		return f.had
	}
	return f.held
}

// run goes through one run of bytes. It stops behind the message for which end
// reports true, and leaves the rest of the run held.
func (f *framer) run(p []byte, s sink, end func(kind byte) bool) (proxy.Verdict, error) {
	f.held = 0
	for at := 0; at < len(p); {
		if f.left > 0 {
			n := min(f.left, len(p)-at)
			f.left -= n
			f.had += n
			if err := s.piece(f.kind, p[at:at+n], f.left == 0); err != nil {
				return 0, err
			}
			at += n
			continue
		}
		rest := p[at:]
		if len(rest) < header {
			f.held = len(rest)
			return proxy.Hold, nil
		}
		kind, length := rest[0], int(binary.BigEndian.Uint32(rest[1:]))
		if length < 4 || length > maxMessage {
			return 0, &lengthError{kind, length}
		}
		size := 1 + length
		switch {
		case len(rest) >= size:
			if err := s.message(kind, rest[header:size]); err != nil {
				return 0, err
			}
			at += size
			if end != nil && end(kind) {
				f.held = len(p) - at
				return proxy.EndAtBoundary, nil
			}
		case size <= maxRow || size <= maxWhole && !s.stream(kind):
			f.held = len(rest)
			return proxy.Hold, nil
		default:
			if err := s.begin(kind, size-header); err != nil {
				return 0, err
			}
			f.kind, f.left, f.had = kind, size-header, header
			at += header
		}
	}
	return proxy.Pass, nil
}
