package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sallyport/sallyport/internal/durable"
)

// recover reads the log as it lies on disk and makes it ready to go on.
func (l *Log) recover() error {
	key, err := note.NewVerifier(l.key)
	if err != nil {
		return err
	}
	floor, err := readCheckpoint(l.dir, l.origin, key)
	if err != nil {
		return err
	}
	l.counts = map[string]uint64{}
	l.publisher = &publisher{
		dir: l.dir, wake: make(chan struct{}, 1), fail: l.fail, floor: floor.N,
		full: func(err error) { l.logger.Warn("tiles are not written", "err", err) },
	}
	s := walScan{dir: l.dir, origin: l.origin, key: key, floor: floor.Checkpoint}
	s.entry = func(_ int64, at place, _ bodyPlace, leaf []byte, hash tlog.Hash) error {
		f, err := parseLeaf(leaf)
		if err != nil {
			return &Damage{Why: err.Error()}
		}
		if f.Counter != l.counts[f.Node]+1 {
			return &Damage{Why: fmt.Sprintf("counter %d of node %s comes after %d", f.Counter, f.Node, l.counts[f.Node])}
		}
		l.counts[f.Node] = f.Counter
		l.index = append(l.index, at)
		l.state.Time = f.When()
		l.publisher.add(leaf, hash)
		return nil
	}
	if err := s.run(); err != nil {
		return err
	}
	if err := l.resume(&s); err != nil {
		return err
	}
	l.tree = s.tree
	l.state.Origin, l.state.Node, l.state.Key = l.origin, l.node, l.key
	l.state.Size, l.state.Root = s.tree.size, s.tree.root()
	signed := s.last
	if signed == nil {
		if signed, err = l.sign(tree{}); err != nil {
			return err
		}
	}
	l.publisher.signed = append([]byte(nil), signed...)
	return l.publisher.publish()
}

// resume opens the last segment for writing and cuts the torn tail off. What stays is
// synced, with its name: the process before may have died between a write and its sync,
// and what is built on that batch from now on must not outlast it.
func (l *Log) resume(s *walScan) error {
	l.wal.dir, l.wal.origin, l.wal.segment = l.dir, l.origin, max(s.segment, 1)
	l.bodies.dir = l.dir
	if s.segment == 0 {
		return nil
	}
	f, err := l.dir.OpenFile(walName(s.segment), os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	l.wal.file, l.wal.offset = f, s.end
	if s.torn > 0 {
		l.logger.Warn("the last batch was not finished before a crash; it was never acknowledged and is cut off",
			"file", walName(s.segment), "byte", s.end, "bytes", s.torn)
		if err := f.Truncate(s.end); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return l.dir.SyncDir("wal")
}

type signedCheckpoint struct {
	torchwood.Checkpoint
	signed []byte
}

// readCheckpoint reads and verifies the file checkpoint. A log that never got that
// far, because a crash came before its first batch, has none and no segment.
func readCheckpoint(dir *durable.Dir, origin string, key note.Verifier) (signedCheckpoint, error) {
	signed, err := dir.ReadFile(fileCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		segments, err := fs.Glob(dir.FS(), "wal/*.seg")
		if err == nil && len(segments) > 0 {
			err = &Damage{File: fileCheckpoint, Byte: -1, Why: "it is missing, though there are entries"}
		}
		return signedCheckpoint{}, err
	}
	if err != nil {
		return signedCheckpoint{}, err
	}
	cp, why := openCheckpoint(signed, origin, key)
	if why != "" {
		return signedCheckpoint{}, &Damage{File: fileCheckpoint, Byte: -1, Why: why}
	}
	return signedCheckpoint{cp, signed}, nil
}

// openCheckpoint verifies a signed checkpoint of the log.
func openCheckpoint(signed []byte, origin string, key note.Verifier) (cp torchwood.Checkpoint, why string) {
	n, err := note.Open(signed, note.VerifierList(key))
	if err != nil {
		return cp, "it is not signed by the log's key"
	}
	if cp, err = torchwood.ParseCheckpoint(n.Text); err != nil {
		return cp, "it cannot be read as a checkpoint"
	}
	if cp.Origin != origin {
		return cp, fmt.Sprintf("it belongs to the log %q", strings.ToValidUTF8(cp.Origin, "?"))
	}
	return cp, ""
}
