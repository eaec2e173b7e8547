package audit

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/durable"
)

// written is a log of some batches, with the WAL's length after each.
type written struct {
	dir   string
	wal   []byte
	sizes []int64 // entries after each batch
	ends  []int   // bytes of the WAL after each batch
	key   string
	begin []byte // the checkpoint file of the empty log
}

func writeBatches(t testing.TB, batches ...int) written {
	t.Helper()
	w := written{dir: newLogDir(t)}
	l := openLog(t, Config{Dir: w.dir})
	w.begin, w.key = readFile(t, w.dir, fileCheckpoint), l.State().Key
	for _, n := range batches {
		var ps []Pending
		for i := range n {
			ps = append(ps, encode(t, l, l.Counter()+uint64(i)+1, Event{Type: SignedIn, Actor: "iss#alice", Body: "x"}))
		}
		if _, err := l.Append(t.Context(), ps); err != nil {
			t.Fatal(err)
		}
		w.sizes, w.ends = append(w.sizes, l.State().Size), append(w.ends, int(l.wal.offset))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w.wal = readFile(t, w.dir, "wal/000001.seg")
	return w
}

// whole is how many entries the first n bytes of the WAL hold under a checkpoint.
func (w written) whole(n int) (size int64) {
	for i, end := range w.ends {
		if n >= end {
			size = w.sizes[i]
		}
	}
	return size
}

// crashed makes the log look as after a crash before any tile was written: only
// the WAL knows of the entries.
func (w written) crashed(t testing.TB, wal []byte) string {
	t.Helper()
	dir := copyDir(t, w.dir)
	writeFile(t, w.begin, dir, fileCheckpoint)
	writeFile(t, wal, dir, "wal/000001.seg")
	return dir
}

// TestTornTailAtEveryLength cuts the WAL at each byte, as a crash may: all batches
// that were whole are there, and the log goes on.
func TestTornTailAtEveryLength(t *testing.T) {
	w := writeBatches(t, 1, 3, 2)
	dir := w.crashed(t, w.wal)
	key, err := note.NewVerifier(w.key)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := durable.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	for cut := range len(w.wal) + 1 {
		want := w.whole(cut)
		writeFile(t, w.wal[:cut], dir, "wal/000001.seg")
		s := walScan{dir: folder, origin: testOrigin, key: key}
		s.entry = func(int64, place, bodyPlace, []byte, tlog.Hash) error { return nil }
		if err := s.run(); err != nil || s.tree.size != want {
			t.Fatalf("cut at byte %d of %d: %d entries, want %d, %v", cut, len(w.wal), s.tree.size, want, err)
		}
		near := cut < 3 || slices.ContainsFunc(w.ends, func(end int) bool { return end-2 < cut && cut < end+2 })
		if !near && cut%389 != 0 {
			continue
		}
		writeFile(t, w.begin, dir, fileCheckpoint)
		l, err := Open(Config{Dir: dir, Node: "a"})
		if err != nil || l.State().Size != want {
			t.Fatalf("cut at byte %d: %v", cut, err)
		}
		fill(t, l, 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, dir, VerifyOptions{})
		emptyTiles(t, dir)
	}
}

func emptyTiles(t testing.TB, dir string) {
	t.Helper()
	err := errors.Join(os.RemoveAll(filepath.Join(dir, "tile")), os.Mkdir(filepath.Join(dir, "tile"), 0o700))
	if err != nil {
		t.Fatal(err)
	}
}

// TestFlippedBitIsNoTornTail flips bits anywhere: the log refuses to start, names a
// byte, and leaves the file as it is. Nothing acknowledged is dropped.
func TestFlippedBitIsNoTornTail(t *testing.T) {
	w := writeBatches(t, 2, 1, 3)
	dir := w.crashed(t, w.wal)
	// The draw is small enough to be read from the failure itself.
	if err := flag.Set("rapid.nofailfile", "true"); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		at := rapid.IntRange(0, len(w.wal)-1).Draw(rt, "byte")
		bit := rapid.IntRange(0, 7).Draw(rt, "bit")
		bad := bytes.Clone(w.wal)
		bad[at] ^= 1 << bit
		refusedAt(rt, t, dir, bad, at)
	})
	// The last batch has nothing behind it that would tell: every bit of it is tried.
	for at := w.ends[1]; at < len(w.wal); at++ {
		bad := bytes.Clone(w.wal)
		bad[at] ^= 1 << (at % 8)
		refusedAt(t, t, dir, bad, at)
	}
}

type fataler interface{ Fatalf(string, ...any) }

