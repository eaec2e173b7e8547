package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/durable"
)

// Files of a recording's folder, recordings/YYYY/MM/DD/<session>/.
const (
	fileMetaData = "meta.json"    // Meta, written at the start; its hash is in the log
	fileChunks   = "chunks.bin"   // the lines
	fileSummary  = "summary.json" // Summary, written when the recording is sealed
	folderOpen   = "open"         // one file for each recording that is not sealed, holding its folder's name
)

// ErrNoRecording: there is no recording of that session.
var ErrNoRecording = errors.New("there is no recording of that session")

// Meta says what a recording is of. It holds names; the log holds only its hash.
type Meta struct {
	Session  string    `json:"session"`
	Protocol string    `json:"protocol"`
	Target   string    `json:"target"`
	Role     string    `json:"role"`
	Object   string    `json:"object,omitempty"`
	User     string    `json:"user"`            // identity.User.ID
	Email    string    `json:"email,omitempty"` // as people see the user
	Proof    string    `json:"proof,omitempty"`
	Client   string    `json:"client,omitempty"`  // address and port
	Program  string    `json:"program,omitempty"` // what the client calls itself; never trusted
	Grant    string    `json:"grant,omitempty"`
	Request  string    `json:"request,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Ticket   string    `json:"ticket,omitempty"`
	Node     string    `json:"node,omitempty"`
	Started  time.Time `json:"started"` // zero: now
}

// A Summary is what a sealed recording comes to. The recording.sealed entry holds
// Cause, Chunks, Size and Hash too, and is what counts.
type Summary struct {
	Statements int64     `json:"statements"` // or requests
	Errors     int64     `json:"errors"`
	Rows       int64     `json:"rows"`
	Bytes      int64     `json:"bytes"` // that rows, files, bodies or terminal had
	Lines      int64     `json:"lines"`
	Chunks     int       `json:"chunks"`
	Size       int64     `json:"size"` // of chunks.bin
	Hash       string    `json:"hash"` // SHA-256 over the chunks' SHA-256, hex
	Cause      string    `json:"cause"`
	Ended      time.Time `json:"ended"`
}

// A Recording is a recording as it lies on disk.
type Recording struct {
	Meta    Meta     `json:"meta"`
	Summary *Summary `json:"summary"` // nil: not sealed, the session is live
	dir     *durable.Dir
	folder  string
}

// RecordingOptions are for OpenRecordings; the zero value is right outside tests.
type RecordingOptions struct {
	Logger *slog.Logger
	Now    func() time.Time
	Faults *durable.Faults
}

// Recordings is the folder of all recordings. Its methods may be called by many
// goroutines at once. Recordings are not encrypted yet: whoever reads the disk
// reads them. A chunk is a byte range with a hash over the bytes as they lie there,
// so that it can become an age file without a change to the log.
type Recordings struct {
	dir    *durable.Dir
	log    *Log
	logger *slog.Logger
	now    func() time.Time

	wake chan struct{} // 1 buffered: a chunk is full
	stop context.CancelFunc
	done sync.WaitGroup

	mu   sync.Mutex // guards live
	live map[string]*Recorder
}

// OpenRecordings opens the folder, and makes it where it is missing. Recover comes
// next, before the first Start.
func OpenRecordings(dir string, log *Log, o RecordingOptions) (*Recordings, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open recordings: %w", err)
	}
	d, err := durable.Open(dir, o.Faults)
	if err != nil {
		return nil, fmt.Errorf("open recordings: %w", err)
	}
	if _, err := d.Make(folderOpen); err != nil {
		return nil, errors.Join(fmt.Errorf("open recordings: %w", err), d.Close())
	}
	r := &Recordings{dir: d, log: log, logger: o.Logger, now: o.Now, wake: make(chan struct{}, 1), live: map[string]*Recorder{}}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	r.done.Go(func() { r.closeChunks(ctx) })
	return r, nil
}

// Close waits for the chunks that are being logged. Recorders that were not sealed
// fail, and are sealed by the next Recover.
func (r *Recordings) Close() error {
	r.stop()
	r.done.Wait()
	r.mu.Lock()
	left := r.live
	r.live = map[string]*Recorder{}
	r.mu.Unlock()
	for _, rec := range left {
		_ = rec.fail(errors.New("the recordings were closed"))
		rec.release()
	}
	return r.dir.Close()
}

// goodID keeps session identifiers from naming other folders than their own.
func goodID(id string) bool {
	return word(id) && !strings.ContainsAny(id, "/:.")
}

func dayFolder(t time.Time) string { return t.UTC().Format("2006/01/02") }

// marked is the folder that the mark of an open recording names. A crash can leave
// a mark empty.
func marked(dir *durable.Dir, session string) (folder string, ok bool) {
	text, err := dir.ReadFile(folderOpen + "/" + session)
	day, name, found := strings.Cut(string(text), "/"+session)
	_, noDay := time.Parse("2006/01/02", day)
	return string(text), err == nil && found && name == "" && noDay == nil
}

// find is the folder of a session's recording.
func (r *Recordings) find(session string) (string, error) {
	if !goodID(session) {
		return "", ErrNoRecording
	}
	if folder, ok := marked(r.dir, session); ok {
		return folder, nil
	}
	days, err := r.days()
	if err != nil {
		return "", err
	}
	for _, day := range days {
		folder := day + "/" + session
		if _, err := r.dir.Stat(folder + "/" + fileMetaData); err == nil {
			return folder, nil
		}
	}
	return "", ErrNoRecording
}

// days are the folders of days, newest first.
func (r *Recordings) days() ([]string, error) {
	days, err := fs.Glob(r.dir.FS(), "[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]")
	if err != nil {
		return nil, err
	}
	slices.Sort(days)
	slices.Reverse(days)
	return days, nil
}

// Read finds the recording of a session. ErrNoRecording where there is none.
func (r *Recordings) Read(session string) (Recording, error) {
	folder, err := r.find(session)
	if err != nil {
		return Recording{}, err
	}
	return r.load(folder)
}

func (r *Recordings) load(folder string) (Recording, error) {
	rec := Recording{dir: r.dir, folder: folder}
	if err := readJSON(r.dir, folder+"/"+fileMetaData, &rec.Meta); err != nil {
		return Recording{}, fmt.Errorf("read recording %s: %w", folder, err)
	}
	var s Summary
	switch err := readJSON(r.dir, folder+"/"+fileSummary, &s); {
	case err == nil:
		rec.Summary = &s
	case !errors.Is(err, fs.ErrNotExist):
		return Recording{}, fmt.Errorf("read recording %s: %w", folder, err)
	}
	return rec, nil
}

func readJSON(dir *durable.Dir, name string, into any) error {
	text, err := dir.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// List reads up to limit recordings, the newest day first; 0: all.
func (r *Recordings) List(ctx context.Context, limit int) ([]Recording, error) {
	days, err := r.days()
	if err != nil {
		return nil, err
	}
	var list []Recording
	for _, day := range days {
		folders, err := fs.ReadDir(r.dir.FS(), day)
		if err != nil {
			return nil, err
		}
		var today []Recording
		for _, folder := range folders {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			rec, err := r.load(day + "/" + folder.Name())
			if err != nil {
				// One unreadable recording must not hide the others; verify names it.
				r.logger.Warn("a recording cannot be read", "folder", day+"/"+folder.Name(), "err", err)
				continue
			}
			today = append(today, rec)
		}
		slices.SortFunc(today, func(a, b Recording) int { return b.Meta.Started.Compare(a.Meta.Started) })
		if list = append(list, today...); limit > 0 && len(list) >= limit {
			return list[:limit], nil
		}
	}
	return list, nil
}

// Lines reads the recording from its start. The last line of a live or crashed
// recording may be unfinished; it is left out.
func (r Recording) Lines(ctx context.Context) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		f, err := r.dir.Open(r.folder + "/" + fileChunks)
		if err != nil {
			yield(Line{}, err)
			return
		}
		defer f.Close()
		in := bufio.NewReaderSize(f, chunkSize)
		for {
			raw, err := in.ReadBytes('\n')
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Line{}, err)
				return
			}
			line, err := parseLine(bytes.TrimSuffix(raw, []byte("\n")))
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}
