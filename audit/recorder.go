package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/durable"
)

// When a chunk is closed: what a power loss can take is at most what a second wrote.
const (
	chunkSize = 64 << 10
	chunkAge  = 750 * time.Millisecond // with chunkTick it makes at most a second
	chunkTick = 250 * time.Millisecond
	syncsOnce = 8 // chunks that are synced at the same time
)

// chunkBody is the body of a recording.chunk entry. The bytes are on disk before it.
type chunkBody struct {
	N      int    `json:"n"` // from 0
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"`
	Meta   string `json:"meta,omitempty"` // SHA-256 of meta.json, in chunk 0
}

// sealedBody is the body of a recording.sealed entry.
type sealedBody struct {
	Summary
	Meta string `json:"meta"`           // SHA-256 of meta.json
	Lost bool   `json:"lost,omitempty"` // the recorder failed: bytes behind the last chunk are not vouched for
}

// A Recorder writes the recording of one session. Several goroutines may use it.
// Once it has failed the session must end: nothing is recorded any more.
type Recorder struct {
	in     *Recordings
	meta   Meta
	folder string
	digest string // of meta.json
	file   *durable.File
	failed chan struct{}

	sealing sync.Mutex // held while a chunk is made durable and logged; before mu
	named   bool       // the files' names are on disk
	chunks  int
	logged  int64 // the end of the last logged chunk
	total   hash.Hash

	mu      sync.Mutex // guards what follows
	buf     []byte
	sum     hash.Hash // of the chunk so far
	start   int64     // of the chunk
	end     int64     // of the file
	since   time.Time // the chunk's first line
	err     error
	ended   bool
	summary Summary
}

// Start begins the recording of a session, whose identifier must be new.
func (r *Recordings) Start(ctx context.Context, m Meta) (*Recorder, error) {
	rec, err := r.start(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("start recording: %w", err)
	}
	return rec, nil
}

