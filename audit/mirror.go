package audit

import (
	"encoding/json"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/internal/lossy"
)

// mirrorWait is what Close gives a collector to take the rest.
const mirrorWait = time.Second

// A mirror writes entries as JSON lines to a collector that may be slow, or gone.
type mirror struct {
	logger *slog.Logger
	lines  *lossy.Lines
}

// mirrored is a line that is not made yet.
type mirrored struct {
	index      int64
	leaf, body []byte
}

func newMirror(out io.Writer, logger *slog.Logger) *mirror {
	if out == nil {
		return nil
	}
	return &mirror{logger, lossy.New(out, gapLine, func(why error) {
		if why != nil {
			logger.Warn("the collector does not take the log's entries; its lines say how many it misses", "err", why)
			return
		}
		logger.Info("the collector takes entries again")
	})}
}

// gapLine stands for entries that the collector has to fetch from the log.
func gapLine(entries int) []byte {
	return append(strconv.AppendInt([]byte(`{"gap":`), int64(entries), 10), "}\n"...)
}

// add queues the lines of a batch. It never blocks.
func (m *mirror) add(first int64, items []item) {
	if m == nil {
		return
	}
	for i := range items {
		m.lines.Add(mirrored{first + int64(i), items[i].Leaf, items[i].Body}.text)
	}
}

// text is the leaf's JSON with the index in front and the body in place of its hash.
func (l mirrored) text() []byte {
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

// close gives the collector a moment to take what waits.
func (m *mirror) close() {
	if m != nil && !m.lines.Close(mirrorWait) {
		m.logger.Warn("the collector did not read the last entries")
	}
}
