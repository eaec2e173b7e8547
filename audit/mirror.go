package audit

import (
	"encoding/json"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"
)

const (
	mirrorLines = 4096        // waiting lines; more are dropped and counted
	mirrorWait  = time.Second // what Close gives a collector to take the rest
)

// A mirror writes entries as JSON lines to a collector that may be slow, or gone.
type mirror struct {
	out    io.Writer
	logger *slog.Logger
	lines  chan mirrored
	done   chan struct{}

	mu      sync.Mutex // guards what follows, and sends on lines
	dropped int
	closed  bool
}

// mirrored is a line that is not made yet: an entry, or a gap of so many.
type mirrored struct {
	index      int64
	leaf, body []byte
	gap        int
}

func newMirror(out io.Writer, logger *slog.Logger) *mirror {
	if out == nil {
		return nil
	}
	m := &mirror{out: out, logger: logger, lines: make(chan mirrored, mirrorLines), done: make(chan struct{})}
	go m.run()
	return m
}

func (m *mirror) run() {
	defer close(m.done)
	broken := false
	for line := range m.lines {
		if broken {
			continue
		}
		if _, err := m.out.Write(line.text()); err != nil {
			m.logger.Warn("the collector takes no more entries", "err", err)
			broken = true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dropped > 0 && !broken {
		_, _ = m.out.Write(mirrored{gap: m.dropped}.text()) // the last word; there is nobody to tell
	}
}

// add queues the lines of a batch. It never blocks.
func (m *mirror) add(first int64, items []item) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range items {
		if m.closed {
			return
		}
		if m.dropped > 0 && len(m.lines) < cap(m.lines) {
			m.lines <- mirrored{gap: m.dropped}
			m.dropped = 0
		}
		select {
		case m.lines <- mirrored{index: first + int64(i), leaf: items[i].Leaf, body: items[i].Body}:
		default:
			m.dropped++
		}
	}
}

// text is the leaf's JSON with the index in front and the body in place of its hash.
func (l mirrored) text() []byte {
	if l.gap > 0 {
		return append(strconv.AppendInt([]byte(`{"gap":`), int64(l.gap), 10), "}\n"...)
	}
	f, err := parseLeaf(l.leaf)
	if err != nil {
		return nil // it was parsed before it was logged
	}
	line, err := json.Marshal(struct {
		Index int64 `json:"index"`
		Fields
		Body json.RawMessage `json:"body"`
	}{l.index, f, l.body[saltSize:]})
	if err != nil {
		return nil
	}
	return append(escapeControls(nil, line), '\n')
}

// close gives the collector a moment to take what waits. A collector that does not
// read keeps its goroutine until its Write returns; that cannot be interrupted.
func (m *mirror) close() {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.closed = true
	close(m.lines)
	m.mu.Unlock()
	if d, ok := m.out.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(time.Now().Add(mirrorWait)) // stdout may be a file, which has none
	}
	select {
	case <-m.done:
	case <-time.After(mirrorWait + 100*time.Millisecond):
		m.logger.Warn("the collector did not read the last entries")
	}
}
