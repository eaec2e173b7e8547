// Package lossy writes lines for a reader that may be slow, deaf or gone, such as a
// collector of logs at the other end of a pipe: nobody but a goroutine of its own ever
// waits for that reader. What it cannot take is left out and counted, and a line says so
// where it is missing. What must never be lost belongs on the record, not here.
package lossy

import (
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

// Most is how many lines wait for the reader; more are left out.
const Most = 4096

// ErrDeaf is why lines are left out of which the reader has not taken Most.
var ErrDeaf = errors.New("it does not read")

// Lines are written in their order. All methods may be called by many goroutines at once.
type Lines struct {
	out  io.Writer
	gap  func(lines int) []byte
	tell func(why error)
	wait chan waiting
	done chan struct{}

	// The goroutine's own.
	lost int  // lines left out before the next one that is written
	torn bool // the reader has the beginning of a line

	mu     sync.Mutex // guards what follows, and sends on wait
	left   int        // lines that found no room since the last that did
	losing bool
	closed bool
}

// waiting is a line that is not made yet, and how many before it found no room.
type waiting struct {
	left int
	text func() []byte
}

// New begins. gap makes the line that stands for so many missing ones. tell, which may be
// nil, hears why lines begin to be left out, and nil when they are taken again; it must
// not wait for anything.
func New(out io.Writer, gap func(lines int) []byte, tell func(why error)) *Lines {
	l := &Lines{out: out, gap: gap, tell: tell, wait: make(chan waiting, Most), done: make(chan struct{})}
	go l.run()
	return l
}

// Add queues a line, which text makes with its newline later. It waits for nothing.
func (l *Lines) Add(text func() []byte) {
	l.mu.Lock()
	full := false
	if !l.closed {
		select {
		case l.wait <- waiting{l.left, text}:
			l.left = 0
		default:
			l.left++
			full = true
		}
	}
	l.mu.Unlock()
	if full {
		l.says(ErrDeaf)
	}
}

// Write queues p as a line. It is never an error, and keeps nothing of p.
func (l *Lines) Write(p []byte) (int, error) {
	line := slices.Clone(p)
	l.Add(func() []byte { return line })
	return len(p), nil
}

// Close takes no more lines, and gives the reader so long to take what waits; it returns
// whether it did. A reader that does not keeps the goroutine until its Write returns:
// that cannot be interrupted. A second Close only waits.
func (l *Lines) Close(within time.Duration) bool {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.wait)
	}
	l.mu.Unlock()
	if d, ok := l.out.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(time.Now().Add(within)) // a file has none
	}
	select {
	case <-l.done:
		return true
	case <-time.After(within + 100*time.Millisecond):
		return false
	}
}

func (l *Lines) run() {
	defer close(l.done)
	for line := range l.wait {
		l.lost += line.left
		if text := line.text(); !l.caughtUp() || !l.put(text) {
			l.lost++
		}
	}
	l.mu.Lock()
	l.lost += l.left
	l.mu.Unlock()
	l.caughtUp() // the last word
}

// caughtUp writes what stands for missing lines, and returns whether that is done.
func (l *Lines) caughtUp() bool {
	if l.lost > 0 && l.put(l.gap(l.lost)) {
		l.lost = 0
		l.says(nil)
	}
	return l.lost == 0
}

// put writes a line, on a line of its own. What fails may work again: a disk has room, a
// pipe has another reader.
func (l *Lines) put(line []byte) bool {
	if len(line) == 0 {
		return true
	}
	if l.torn {
		line = append([]byte("\n"), line...)
	}
	n, err := l.out.Write(line)
	l.torn = err != nil && (n > 0 || l.torn)
	if err != nil {
		l.says(err)
	}
	return err == nil
}

// says tells of a beginning and of an end, once.
func (l *Lines) says(why error) {
	l.mu.Lock()
	same := l.losing == (why != nil)
	l.losing = why != nil
	l.mu.Unlock()
	if !same && l.tell != nil {
		l.tell(why)
	}
}
