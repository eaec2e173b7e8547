package ssh

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/sftp"
)

// record is one session's recording. Its channels run side by side: what each one
// begins is a Query with the channel's number and what it is for as its kind; a
// marker before terminal lines says whose they are when that changes.
type record struct {
	to      *audit.Recorder
	content bool         // the bytes of files too
	files   atomic.Int64 // numbers those that are

	mu   sync.Mutex
	last string // the stream of the last terminal line
}

// terminal writes an event of a stream such as "channel 1" or "channel 1 stderr".
func (r *record) terminal(stream, code string, data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stream != r.last {
		if err := r.to.Write(&audit.Terminal{Code: "m", Data: []byte(stream)}); err != nil {
			return err
		}
		r.last = stream
	}
	return r.to.Write(&audit.Terminal{Code: code, Data: data})
}

// begun writes that a channel begins something, before the target hears of it.
func (r *record) begun(n int64, kind, what string) error {
	return r.to.Write(&audit.Query{N: n, Kind: kind, SQL: what})
}

// done writes how it ended.
func (r *record) done(n int64, how string, bytes int64, since time.Time) error {
	return r.to.Write(&audit.QueryDone{N: n, Tag: how, Bytes: bytes, Took: time.Since(since)})
}

func (r *record) note(format string, args ...any) error {
	return r.to.Write(&audit.Note{Text: fmt.Sprintf(format, args...)})
}

// file writes that a file was moved; sum is nil where its bytes did not come in order, n
// what piece returned.
func (r *record) file(name, direction string, size int64, sum []byte, n int64) error {
	return r.to.Write(&audit.File{Name: name, Direction: direction, Size: size, SHA256: hex.EncodeToString(sum), N: n})
}

// piece writes bytes of a file, where the policy asks for them: its first ones with 0 for
// n, others with what was returned.
func (r *record) piece(n int64, offset uint64, data []byte) (int64, error) {
	if !r.content {
		return 0, nil
	}
	if n == 0 {
		n = r.files.Add(1)
	}
	return n, r.to.Write(&audit.Piece{N: n, Offset: int64(offset), Data: data}) //nolint:gosec // of a file
}

// files is the observer of an SFTP conversation.
type files struct {
	rec   *record
	n     int64
	watch *sftp.Watch
}

func newFiles(rec *record, n int64) *files {
	f := &files{rec: rec, n: n}
	f.watch = sftp.New(f)
	return f
}

func (f *files) up(p []byte) error   { return f.watch.Up(p) }
func (f *files) down(p []byte) error { return f.watch.Down(p) }
func (f *files) close() error        { return f.watch.Close() }

// Began implements sftp.Record.
func (f *files) Began(what string) error { return f.rec.begun(f.n, channelSFTP, what) }

// Piece implements sftp.Record.
func (f *files) Piece(n int64, offset uint64, p []byte) (int64, error) {
	return f.rec.piece(n, offset, p)
}

// Moved implements sftp.Record.
func (f *files) Moved(file sftp.File) error {
	name, direction := file.Name, directionDown
	if file.Up {
		direction = directionUp
	}
	if file.Ending != "" {
		name += " (" + file.Ending + ")"
	}
	return f.rec.file(name, direction, file.Size, file.SHA256, file.N)
}

// Directions of a File.
const (
	directionUp   = "up"
	directionDown = "down"
)

// smallInput is how much input gets no digest: it may be a password, which its
// SHA-256 would give away.
const smallInput = 1024

// digest is the length and SHA-256 of a stream.
type digest struct {
	size int64
	sum  hash.Hash
}

func newDigest() *digest { return &digest{sum: sha256.New()} }

func (d *digest) add(p []byte) {
	d.size += int64(len(p))
	d.sum.Write(p)
}

func (d *digest) String() string {
	if d.size < smallInput {
		return fmt.Sprintf("%d bytes", d.size)
	}
	return fmt.Sprintf("%d bytes, SHA-256 %s", d.size, hex.EncodeToString(d.sum.Sum(nil)))
}
