package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sallyport/sallyport/internal/durable"
)

// VerifyOptions say what a log is checked against.
type VerifyOptions struct {
	// Key is the log's public key from a place that whoever could change the log
	// cannot change. Empty: log.json's own, which proves less; the Report says so.
	Key string
	// Since is a checkpoint of this log that was saved earlier: the log must
	// contain what it covers.
	Since []byte
	// Recordings is the folder of the recordings; empty: they are not checked.
	Recordings string
	// Session limits the check of the recordings to one.
	Session string
	// Progress, where it is set, is told now and then how many entries are read, of
	// at least how many.
	Progress func(done, total int64)
	// Each, where it is set, is given every entry whose body is the one that was logged,
	// in order. The body is the callee's for the call alone; an error ends the check.
	// What is given is proved only by the Report.
	Each func(Entry) error
}

// A Finding is something that is not as it was logged.
type Finding struct {
	Where string `json:"where"`
	What  string `json:"what"`
}

func (f Finding) String() string { return f.Where + ": " + f.What }

// maxFindings is how many findings are kept; Report.More counts the others.
const maxFindings = 100

// A Report is the outcome of Verify.
type Report struct {
	Origin  string    `json:"origin"`
	Key     string    `json:"key"`
	KeyFrom string    `json:"key_from"` // "given", or "log.json": the folder's own
	Size    int64     `json:"size"`     // entries under the last checkpoint
	Root    tlog.Hash `json:"root"`
	Last    time.Time `json:"last,omitzero"` // of the last entry

	Checkpoints int64 `json:"checkpoints"`
	Tiles       int64 `json:"tiles"`
	Recordings  int64 `json:"recordings"`
	Chunks      int64 `json:"chunks"`

	Findings []Finding `json:"findings,omitempty"` // tampered, or damaged
	More     int64     `json:"more,omitempty"`
	Problems []string  `json:"problems,omitempty"` // what could not be checked
	Notes    []string  `json:"notes,omitempty"`    // what is no fault, but good to know
}

// Verdict is "tampered", "could not check" or "verified". It is never "verified"
// where something could not be checked.
func (r Report) Verdict() string {
	switch {
	case len(r.Findings) > 0:
		return "tampered"
	case len(r.Problems) > 0:
		return "could not check"
	}
	return "verified"
}

// Exit is the exit status: 0 verified, 1 tampered, 2 could not check.
func (r Report) Exit() int {
	switch r.Verdict() {
	case "verified":
		return 0
	case "tampered":
		return 1
	}
	return 2
}

// Verify checks a log without its server and without changing a byte. It may run
// beside one that writes, and then checks what was written when it began. The
// error says that it could not check; what it found until then is in the Report.
func Verify(ctx context.Context, dir string, o VerifyOptions) (Report, error) {
	v := verifier{o: o, streams: map[string]uint64{}, refs: newReferences(), trails: map[string]*trail{}}
	err := v.run(ctx, dir)
	if err != nil {
		v.Problems = append(v.Problems, err.Error())
		err = fmt.Errorf("could not check %s: %w", dir, err)
	}
	return v.Report, err
}

// A verifier is one run of Verify.
type verifier struct {
	Report
	o       VerifyOptions
	mu      sync.Mutex // guards Findings, to which the signature checks add
	dir     *durable.Dir
	key     note.Verifier
	streams map[string]uint64
	refs    *references
	trails  map[string]*trail // of recordings, by session
	tiles   publisher         // only builds them
	floor   torchwood.Checkpoint
	edge    []tileFile // the partial tiles of the file checkpoint
	since   torchwood.Checkpoint
	tree    tree // up to since
	met     bool // the log had the size of since
	bodies  bodyFiles
}

func (v *verifier) found(where, what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.Findings) == maxFindings {
		v.More++
		return
	}
	v.Findings = append(v.Findings, Finding{where, what})
}

// damage turns a *Damage into a finding; other errors stay.
func (v *verifier) damage(err error) error {
	var d *Damage
	if !errors.As(err, &d) {
		return err
	}
	where := d.File
	if d.Byte >= 0 {
		where = fmt.Sprintf("%s, byte %d", d.File, d.Byte)
	}
	v.found(where, d.Why)
	return nil
}

