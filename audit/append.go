package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sallyport/sallyport/internal/durable"
)

// Sizes of batches, in bytes of leaves and bodies. Calls are gathered up to
// softBatch; one call is at most maxCall, so a batch in the WAL stays below maxTail.
const (
	softBatch = 4 << 20
	maxCall   = 2 << 20
	maxTail   = 8 << 20
)

// A call is one caller who waits for its entries.
type call struct {
	pending []Pending // of the outbox stream, with their counters
	fields  []Fields
	drafts  []draft // of the direct stream
	size    int
	first   int64
	done    chan error // 1 buffered
}

// Append logs outbox rows and returns when they are on disk under a signed
// checkpoint. Rows that the log has already (counters up to Counter) are left out,
// so that nothing is logged twice after a crash. It returns the index of the first
// entry that was added, or -1 for none.
//
// Where ctx ends first the entries may or may not become part of the log; giving
// them again is safe. Errors: ErrGap, ErrForged, ErrFull, ErrFailed, ErrClosed.
func (l *Log) Append(ctx context.Context, ps []Pending) (first int64, err error) {
	first = -1
	for len(ps) > 0 {
		c := &call{first: -1, done: make(chan error, 1)}
		for len(ps) > 0 && (c.size == 0 || c.size+len(ps[0].Leaf)+len(ps[0].Body) <= maxCall) {
			f, err := l.checkPending(ps[0])
			if err != nil {
				return first, err
			}
			c.pending, c.fields = append(c.pending, ps[0]), append(c.fields, f)
			c.size += len(ps[0].Leaf) + len(ps[0].Body)
			ps = ps[1:]
		}
		if err := l.submit(ctx, c); err != nil {
			return first, err
		}
		if first < 0 {
			first = c.first
		}
	}
	return first, nil
}

// Record logs an event directly, in the node's second stream, and returns its
// index when it is on disk under a signed checkpoint. It is for what no row of the
// database stands behind. Errors are those of Append.
func (l *Log) Record(ctx context.Context, e Event) (index int64, err error) {
	return l.record(ctx, e)
}

// record logs events next to each other in one batch.
func (l *Log) record(ctx context.Context, events ...Event) (first int64, err error) {
	c := &call{first: -1, done: make(chan error, 1)}
	for _, e := range events {
		d, err := l.draft(e, l.direct())
		if err != nil {
			return -1, err
		}
		c.drafts = append(c.drafts, d)
		c.size += len(d.head) + len(d.tail) + len(d.body)
	}
	if err := l.submit(ctx, c); err != nil {
		return -1, err
	}
	return c.first, nil
}

func (l *Log) direct() string { return l.node + "/direct" }

// checkPending refuses a row that was changed after Encode made it.
func (l *Log) checkPending(p Pending) (Fields, error) {
	if len(p.Leaf) > MaxLeaf || len(p.Body) < saltSize || len(p.Body) > saltSize+6*MaxBody {
		return Fields{}, fmt.Errorf("%w: counter %d: its size is wrong", ErrForged, p.Counter)
	}
	f, err := parseLeaf(p.Leaf)
	if err != nil {
		return Fields{}, fmt.Errorf("%w: counter %d: %w", ErrForged, p.Counter, err)
	}
	if f.Counter != p.Counter || f.Node != l.node {
		return Fields{}, fmt.Errorf("%w: the row %d of node %s has the leaf %d of node %q", ErrForged, p.Counter, l.node, f.Counter, f.Node)
	}
	if bodyHash(p.Body) != f.Body {
		return Fields{}, fmt.Errorf("%w: counter %d: the body is not the one that its leaf names", ErrForged, p.Counter)
	}
	return f, nil
}

