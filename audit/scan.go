package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sallyport/sallyport/internal/durable"
)

// A walScan reads the WAL from its first byte, checks all that can be checked
// without bodies, and hands out what lies under a checkpoint.
type walScan struct {
	dir    *durable.Dir
	origin string
	key    note.Verifier
	floor  torchwood.Checkpoint // the checkpoint file's: the log is at least this long

	// entry is called for each entry that a checkpoint covers, in order.
	entry func(index int64, at place, where bodyPlace, leaf []byte, hash tlog.Hash) error

	// signed is called with each checkpoint, whose signature it checks. nil: only the
	// last one's is checked.
	signed func(signed []byte, name string, at int64)

	tree        tree // under the last checkpoint
	checkpoints int64
	last        []byte // the last checkpoint, signed
	segment     uint32 // the last segment; 0: there is none
	end         int64  // where the last checkpoint ends in it
	torn        int64  // bytes behind end, which a crash left or a writer is about to finish
}

// run reads everything. Its errors are a *Damage, one of entry's, or an I/O error.
func (s *walScan) run() error {
	names, err := fs.ReadDir(s.dir.FS(), "wal")
	if err != nil {
		return err
	}
	var segments []string
	for _, name := range names {
		if strings.HasSuffix(name.Name(), ".seg") {
			segments = append(segments, "wal/"+name.Name())
		}
	}
	met := s.floor.N == 0
	for i, name := range segments {
		if want := walName(uint32(i + 1)); name != want {
			return &Damage{File: want, Byte: -1, Why: "it is missing"}
		}
		data, err := s.dir.ReadFile(name)
		if err != nil {
			return err
		}
		s.segment, s.end = uint32(i+1), 0
		if err := s.read(name, data, i == len(segments)-1, &met); err != nil {
			return err
		}
	}
	if !met {
		file, at := fileCheckpoint, int64(-1)
		return &Damage{File: file, Byte: at, Why: fmt.Sprintf("it covers %d entries, and the log ends after %d: the end was cut off, or an old copy was put back", s.floor.N, s.tree.size)}
	}
	return s.checkLast()
}

// checkLast verifies the last checkpoint's signature, where not all were.
func (s *walScan) checkLast() error {
	if s.signed != nil || s.last == nil {
		return nil
	}
	if _, err := note.Open(s.last, note.VerifierList(s.key)); err != nil {
		return &Damage{File: walName(s.segment), Byte: s.end, Why: "the checkpoint that ends here is not signed by the log's key"}
	}
	return nil
}

// A waiting is an entry that no checkpoint covers yet.
type waiting struct {
	at    place
	where bodyPlace
	leaf  []byte
	hash  tlog.Hash
}

// read reads one segment.
func (s *walScan) read(name string, data []byte, isLast bool, met *bool) error {
	var batch []waiting
	next := s.tree
	at := 0
	for at < len(data) {
		kind, body, size, err := readFrame(data[at:])
		if err != nil {
			return s.tail(name, data, at, size, err, isLast)
		}
		damage := func(why string) error { return &Damage{File: name, Byte: int64(at), Why: why} }
		switch {
		case at == 0 && kind != frameSegment:
			return damage("a segment does not begin with its head")
		case kind == frameSegment:
			if why := s.checkHead(at, body); why != "" {
				return damage(why)
			}
		case kind == frameEntry:
			where, leaf, ok := splitEntry(body)
			if !ok {
				return damage("an entry's frame is too short or too long")
			}
			w := waiting{place{s.segment, uint32(at)}, where, leaf, recordHash(leaf)}
			next.add(w.hash)
			batch = append(batch, w)
		case kind == frameCheckpoint:
			if why := s.checkpoint(next, body, met); why != "" {
				return damage(why)
			}
			if s.signed != nil {
				s.signed(body, name, int64(at))
			}
			for i, w := range batch {
				if err := s.entry(s.tree.size+int64(i), w.at, w.where, w.leaf, w.hash); err != nil {
					return located(err, name, int64(w.at.offset))
				}
			}
			s.tree, s.last, s.end = next, body, int64(at+size)
			s.checkpoints++
			batch = batch[:0]
		default:
			return damage(fmt.Sprintf("a frame of the unknown type %q", kind))
		}
		at += size
	}
	if int64(at) > s.end || (at == 0 && !isLast) {
		return s.tail(name, data, at, 0, errShort, isLast)
	}
	return nil
}