func (v *verifier) run(ctx context.Context, name string) error {
	dir, err := durable.Open(name, nil)
	if err != nil {
		return err
	}
	defer dir.Close()
	v.dir, v.bodies.dir = dir, dir
	if ok, err := v.trust(); !ok {
		return v.damage(err)
	}
	// What may still grow is read first: checkpoint before WAL, recordings' names before both.
	rec, err := v.openRecordings()
	if err != nil {
		return err
	}
	defer rec.close()
	floor, err := readCheckpoint(dir, v.Origin, v.key)
	if err := v.damage(err); err != nil {
		return err
	}
	v.floor = floor.Checkpoint
	if err := v.damage(v.scan(ctx)); err != nil {
		return err
	}
	if err := v.checkEdge(floor.signed); err != nil {
		return err
	}
	v.checkSince()
	if len(v.Findings) > 0 {
		// The log itself is not whole; what it says of recordings proves nothing.
		return nil
	}
	return rec.check(ctx, v)
}

// trust finds the key that everything is checked with.
func (v *verifier) trust() (bool, error) {
	meta, err := readMeta(v.dir)
	if err != nil {
		return false, err
	}
	v.Origin, v.Key, v.KeyFrom = meta.Origin, meta.Key, "log.json"
	if v.o.Key != "" {
		v.Key, v.KeyFrom = v.o.Key, "given"
	} else {
		v.Notes = append(v.Notes, "the key comes from the log's own folder: whoever can write there can replace log and key together; give the key that was kept elsewhere")
	}
	if v.key, err = note.NewVerifier(v.Key); err != nil {
		return false, fmt.Errorf("the key (%s) is no verifier key", v.KeyFrom)
	}
	if v.o.Key != "" && meta.Key != v.o.Key {
		v.found(fileMeta, "the log has another key than the one given")
		return false, nil
	}
	if len(v.o.Since) > 0 {
		cp, why := openCheckpoint(v.o.Since, v.Origin, v.key)
		if why != "" {
			return false, fmt.Errorf("the saved checkpoint: %s", why)
		}
		v.since = cp
	}
	return true, nil
}

// scan reads the WAL and checks each entry with its body, its place in its stream,
// what it refers to, and the tiles. Signatures are checked beside it.
func (v *verifier) scan(ctx context.Context) error {
	type signature struct {
		signed []byte
		name   string
		at     int64
	}
	queue := make(chan signature, 256)
	var wg sync.WaitGroup
	for range max(1, runtime.GOMAXPROCS(0)-1) {
		wg.Go(func() {
			for s := range queue {
				if _, err := note.Open(s.signed, note.VerifierList(v.key)); err != nil {
					v.found(fmt.Sprintf("%s, byte %d", s.name, s.at), "a checkpoint that is not signed by the log's key")
				}
			}
		})
	}
	s := walScan{dir: v.dir, origin: v.Origin, key: v.key, floor: v.floor}
	s.signed = func(signed []byte, name string, at int64) { queue <- signature{signed, name, at} }
	s.entry = func(index int64, _ place, where bodyPlace, leaf []byte, hash tlog.Hash) error {
		if index%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if v.o.Progress != nil {
				v.o.Progress(index, max(v.floor.N, index))
			}
		}
		return v.entry(index, where, leaf, hash)
	}
	err := s.run()
	close(queue)
	wg.Wait()
	v.Size, v.Root, v.Checkpoints = s.tree.size, s.tree.root(), s.checkpoints
	if s.torn > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("%d bytes of an unfinished batch are behind the last checkpoint; they were never acknowledged", s.torn))
	}
	return err
}