func (l *Log) submit(ctx context.Context, c *call) error {
	l.mu.Lock()
	if l.err != nil || l.closed {
		err := l.err
		l.mu.Unlock()
		if err == nil {
			err = ErrClosed
		}
		return err
	}
	l.queue = append(l.queue, c)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take removes the calls of the next batch from the queue.
func (l *Log) take() []*call {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, n := 0, 0
	for n < len(l.queue) && size < softBatch {
		size += l.queue[n].size
		n++
	}
	batch := l.queue[:n:n]
	l.queue = l.queue[n:]
	if len(l.queue) == 0 {
		l.queue = nil
	}
	return batch
}

// write is the writer goroutine: the only one that appends.
func (l *Log) write(ctx context.Context) {
	for {
		stopping := false
		select {
		case <-l.wake:
		case <-ctx.Done():
			stopping = true
		}
		for batch := l.take(); len(batch) > 0; batch = l.take() {
			err := l.Err()
			if err == nil {
				batch, err = l.commit(batch)
			}
			for _, c := range batch {
				c.done <- err
			}
		}
		if stopping {
			return
		}
	}
}

// An item is an entry on its way into a batch.
type item struct {
	Pending
	fields Fields
	at     bodyPlace
}

// commit writes one batch. It answers the calls that the counters refuse itself,
// and returns the others, whose answer is err.
func (l *Log) commit(calls []*call) (good []*call, err error) {
	counts := map[string]uint64{l.node: l.Counter(), l.direct(): l.counter(l.direct())}
	var items []item
	for _, c := range calls {
		added, err := l.number(c, counts, l.tree.size+int64(len(items)))
		if err != nil {
			c.done <- err
			continue
		}
		items, good = append(items, added...), append(good, c)
	}
	if len(items) == 0 {
		return good, nil
	}
	if err := l.bodies.write(items, l.now()); err != nil {
		return good, l.judge("bodies", err)
	}
	next, places, signed, err := l.encode(items)
	if err != nil {
		return good, l.fail(err)
	}
	at, err := l.wal.write(l.buf)
	if err != nil {
		return good, l.judge("entries", err)
	}
	hashes := next.hashes
	l.tree = next.tree
	l.mu.Lock()
	for _, off := range places {
		l.index = append(l.index, place{segment: at.segment, offset: at.offset + off})
	}
	l.counts[l.node], l.counts[l.direct()] = counts[l.node], counts[l.direct()]
	l.state.Size, l.state.Root, l.state.Time = l.tree.size, l.tree.root(), items[len(items)-1].fields.When()
	l.mu.Unlock()
	for i := range items {
		l.publisher.add(items[i].Leaf, hashes[i])
	}
	l.publisher.covered(l.tree.size, signed)
	l.mirror.add(l.tree.size-int64(len(items)), items)
	return good, nil
}

func (l *Log) counter(stream string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[stream]
}

// number gives a call's entries their place, and moves counts along; where it
// returns an error nothing has changed.
func (l *Log) number(c *call, counts map[string]uint64, index int64) ([]item, error) {
	var items []item
	last := counts[l.node]
	for i, p := range c.pending {
		if p.Counter <= last {
			continue
		}
		if p.Counter != last+1 {
			return nil, fmt.Errorf("%w: counter %d comes after %d", ErrGap, p.Counter, last)
		}
		last++
		items = append(items, item{Pending: p, fields: c.fields[i]})
	}
	counts[l.node] = last
	for _, d := range c.drafts {
		counts[l.direct()]++
		p := d.number(counts[l.direct()])
		f, err := parseLeaf(p.Leaf)
		if err != nil {
			return nil, err
		}
		items = append(items, item{Pending: p, fields: f})
	}
	if len(items) > 0 {
		c.first = index
	}
	return items, nil
}

type grown struct {
	tree   tree
	hashes []tlog.Hash
}

// encode puts the batch into l.buf: entries, then the signed checkpoint that
// covers them. places are the entries' offsets in it.
func (l *Log) encode(items []item) (next grown, places []uint32, signed []byte, err error) {
	next.tree = l.tree
	l.buf = l.wal.header(l.buf[:0], l.tree.size)
	places = make([]uint32, len(items))
	next.hashes = make([]tlog.Hash, len(items))
	for i := range items {
		places[i] = uint32(len(l.buf))
		next.hashes[i] = recordHash(items[i].Leaf)
		next.tree.add(next.hashes[i])
		l.buf = appendFrame(l.buf, frameEntry, items[i].at.bytes(), items[i].Leaf)
	}
	signed, err = l.sign(next.tree)
	if err != nil {
		return grown{}, nil, nil, err
	}
	l.buf = appendFrame(l.buf, frameCheckpoint, signed)
	return next, places, signed, nil
}

func (l *Log) sign(t tree) ([]byte, error) {
	cp := torchwood.Checkpoint{Origin: l.origin, Tree: tlog.Tree{N: t.size, Hash: t.root()}}
	signed, err := note.Sign(&note.Note{Text: cp.String()}, l.signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return signed, nil
}

// recordHash is tlog.RecordHash without its allocation.
func recordHash(leaf []byte) tlog.Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(leaf)
	var sum tlog.Hash
	h.Sum(sum[:0])
	return sum
}

// judge tells a full disk, after which the log goes on, from everything else.
// errUndone marks a full disk whose half-written bytes could not be taken back.
func (l *Log) judge(what string, err error) error {
	if durable.IsFull(err) && !errors.Is(err, errUndone) {
		return fmt.Errorf("%w: write %s: %w", ErrFull, what, err)
	}
	return l.fail(fmt.Errorf("write %s: %w", what, err))
}

var errUndone = errors.New("what was half written could not be taken back")

func bodyMonth(t time.Time) uint32 {
	t = t.UTC()
	return uint32(t.Year()*100 + int(t.Month()))
}