func refusedAt(ft fataler, t *testing.T, dir string, bad []byte, at int) {
	writeFile(t, bad, dir, "wal/000001.seg")
	l, err := Open(Config{Dir: dir, Node: "a"})
	if err == nil {
		size := l.State().Size
		_ = l.Close()
		ft.Fatalf("a changed byte %d passes, with %d entries", at, size)
	}
	var d *Damage
	if !errors.As(err, &d) || !errors.Is(err, ErrDamaged) {
		ft.Fatalf("a changed byte %d gives %v", at, err)
	}
	if d.File != "wal/000001.seg" || d.Byte < 0 {
		ft.Fatalf("a changed byte %d is said to be at %s, byte %d", at, d.File, d.Byte)
	}
	if after := readFile(t, dir, "wal/000001.seg"); !bytes.Equal(after, bad) {
		ft.Fatalf("a refused log was changed")
	}
	r, err := Verify(t.Context(), dir, VerifyOptions{})
	if err != nil || r.Exit() != 1 {
		ft.Fatalf("verify of a changed byte %d: %s, %v", at, r.Verdict(), err)
	}
}

// TestHolesOfACrash writes zeros where a sector of the last batch never reached the
// disk, though earlier ones did.
func TestHolesOfACrash(t *testing.T) {
	w := writeBatches(t, 2, 6)
	end := w.ends[0]
	for sector := end / 512; sector*512 < len(w.wal); sector++ {
		bad := bytes.Clone(w.wal)
		clear(bad[max(sector*512, end):])
		dir := w.crashed(t, bad)
		l, err := Open(Config{Dir: dir, Node: "a"})
		if err != nil || l.State().Size != w.sizes[0] {
			t.Fatalf("zeros from sector %d on: %v", sector, err)
		}
		fill(t, l, 1)
		_ = l.Close()
		mustVerify(t, dir, VerifyOptions{})
	}
}

// TestHoleBeforeACheckpointIsNoTornTail zeroes a sector that later batches rest on.
func TestHoleBeforeACheckpointIsNoTornTail(t *testing.T) {
	w := writeBatches(t, 2, 6, 1)
	for sector := w.ends[0]/512 + 1; (sector+1)*512 < w.ends[1]; sector++ {
		bad := bytes.Clone(w.wal)
		clear(bad[sector*512 : (sector+1)*512])
		refusedAt(t, t, w.crashed(t, bad), bad, sector*512)
	}
}