// entry checks one entry.
func (v *verifier) entry(index int64, where bodyPlace, leaf []byte, hash tlog.Hash) error {
	f, err := parseLeaf(leaf)
	if err != nil {
		return &Damage{Why: err.Error()}
	}
	name := func() string { return fmt.Sprintf("entry %d (%s)", index, f.Type) } // rarely asked for
	if f.Counter != v.streams[f.Node]+1 {
		v.found(name(), fmt.Sprintf("counter %d of node %s comes after %d", f.Counter, f.Node, v.streams[f.Node]))
	}
	v.streams[f.Node] = f.Counter
	v.Last = f.When()
	sealed, why := v.bodies.sealed(where, f.Body)
	if why != "" {
		v.found(name(), why)
	}
	if v.o.Each != nil && why == "" {
		if err := v.o.Each(Entry{Index: index, Fields: f, Raw: leaf, Salt: sealed[:saltSize], Body: sealed[saltSize:]}); err != nil {
			return err
		}
	}
	for _, what := range v.refs.check(f) {
		v.found(name(), what)
	}
	if (f.Type == RecordingChunk || f.Type == RecordingSealed) && why == "" {
		t := v.trails[f.Session]
		if t == nil {
			t = newTrail()
			v.trails[f.Session] = t
		}
		if err := t.add(f.Type, sealed[saltSize:]); err != nil {
			v.found(name(), fmt.Sprintf("session %s: %s", f.Session, err))
		}
	}
	v.tiles.add(leaf, hash)
	for _, t := range v.tiles.done {
		if err := v.checkTile(t, index < v.floor.N); err != nil {
			return err
		}
	}
	v.tiles.done = nil
	if index+1 == v.floor.N {
		for _, t := range v.tiles.partials() {
			v.edge = append(v.edge, tileFile{t.tile, bytes.Clone(t.data)})
		}
	}
	if v.since.N > 0 && !v.met {
		v.tree.add(hash)
		if v.met = v.tree.size == v.since.N; v.met && v.tree.root() != v.since.Hash {
			v.found("the saved checkpoint", fmt.Sprintf("the first %d entries are not those that it covered", v.since.N))
		}
	}
	return nil
}

func (v *verifier) checkSince() {
	if v.since.N > 0 && !v.met {
		v.found("the saved checkpoint", fmt.Sprintf("it covers %d entries, and the log ends after %d: the end was cut off, or an old copy was put back", v.since.N, v.Size))
	}
}

// checkTile compares a tile with its file, which must exist where the file
// checkpoint covers it.
func (v *verifier) checkTile(t tileFile, must bool) error {
	name := torchwood.TilePath(t.tile)
	data, err := v.dir.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if must {
			v.found(name, "the tile is missing")
		}
		return nil
	case err != nil:
		return err
	case !bytes.Equal(data, t.data):
		if must {
			v.found(name, "the tile is not what the entries make")
		}
	}
	v.Tiles++
	return nil
}

// checkEdge compares the partial tiles of the file checkpoint. A log that is being
// written may have replaced them meanwhile, together with the checkpoint.
func (v *verifier) checkEdge(signed []byte) error {
	if v.Size < v.floor.N {
		return nil // found already
	}
	before := len(v.Findings)
	for _, t := range v.edge {
		if err := v.checkTile(t, true); err != nil {
			return err
		}
	}
	now, err := v.dir.ReadFile(fileCheckpoint)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(now, signed) {
		v.Findings = v.Findings[:before]
	}
	return nil
}

// bodyFiles reads bodies in the order in which they were written, a file at a time.
type bodyFiles struct {
	dir  *durable.Dir
	have bodyPlace // the file; its month is 0 for none
	data []byte
	err  error
}

// sealed returns salt and body; why says what is wrong with them.
func (b *bodyFiles) sealed(where bodyPlace, hash string) (sealed []byte, why string) {
	kind, data, err := b.frame(where)
	if err != nil || kind != frameBody || len(data) < saltSize {
		// The file may have grown since it was read.
		b.have = bodyPlace{}
		if kind, data, err = b.frame(where); err != nil || kind != frameBody || len(data) < saltSize {
			return nil, fmt.Sprintf("its body at %s, byte %d, is gone", where.file(), where.offset)
		}
	}
	if bodyHash(data) != hash {
		return nil, fmt.Sprintf("its body at %s, byte %d, is not the one that was logged", where.file(), where.offset)
	}
	return data, ""
}

func (b *bodyFiles) frame(where bodyPlace) (byte, []byte, error) {
	if where.month != b.have.month || where.segment != b.have.segment {
		b.have = where
		b.data, b.err = b.dir.ReadFile(where.file())
	}
	if b.err != nil {
		return 0, nil, b.err
	}
	if int64(where.offset) >= int64(len(b.data)) {
		return 0, nil, errShort
	}
	kind, data, _, err := readFrame(b.data[where.offset:])
	return kind, data, err
}