// located completes a *Damage that an entry's check made.
func located(err error, name string, at int64) error {
	var d *Damage
	if errors.As(err, &d) && d.File == "" {
		return &Damage{File: name, Byte: at, Why: d.Why}
	}
	return err
}

func (s *walScan) checkHead(at int, body []byte) (why string) {
	var head segmentHead
	switch err := json.Unmarshal(body, &head); {
	case at != 0:
		return "a segment's head in its middle"
	case err != nil:
		return "a segment's head is no JSON"
	case head.Origin != s.origin:
		return fmt.Sprintf("the segment belongs to the log %q", head.Origin)
	case head.Segment != s.segment:
		return fmt.Sprintf("the segment is number %d, put in another's place", head.Segment)
	case head.First != s.tree.size:
		return fmt.Sprintf("the segment begins with entry %d, but %d come before it", head.First, s.tree.size)
	}
	return ""
}

// checkpoint checks a checkpoint against the tree that the entries make.
func (s *walScan) checkpoint(next tree, signed []byte, met *bool) (why string) {
	text, _, found := strings.Cut(string(signed), "\n\n")
	cp, err := torchwood.ParseCheckpoint(text + "\n")
	switch {
	case !found || err != nil:
		return "a checkpoint that cannot be read"
	case cp.Origin != s.origin:
		return fmt.Sprintf("a checkpoint of the log %q", cp.Origin)
	case cp.N != next.size || cp.N == s.tree.size:
		return fmt.Sprintf("a checkpoint over %d entries after %d", cp.N, next.size)
	case cp.Hash != next.root():
		return "the entries before this checkpoint are not those that it was signed over"
	}
	if cp.N == s.floor.N {
		if cp.Hash != s.floor.Hash {
			return "the file checkpoint has another root than the log had at that size"
		}
		*met = true
	}
	return ""
}

// tail judges what cannot be read at the byte at. It is the torn end of a batch
// that a crash cut short, which was never acknowledged, only if nothing else
// explains it. (The classic mistake: one flipped bit in the middle is taken for a
// torn tail, and everything behind it is dropped as if it had never been.)
func (s *walScan) tail(name string, data []byte, at, size int, broken error, isLast bool) error {
	refuse := func(why string) error { return &Damage{File: name, Byte: int64(at), Why: why} }
	if !isLast {
		return refuse(broken.Error() + ", and another segment follows")
	}
	if int64(len(data))-s.end > maxTail {
		return refuse(broken.Error() + ", and more follows than one batch")
	}
	for i := at + 1; i < len(data); i++ {
		if data[i] != frameCheckpoint {
			continue
		}
		if _, _, _, err := readFrame(data[i:]); err == nil {
			return refuse(fmt.Sprintf("%s, and a checkpoint follows at byte %d", broken, i))
		}
	}
	if !errors.Is(broken, errShort) && !s.hole(data, at, size) {
		return refuse(broken.Error())
	}
	s.torn = int64(len(data)) - s.end
	return nil
}

// hole reports that a disk sector under the frame at the byte at was never written:
// it reads as zeros, which no frame does.
func (s *walScan) hole(data []byte, at, size int) bool {
	const sector = 512
	end := min(at+max(size, frameHeader), len(data))
	for from := at; from < end; {
		to := min((from/sector+1)*sector, len(data))
		start := max(from/sector*sector, int(s.end))
		if allZero(data[start:to]) {
			return true
		}
		from = to
	}
	return false
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
