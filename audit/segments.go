package audit

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/durable"
)

// segmentSize is when a WAL or body segment is full: the next batch begins another.
const segmentSize = 64 << 20

// A place is where an entry's frame is in the WAL.
type place struct {
	segment uint32
	offset  uint32
}

func walName(n uint32) string { return fmt.Sprintf("wal/%06d.seg", n) }

// segmentHead is the data of a WAL segment's first frame.
type segmentHead struct {
	Origin  string `json:"origin"`
	Segment uint32 `json:"segment"`
	First   int64  `json:"first"` // index of the first entry
}

// A walWriter appends batches. Only the log's writer goroutine uses it.
type walWriter struct {
	dir     *durable.Dir
	origin  string
	size    int64 // of a full segment
	file    *durable.File
	segment uint32
	offset  int64
}

// header begins a batch: in an empty segment, or when the present one is full,
// with the frame that heads a segment. It is part of the batch's one write.
func (w *walWriter) header(buf []byte, first int64) []byte {
	segment := w.segment
	switch {
	case w.offset >= w.size:
		segment++
	case w.offset > 0:
		return buf
	}
	head, err := json.Marshal(segmentHead{Origin: w.origin, Segment: segment, First: first})
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return appendFrame(buf, frameSegment, head)
}

// write puts a batch on disk: one write, one fdatasync. It returns where the batch begins.
func (w *walWriter) write(batch []byte) (place, error) {
	if w.file == nil || w.offset >= w.size {
		if err := w.rotate(); err != nil {
			return place{}, err
		}
	}
	if err := writeWhole(w.file, batch, w.offset); err != nil {
		return place{}, err
	}
	if err := w.file.Sync(); err != nil {
		return place{}, errors.Join(errUndone, err)
	}
	at := place{segment: w.segment, offset: uint32(w.offset)}
	w.offset += int64(len(batch))
	return at, nil
}

func (w *walWriter) rotate() error {
	segment := w.segment
	if w.file != nil {
		segment++
	}
	f, err := w.dir.OpenFile(walName(segment), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != 0 {
		err = fmt.Errorf("%s is there already", walName(segment))
	}
	if err == nil {
		err = w.dir.SyncDir("wal")
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if err := w.close(); err != nil {
		return errors.Join(err, f.Close())
	}
	w.file, w.segment, w.offset = f, segment, 0
	return nil
}

func (w *walWriter) close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// writeWhole writes p at the offset; where the disk is full it takes back what was
// written, so that nothing of p stays.
func writeWhole(f *durable.File, p []byte, offset int64) error {
	_, err := f.WriteAt(p, offset)
	if err == nil {
		return nil
	}
	if undo := f.Truncate(offset); undo != nil {
		return errors.Join(err, errUndone, undo)
	}
	return err
}

// A bodyPlace is where a body's frame is in the body files. It is kept beside the
// leaf, not in it: the leaf's hash finds out a wrong one.
type bodyPlace struct {
	month   uint32 // 202611
	segment uint32
	offset  uint32
}

const bodyPlaceSize = 12

func (b bodyPlace) bytes() []byte {
	p := make([]byte, 0, bodyPlaceSize)
	p = binary.BigEndian.AppendUint32(p, b.month)
	p = binary.BigEndian.AppendUint32(p, b.segment)
	return binary.BigEndian.AppendUint32(p, b.offset)
}

// splitEntry takes an entry frame's data apart.
func splitEntry(data []byte) (bodyPlace, []byte, bool) {
	if len(data) <= bodyPlaceSize || len(data) > bodyPlaceSize+MaxLeaf {
		return bodyPlace{}, nil, false
	}
	return bodyPlace{
		month:   binary.BigEndian.Uint32(data),
		segment: binary.BigEndian.Uint32(data[4:]),
		offset:  binary.BigEndian.Uint32(data[8:]),
	}, data[bodyPlaceSize:], true
}

func bodyFolder(month uint32) string { return fmt.Sprintf("body/%04d-%02d", month/100, month%100) }

func (b bodyPlace) file() string {
	return fmt.Sprintf("%s/%06d.seg", bodyFolder(b.month), b.segment)
}

// A bodyWriter appends bodies. Only the log's writer goroutine uses it.
type bodyWriter struct {
	dir  *durable.Dir
	size uint32 // of a full segment
	file *durable.File
	at   bodyPlace // where the next body goes
	buf  []byte
}

// write puts the bodies on disk and says in each item where: they must be there
// before the entries that name them.
func (w *bodyWriter) write(items []item, now time.Time) error {
	if month := bodyMonth(now); w.file == nil || w.at.month != month || w.at.offset >= w.size {
		if err := w.rotate(month); err != nil {
			return err
		}
	}
	w.buf = w.buf[:0]
	for i := range items {
		items[i].at = w.at
		items[i].at.offset += uint32(len(w.buf))
		w.buf = appendFrame(w.buf, frameBody, items[i].Body)
	}
	if err := writeWhole(w.file, w.buf, int64(w.at.offset)); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return errors.Join(errUndone, err)
	}
	w.at.offset += uint32(len(w.buf))
	return nil
}

// rotate opens the month's last segment at its end, or the next one where that is
// full. Bytes of a batch that a crash cut short stay in it; no entry names them.
func (w *bodyWriter) rotate(month uint32) error {
	folder := bodyFolder(month)
	if _, err := w.dir.Make(folder); err != nil {
		return err
	}
	names, err := fs.ReadDir(w.dir.FS(), folder)
	if err != nil {
		return err
	}
	next := bodyPlace{month: month, segment: 1}
	for _, name := range names {
		var n uint32
		if _, err := fmt.Sscanf(name.Name(), "%06d.seg", &n); err != nil || !strings.HasSuffix(name.Name(), ".seg") {
			continue
		}
		info, err := name.Info()
		if err != nil {
			return err
		}
		if n >= next.segment {
			next.segment, next.offset = n, uint32(min(info.Size(), int64(w.size)))
		}
	}
	if next.offset >= w.size {
		next.segment, next.offset = next.segment+1, 0
	}
	f, err := w.dir.OpenFile(next.file(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := w.dir.SyncDir(folder); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := w.close(); err != nil {
		return errors.Join(err, f.Close())
	}
	w.file, w.at = f, next
	return nil
}

func (w *bodyWriter) close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}
