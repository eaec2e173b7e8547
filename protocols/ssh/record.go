package ssh

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/sftp"
)

// record is one session's recording. Its channels run side by side: what each one
// begins is a Query with the channel's number and what it is for as its kind; a
// marker before terminal lines says whose they are when that changes.
type record struct {
	to *audit.Recorder

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

// file writes that a file was moved; sum is nil where its bytes did not come in order.
func (r *record) file(name, direction string, size int64, sum []byte) error {
	return r.to.Write(&audit.File{Name: name, Direction: direction, Size: size, SHA256: hex.EncodeToString(sum)})
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

// Moved implements sftp.Record.
func (f *files) Moved(file sftp.File) error {
	name, direction := file.Name, directionDown
	if file.Up {
		direction = directionUp
	}
	if file.Ending != "" {
		name += " (" + file.Ending + ")"
	}
	return f.rec.file(name, direction, file.Size, file.SHA256)
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