func TestTailLongerThanABatchIsNoTornTail(t *testing.T) {
	w := writeBatches(t, 1)
	bad := append(bytes.Clone(w.wal), make([]byte, maxTail+1)...)
	refusedAt(t, t, w.crashed(t, bad), bad, len(w.wal))
	good := append(bytes.Clone(w.wal), make([]byte, 4096)...)
	l, err := Open(Config{Dir: w.crashed(t, good), Node: "a"})
	if err != nil || l.State().Size != 1 {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestSegments(t *testing.T) {
	dir := newLogDir(t)
	begin := []byte(nil)
	for range 3 { // over three lives of the log
		l := openLog(t, Config{Dir: dir, segment: 2000})
		if begin == nil {
			begin = readFile(t, dir, fileCheckpoint)
		}
		fill(t, l, 20)
		_ = l.Close()
	}
	segments, err := filepath.Glob(filepath.Join(dir, "wal/*.seg"))
	if err != nil || len(segments) < 8 {
		t.Fatalf("%d segments, %v", len(segments), err)
	}
	if bodies, err := filepath.Glob(filepath.Join(dir, "body/*/*.seg")); err != nil || len(bodies) < 2 {
		t.Fatalf("%d segments of bodies, %v", len(bodies), err)
	}
	if r := mustVerify(t, dir, VerifyOptions{}); r.Size != 60 {
		t.Errorf("%d entries", r.Size)
	}
	seg := func(n uint32) string { return filepath.FromSlash(walName(n)) }
	for name, c := range map[string]struct {
		do   func(dir string)
		want string
	}{
		"a segment is gone": {func(d string) { _ = os.Remove(filepath.Join(d, seg(3))) }, "it is missing"},
		"two are swapped": {func(d string) {
			a, b := readFile(t, d, seg(3)), readFile(t, d, seg(4))
			writeFile(t, a, d, seg(4))
			writeFile(t, b, d, seg(3))
		}, "put in another's place"},
		"one is cut short": {func(d string) {
			p := readFile(t, d, seg(3))
			writeFile(t, p[:len(p)-3], d, seg(3))
		}, "another segment follows"},
		"one is cut at a batch": {func(d string) {
			writeFile(t, append(readFile(t, d, seg(3))[:0:0], firstBatch(t, readFile(t, d, seg(3)))...), d, seg(3))
		}, "come before it"},
		"one is empty": {func(d string) { writeFile(t, nil, d, seg(3)) }, "another segment follows"},
		"another log's": {func(d string) {
			other := filepath.Join(t.TempDir(), "other")
			if err := Init(other, "other.test/audit"); err != nil {
				t.Fatal(err)
			}
			l := openLog(t, Config{Dir: other})
			fill(t, l, 3)
			_ = l.Close()
			writeFile(t, readFile(t, other, seg(1)), d, seg(1))
		}, "belongs to the log"},
		"no head": {func(d string) {
			p := readFile(t, d, seg(1))
			_, _, size, err := readFrame(p)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, p[size:], d, seg(1))
		}, "does not begin with its head"},
	} {
		trial := copyDir(t, dir)
		writeFile(t, begin, trial, fileCheckpoint)
		c.do(trial)
		if _, err := Open(Config{Dir: trial, Node: "a"}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if r := verify(t, trial, VerifyOptions{}); r.Exit() != 1 {
			t.Errorf("%s: %s", name, r.Verdict())
		}
	}
	// A crash just after a new segment was made leaves it empty.
	writeFile(t, nil, dir, walName(uint32(len(segments)+1)))
	l := openLog(t, Config{Dir: dir})
	fill(t, l, 1)
	_ = l.Close()
	if r := mustVerify(t, dir, VerifyOptions{}); r.Size != 61 {
		t.Errorf("%d entries", r.Size)
	}
}

// firstBatch is a segment's head and first batch.
func firstBatch(t testing.TB, p []byte) []byte {
	t.Helper()
	at := 0
	for {
		kind, _, size, err := readFrame(p[at:])
		if err != nil {
			t.Fatal(err)
		}
		if at += size; kind == frameCheckpoint {
			return p[:at]
		}
	}
}

func TestCheckpointFileBoundsTheTornTail(t *testing.T) {
	w := writeBatches(t, 1, 2, 2)
	for _, cut := range []int{0, 10, w.ends[0], w.ends[1], w.ends[2] - 1} {
		dir := copyDir(t, w.dir)
		writeFile(t, w.wal[:cut], dir, "wal/000001.seg")
		_, err := Open(Config{Dir: dir, Node: "a"})
		var d *Damage
		if !errors.As(err, &d) || d.File != fileCheckpoint {
			t.Errorf("cut at %d: %v", cut, err)
		}
		if r := verify(t, dir, VerifyOptions{}); r.Exit() != 1 {
			t.Errorf("cut at %d: %s", cut, r.Verdict())
		}
	}
	dir := copyDir(t, w.dir)
	if err := os.Remove(filepath.Join(dir, fileCheckpoint)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir, Node: "a"}); !errors.Is(err, ErrDamaged) {
		t.Errorf("without its checkpoint: %v", err)
	}
}

// TestRecoveredTailIsSynced: a batch whose process died before its sync counts from the
// next start on, so it is on disk before anything else is.
func TestRecoveredTailIsSynced(t *testing.T) {
	w := writeBatches(t, 1, 2)
	var synced []string
	openLog(t, Config{Dir: w.crashed(t, w.wal), Faults: &durable.Faults{Sync: func(name string) error {
		synced = append(synced, name)
		return nil
	}}})
	if len(synced) < 2 || synced[0] != "wal/000001.seg" || synced[1] != "wal" {
		t.Errorf("synced at the start: %v", synced)
	}
}

// FuzzRecovery reads whatever lies in the WAL as a start does, without its syncs: it
// is refused as damaged, or what comes out of it is a prefix of the true batches.
func FuzzRecovery(f *testing.F) {
	w := writeBatches(f, 1, 2)
	f.Add(w.wal)
	f.Add(w.wal[:w.ends[0]])
	f.Add(w.wal[:w.ends[0]+20])
	f.Add(append(bytes.Clone(w.wal), w.wal[w.ends[0]:]...))
	f.Add(append(bytes.Clone(w.wal), make([]byte, 700)...))
	f.Add([]byte{})
	dir := w.crashed(f, w.wal)
	folder, err := durable.Open(dir, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = folder.Close() })
	key, err := note.NewVerifier(w.key)
	if err != nil {
		f.Fatal(err)
	}
	var truth []tlog.Hash
	for n := range 3 {
		_, leaf, _ := splitEntry(entry(f, w.wal, n))
		truth = append(truth, recordHash(leaf))
	}
	f.Fuzz(func(t *testing.T, wal []byte) {
		writeFile(t, wal, dir, "wal/000001.seg")
		var got []tlog.Hash
		s := walScan{dir: folder, origin: testOrigin, key: key}
		s.entry = func(_ int64, _ place, _ bodyPlace, leaf []byte, hash tlog.Hash) error {
			if _, err := parseLeaf(leaf); err != nil {
				return &Damage{Why: err.Error()}
			}
			got = append(got, hash)
			return nil
		}
		if err := s.run(); err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if !slices.Contains([]int{0, 1, 3}, len(got)) || !slices.Equal(got, truth[:len(got)]) {
			t.Errorf("%d entries come out that were never logged so", len(got))
		}
		if s.end+s.torn != int64(len(wal)) || s.torn > maxTail {
			t.Errorf("%d bytes are kept and %d cut off, of %d", s.end, s.torn, len(wal))
		}
	})
}
