package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/sallyport/sallyport/internal/durable"
)

// An Entry is one line of the log.
type Entry struct {
	Index  int64           `json:"index"`
	Fields                 // as the leaf says them
	Raw    []byte          `json:"-"` // the leaf, as it was hashed
	Salt   []byte          `json:"-"`
	Body   json.RawMessage `json:"body"` // nil where it was erased or is not the one that the leaf names
}

// Entries reads up to n entries from the index from on. Fewer than n mean the end
// of the log.
func (l *Log) Entries(ctx context.Context, from int64, n int) ([]Entry, error) {
	if from < 0 || n <= 0 {
		return nil, nil
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	var places []place
	if size := int64(len(l.index)); from < size {
		places = l.index[from:min(size, from+int64(n))]
	}
	l.mu.Unlock()
	r := entryReader{dir: l.dir}
	defer r.close()
	entries := make([]Entry, 0, len(places))
	for i, at := range places {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e, err := r.read(at)
		if err != nil {
			return nil, fmt.Errorf("read entry %d: %w", from+int64(i), err)
		}
		e.Index = from + int64(i)
		entries = append(entries, e)
	}
	return entries, nil
}

// walk reads all leaves of the log as it stands now, and bodies where they are asked for.
func (l *Log) walk(ctx context.Context, visit func(f Fields, body func() ([]byte, error)) error) error {
	l.mu.Lock()
	places := l.index
	l.mu.Unlock()
	r := entryReader{dir: l.dir}
	defer r.close()
	for i, at := range places {
		if err := ctx.Err(); err != nil {
			return err
		}
		leaf, where, err := r.leaf(at)
		if err != nil {
			return fmt.Errorf("read entry %d: %w", i, err)
		}
		f, err := parseLeaf(leaf)
		if err != nil {
			return fmt.Errorf("read entry %d: %w", i, err)
		}
		err = visit(f, func() ([]byte, error) {
			sealed, why := r.sealed(where, f.Body)
			if why != "" {
				return nil, fmt.Errorf("read entry %d: %s", i, why)
			}
			return sealed[saltSize:], nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// An entryReader reads entries and bodies, and keeps the last file of each open.
type entryReader struct {
	dir      *durable.Dir
	wal      *os.File
	segment  uint32
	body     *os.File
	bodyFile bodyPlace
}

func (r *entryReader) close() {
	for _, f := range []*os.File{r.wal, r.body} {
		if f != nil {
			_ = f.Close() // only read
		}
	}
}

func (r *entryReader) read(at place) (Entry, error) {
	leaf, where, err := r.leaf(at)
	if err != nil {
		return Entry{}, err
	}
	f, err := parseLeaf(leaf)
	if err != nil {
		return Entry{}, &Damage{File: walName(at.segment), Byte: int64(at.offset), Why: err.Error()}
	}
	e := Entry{Fields: f, Raw: leaf}
	if sealed, why := r.sealed(where, f.Body); why == "" {
		e.Salt, e.Body = sealed[:saltSize], sealed[saltSize:]
	}
	return e, nil
}

func (r *entryReader) leaf(at place) ([]byte, bodyPlace, error) {
	if r.wal == nil || r.segment != at.segment {
		f, err := r.dir.Open(walName(at.segment))
		if err != nil {
			return nil, bodyPlace{}, err
		}
		if r.wal != nil {
			_ = r.wal.Close() // only read
		}
		r.wal, r.segment = f, at.segment
	}
	kind, data, err := frameAt(r.wal, int64(at.offset))
	if err != nil || kind != frameEntry {
		return nil, bodyPlace{}, &Damage{File: walName(at.segment), Byte: int64(at.offset), Why: "there is no entry any more"}
	}
	where, leaf, ok := splitEntry(data)
	if !ok {
		return nil, bodyPlace{}, &Damage{File: walName(at.segment), Byte: int64(at.offset), Why: "there is no entry any more"}
	}
	return leaf, where, nil
}

// sealed reads salt and body; why says what is wrong with them.
func (r *entryReader) sealed(where bodyPlace, hash string) (sealed []byte, why string) {
	if r.body == nil || r.bodyFile.month != where.month || r.bodyFile.segment != where.segment {
		f, err := r.dir.Open(where.file())
		if err != nil {
			return nil, "its body's file cannot be opened"
		}
		if r.body != nil {
			_ = r.body.Close() // only read
		}
		r.body, r.bodyFile = f, where
	}
	kind, data, err := frameAt(r.body, int64(where.offset))
	if err != nil || kind != frameBody || len(data) < saltSize {
		return nil, "its body is gone"
	}
	if bodyHash(data) != hash {
		return nil, "its body is not the one that was logged"
	}
	return data, ""
}

// frameAt reads one frame from a file.
func frameAt(f *os.File, off int64) (kind byte, data []byte, err error) {
	head := make([]byte, frameHeader, 1024)
	if _, err := f.ReadAt(head, off); err != nil {
		return 0, nil, err
	}
	_, length, err := readHeader(head)
	if err != nil {
		return 0, nil, err
	}
	frame := append(head, make([]byte, length)...)
	if _, err := f.ReadAt(frame[frameHeader:], off+frameHeader); err != nil {
		return 0, nil, err
	}
	kind, data, _, err = readFrame(frame)
	return kind, data, err
}
