package postgres

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/session"
)

// maxOutstanding bounds the messages that the target has not answered yet. The
// sockets' buffers fill up long before.
const maxOutstanding = 1_000_000

// recorder is what the observers need of *audit.Recorder.
type recorder interface {
	Write(line audit.Track) error
}

// traffic is what both directions of a session know: which messages of the client
// wait for an answer, and how far the answer is.
type traffic struct {
	rec recorder

	mu    sync.Mutex // held for a whole run of bytes of either direction
	last  int64      // number of the last statement
	queue []item     // messages without their answer, oldest first
	head  int        // the first of queue that counts
	rows  int64      // of the answer under way
	bytes int64      // of its rows or COPY data
	since time.Time  // the previous answer of a query with several statements
	done  audit.QueryDone

	running atomic.Bool // the target has something to do; read without mu, which a slow disk may hold
}

// item is a message that the target answers: Q, P, B, E, D, C, F or S.
type item struct {
	kind byte
	n    int64 // number in the record; 0: not recorded
	at   time.Time
}

func (t *traffic) number() int64 {
	t.last++
	return t.last
}

func (t *traffic) push(kind byte, n int64, at time.Time) error {
	if len(t.queue)-t.head >= maxOutstanding {
		return &session.Invalid{Field: "protocol", Hint: "your client sends more than the target can answer"}
	}
	if t.head > 0 && len(t.queue) == cap(t.queue) {
		t.queue = t.queue[:copy(t.queue, t.queue[t.head:])]
		t.head = 0
	}
	t.queue = append(t.queue, item{kind, n, at})
	t.running.Store(true)
	return nil
}

// front is the message that is answered now, the zero item where there is none.
func (t *traffic) front() item {
	if t.head < len(t.queue) {
		return t.queue[t.head]
	}
	return item{}
}

func (t *traffic) pop() {
	if t.head++; t.head >= len(t.queue) {
		t.clear()
	}
}

// clear drops everything: the target has nothing more to do.
func (t *traffic) clear() {
	t.head = 0
	if t.queue = t.queue[:0]; cap(t.queue) > 64 {
		t.queue = nil // an idle session keeps nothing large
	}
	t.running.Store(false)
}

// seek drops what the target passed over until a message of one of the kinds is in
// front: a Sync inside COPY has no answer of its own. Where there is none nothing
// is dropped.
func (t *traffic) seek(kinds string) (item, bool) {
	for i := t.head; i < len(t.queue); i++ {
		for k := range len(kinds) {
			if t.queue[i].kind == kinds[k] {
				t.head = i
				return t.queue[i], true
			}
		}
		if t.queue[i].kind == 'Q' { // nothing behind a simple query is answered before it
			break
		}
	}
	return item{}, false
}

// finish records how statement i ended.
func (t *traffic) finish(i item, tag, state, message string, now time.Time) error {
	begun := i.at
	if t.since.After(begun) {
		begun = t.since
	}
	t.done = audit.QueryDone{N: i.n, Tag: tag, Rows: t.rows, Bytes: t.bytes, SQLState: state, Message: message}
	if !begun.IsZero() {
		t.done.Took = now.Sub(begun)
	}
	t.rows, t.bytes, t.since = 0, 0, now
	return t.write(&t.done)
}

// write records one line; without a record there is no session.
func (t *traffic) write(line audit.Track) error {
	if err := t.rec.Write(line); err != nil {
		return fmt.Errorf("%w: %w", session.ErrRecorder, err)
	}
	return nil
}

// busy reports that the target has not answered everything.
func (t *traffic) busy() bool { return t.running.Load() }