func (r *Recordings) start(ctx context.Context, m Meta) (_ *Recorder, err error) {
	if !goodID(m.Session) {
		return nil, fmt.Errorf("%q is no session", m.Session)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := r.log.Err(); err != nil {
		return nil, err
	}
	if m.Started.IsZero() {
		m.Started = r.now()
	}
	m.Started = m.Started.UTC()
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	day := dayFolder(m.Started)
	if _, err := r.dir.Make(day); err != nil {
		return nil, err
	}
	folder := day + "/" + m.Session
	// The mark is first: Recover and Verify know by it that more may be to come.
	// Names and metadata are synced with the first chunk, before the log names them.
	if err := r.writeNew(folderOpen+"/"+m.Session, []byte(folder)); err != nil {
		return nil, err
	}
	if err := r.dir.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	if err := r.writeNew(folder+"/"+fileMetaData, append(text, '\n')); err != nil {
		return nil, err
	}
	f, err := r.dir.OpenFile(folder+"/"+fileChunks, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	rec := &Recorder{
		in: r, meta: m, folder: folder, digest: bodyHash(append(text, '\n')), file: f,
		failed: make(chan struct{}), total: sha256.New(), sum: sha256.New(),
	}
	r.mu.Lock()
	r.live[m.Session] = rec
	r.mu.Unlock()
	return rec, nil
}

// writeNew writes a file that must be new, without syncing it.
func (r *Recordings) writeNew(name string, data []byte) error {
	f, err := r.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// ErrRecorder is every error of a Recorder that cannot record any more.
var ErrRecorder = errors.New("the session cannot be recorded any more")

// Failed is closed when nothing can be recorded any more.
func (r *Recorder) Failed() <-chan struct{} { return r.failed }

// Err is nil, or why the recorder failed.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Write appends one line and returns once the kernel has it (write(2)), so that it
// outlives the gate. Passing a pointer saves an allocation. It wakes nobody; chunks
// are made durable behind it.
func (r *Recorder) Write(line Track) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	if r.ended {
		return fmt.Errorf("%w: the recording is sealed", ErrRecorder)
	}
	now := r.in.now()
	r.buf = append(line.appendTo(r.buf[:0], now), '\n')
	n, err := r.file.Write(r.buf)
	if err != nil {
		return r.failLocked(err)
	}
	r.sum.Write(r.buf)
	if r.start == r.end {
		r.since = now
	}
	r.end += int64(n)
	r.summary.Lines++
	line.count(&r.summary)
	if cap(r.buf) > chunkSize {
		r.buf = nil // one long statement must not stay in memory for the session's life
	}
	if r.end-r.start >= chunkSize {
		select {
		case r.in.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (r *Recorder) fail(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failLocked(err)
}

func (r *Recorder) failLocked(err error) error {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %w", ErrRecorder, err)
		close(r.failed)
	}
	return r.err
}

// due reports that the chunk is full or old.
func (r *Recorder) due(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err == nil && !r.ended && r.end > r.start &&
		(r.end-r.start >= chunkSize || now.Sub(r.since) >= chunkAge)
}

// cut ends the chunk, and begins the next; sealing is held. false: it is empty.
func (r *Recorder) cut() (chunkBody, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || r.end == r.start {
		return chunkBody{}, false
	}
	c := chunkBody{N: r.chunks, Offset: r.start, Length: r.end - r.start, SHA256: hex.EncodeToString(r.sum.Sum(nil))}
	if c.N == 0 {
		c.Meta = r.digest
	}
	r.sum.Reset()
	r.start = r.end
	return c, true
}

// sync puts the chunk, and before the first one the names, on disk; sealing is held.
func (r *Recorder) sync() error {
	if err := r.file.Sync(); err != nil {
		return err
	}
	if r.named {
		return nil
	}
	if err := r.in.syncNames(r.folder); err != nil {
		return err
	}
	r.named = true
	return nil
}

func (r *Recordings) syncNames(folder string) error {
	meta, err := r.dir.OpenFile(folder+"/"+fileMetaData, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(meta.Sync(), meta.Close()); err != nil {
		return err
	}
	if err := r.dir.SyncDir(folder); err != nil {
		return err
	}
	return r.dir.SyncDir(path.Dir(folder))
}

// took notes that a chunk is in the log; sealing is held.
func (r *Recorder) took(c chunkBody) {
	sum, err := hex.DecodeString(c.SHA256)
	if err != nil {
		panic(err) // made by cut
	}
	r.total.Write(sum)
	r.chunks++
	r.logged = c.Offset + c.Length
}

func (r *Recorder) event(kind string, body any) Event {
	return Event{Type: kind, Actor: "gate", Session: r.meta.Session, Request: r.meta.Request, Grant: r.meta.Grant, Body: body}
}

// closeChunks is the one goroutine that closes the chunks of all recorders.
func (r *Recordings) closeChunks(ctx context.Context) {
	tick := time.NewTicker(chunkTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.wake:
		}
		now := r.now()
		var due []*Recorder
		r.mu.Lock()
		for _, rec := range r.live {
			if rec.due(now) {
				due = append(due, rec)
			}
		}
		r.mu.Unlock()
		r.closeRound(due)
	}
}

// closeRound syncs the chunks side by side and logs them in one batch.
func (r *Recordings) closeRound(due []*Recorder) {
	if len(due) == 0 {
		return
	}
	chunks := make([]chunkBody, len(due))
	good := make([]bool, len(due))
	slots := make(chan struct{}, syncsOnce)
	var wg sync.WaitGroup
	for i, rec := range due {
		rec.sealing.Lock()
		if chunks[i], good[i] = rec.cut(); !good[i] {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := rec.sync(); err != nil {
				_ = rec.fail(err)
				good[i] = false
			}
		})
	}
	wg.Wait()
	var events []Event
	for i, rec := range due {
		if good[i] {
			events = append(events, rec.event(RecordingChunk, chunks[i]))
		}
	}
	var err error
	if len(events) > 0 {
		// Not with a context that ends: what is durable shall be logged.
		_, err = r.log.record(context.Background(), events...)
	}
	for i, rec := range due {
		switch {
		case good[i] && err == nil:
			rec.took(chunks[i])
		case good[i]:
			_ = rec.fail(err)
		}
		rec.sealing.Unlock()
	}
}

// Seal ends the recording: the last chunk is made durable and logged, and a
// recording.sealed entry with the cause. After a failure it seals what was logged
// before, and returns the failure. What it cannot log is sealed by Recover, as
// "crashed", at the next start.
func (r *Recorder) Seal(ctx context.Context, cause string) (Summary, error) {
	r.sealing.Lock()
	defer r.sealing.Unlock()
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return Summary{}, fmt.Errorf("%w: the recording is sealed", ErrRecorder)
	}
	r.ended = true
	r.mu.Unlock()
	defer r.release()
	defer r.in.forget(r.meta.Session)

	var events []Event
	c, more := r.cut()
	if r.Err() == nil {
		if err := r.sync(); err != nil {
			more, _ = false, r.fail(err)
		}
	}
	if more {
		events = append(events, r.event(RecordingChunk, c))
		r.took(c)
	}
	r.mu.Lock()
	failed := r.err
	r.summary.Chunks, r.summary.Size, r.summary.Cause, r.summary.Ended = r.chunks, r.logged, cause, r.in.now().UTC()
	r.summary.Hash = hex.EncodeToString(r.total.Sum(nil))
	s := r.summary
	r.mu.Unlock()
	body := sealedBody{Summary: s, Meta: r.digest, Lost: failed != nil}
	if _, err := r.in.log.record(ctx, append(events, r.event(RecordingSealed, body))...); err != nil {
		return s, errors.Join(failed, fmt.Errorf("seal recording: %w", err))
	}
	if err := r.in.finish(r.folder, r.meta.Session, s); err != nil {
		return s, errors.Join(failed, fmt.Errorf("seal recording: %w", err))
	}
	return s, failed
}

// finish writes the summary and takes the recording off the open ones. In that
// order, so that a crash in between leaves work to Recover and nothing else.
func (r *Recordings) finish(folder, session string, s Summary) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := r.dir.Replace(folder+"/"+fileSummary, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return r.dir.Remove(folderOpen + "/" + session)
}

func (r *Recordings) forget(session string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, session)
}

// release closes the file.
func (r *Recorder) release() { _ = r.file.Close() } // what counts was synced before
