package audit

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/durable"
)

// histories is how many are tried where -rapid.checks does not say.
const histories = "100"

// A platter is what would be left of a folder if the power failed now: of each file the
// bytes of its last sync, and of each folder the names of its last sync.
type platter struct {
	files map[uint64][]byte            // by inode
	names map[string]map[string]uint64 // in a folder
}

// sync notes that a file or folder of dir is on the platter from here on.
func (p *platter) sync(dir, name string) error {
	full := filepath.Join(dir, name)
	info, err := os.Stat(full)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		data, err := os.ReadFile(full)
		p.files[inode(info)] = data
		return err
	}
	p.names[name], err = inodes(full)
	return err
}

func inode(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

func inodes(dir string) (map[string]uint64, error) {
	entries, err := os.ReadDir(dir)
	all := map[string]uint64{}
	for _, e := range entries {
		info, err := e.Info()
		if os.IsNotExist(err) {
			continue // a temporary file that got its name meanwhile
		}
		if err != nil {
			return nil, err
		}
		all[e.Name()] = inode(info)
	}
	return all, err
}

// A rapidTB is a testing.TB whose failures rapid sees, and shrinks.
type rapidTB struct {
	testing.TB
	rt *rapid.T
}

func (t rapidTB) Fatal(args ...any)            { t.rt.Fatal(args...) }
func (t rapidTB) Fatalf(f string, args ...any) { t.rt.Fatalf(f, args...) }
func (t rapidTB) Context() context.Context     { return t.rt.Context() }

// A life is one process's: a log from its start to its end.
type life struct {
	t       testing.TB
	rt      *rapid.T
	dir     string
	platter *platter
	crash   string // "kill" or "power"; none at all where empty
	after   int    // how many writes and syncs come before it
	chance  *rand.Rand

	lives    int
	open     []*Recorder
	sessions int

	mu    sync.Mutex
	dead  bool
	image string // what the crash left, on which the next life begins
	next  *platter
	acked map[int64][]byte // leaves, by index
	tried map[string]bool  // all leaves that were ever given to be logged
}

// step is before each write and sync: here the crash comes.
func (l *life) step(name string, sync bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return syscall.EIO
	}
	if l.after--; l.after < 0 && l.crash != "" {
		l.dead = true
		l.die(name)
		return syscall.EIO
	}
	if sync {
		return l.platter.sync(l.dir, name)
	}
	return nil
}

func (l *life) faults(folder string) *durable.Faults {
	return &durable.Faults{
		Write: func(name string, n int) (int, error) {
			if err := l.step(path.Join(folder, name), false); err != nil {
				return 0, err
			}
			return n, nil
		},
		Sync: func(name string) error { return l.step(path.Join(folder, name), true) },
	}
}

// die leaves in image what the next life finds. A killed process leaves all that it wrote,
// but for the last write, of which any length may be missing; a power failure may take
// whatever was not synced.
func (l *life) die(last string) {
	l.lives++
	l.image = filepath.Join(filepath.Dir(l.dir), fmt.Sprint(l.lives))
	l.next = &platter{files: map[uint64][]byte{}, names: map[string]map[string]uint64{}}
	err := filepath.WalkDir(l.dir, func(full string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		name, err := filepath.Rel(l.dir, full)
		if err != nil {
			return err
		}
		above, base := path.Split(name)
		_, kept := l.platter.names[path.Clean(above)][base]
		if name != "." && l.crash == "power" && !kept && l.chance.IntN(2) == 0 {
			return fs.SkipDir
		}
		ino, err := l.folder(name, last)
		if name != "." && (l.crash == "power" || kept) {
			l.next.names[path.Clean(above)][base] = ino
		}
		return err
	})
	if err != nil {
		panic(err) // of the machine the test runs on
	}
}

// folder makes the image of a folder, without those in it.
func (l *life) folder(name, last string) (uint64, error) {
	to := filepath.Join(l.image, name)
	if err := os.Mkdir(to, 0o700); err != nil {
		return 0, err
	}
	now, err := inodes(filepath.Join(l.dir, name))
	if err != nil {
		return 0, err
	}
	synced := l.platter.names[name]
	l.next.names[name] = map[string]uint64{}
	all := maps.Clone(now)
	maps.Copy(all, synced)
	for _, file := range slices.Sorted(maps.Keys(all)) {
		if info, err := os.Stat(filepath.Join(l.dir, name, file)); err == nil && info.IsDir() {
			continue
		}
		old, kept := synced[file]
		ino, there := now[file]
		if l.crash == "power" && (ino != old || there != kept) && l.chance.IntN(2) == 0 {
			ino, there = old, kept
		}
		if l.crash == "kill" && kept {
			l.next.names[name][file] = l.next.keep(l.platter.files[old])
		}
		if !there {
			continue
		}
		data, err := l.content(path.Join(name, file), ino, now[file] == ino, path.Join(name, file) == last)
		if err != nil {
			return 0, err
		}
		if err := os.WriteFile(filepath.Join(to, file), data, 0o600); err != nil {
			return 0, err
		}
		info, err := os.Stat(filepath.Join(to, file))
		if err != nil {
			return 0, err
		}
		switch {
		case l.crash == "power":
			l.next.files[inode(info)], l.next.names[name][file] = data, inode(info)
		case kept && old == ino: // what is on the platter belongs to this file still
			l.next.files[inode(info)], l.next.names[name][file] = l.platter.files[ino], inode(info)
		default:
			l.next.files[inode(info)] = l.platter.files[ino]
		}
	}
	info, err := os.Stat(to)
	if err != nil {
		return 0, err
	}
	return inode(info), nil
}

// keep holds bytes on the platter of a file that has no name any more.
func (p *platter) keep(data []byte) uint64 {
	id := 1<<63 + uint64(len(p.files))
	p.files[id] = data
	return id
}

// content is what a crash leaves in a file.
func (l *life) content(name string, ino uint64, there, last bool) ([]byte, error) {
	kept := l.platter.files[ino]
	if !there {
		return kept, nil
	}
	data, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil || len(data) <= len(kept) || !bytes.HasPrefix(data, kept) || l.crash == "kill" && !last {
		return data, err
	}
	if l.chance.IntN(3) == 0 {
		return data, nil
	}
	data = data[:len(kept)+l.chance.IntN(len(data)-len(kept)+1)]
	if l.crash == "power" {
		for at := len(kept); at < len(data); at = (at/512 + 1) * 512 {
			if l.chance.IntN(4) == 0 {
				clear(data[at:min((at/512+1)*512, len(data))])
			}
		}
	}
	return data, nil
}

// ack keeps what the log said is on disk.
func (l *life) ack(first int64, leaves [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, leaf := range leaves {
		if !l.dead {
			l.acked[first+int64(i)] = leaf
		}
	}
}

// outbox appends some rows in one call.
func (l *life) outbox(log *Log) {
	var ps []Pending
	var leaves [][]byte
	for i := range rapid.IntRange(1, 4).Draw(l.rt, "rows") {
		size := rapid.SampledFrom([]int{0, 30, 700}).Draw(l.rt, "body")
		p := encode(l.t, log, log.Counter()+uint64(i)+1, Event{Type: SignedIn, Actor: "iss#alice", Body: strings.Repeat("x", size)})
		ps, leaves = append(ps, p), append(leaves, p.Leaf)
		l.mu.Lock()
		l.tried[string(p.Leaf)] = true
		l.mu.Unlock()
	}
	if first, err := log.Append(l.t.Context(), ps); err == nil {
		l.ack(first, leaves)
	}
}

// many records from several callers at once.
func (l *life) many(log *Log) {
	var wg sync.WaitGroup
	for i := range rapid.IntRange(1, 3).Draw(l.rt, "callers") {
		wg.Go(func() {
			index, err := log.Record(l.t.Context(), Event{Type: NodeAlive, Actor: "gate", Body: i})
			if err != nil {
				return
			}
			if e, err := log.Entries(l.t.Context(), index, 1); err == nil && len(e) == 1 {
				l.ack(index, [][]byte{e[0].Raw})
			}
		})
	}
	wg.Wait()
}

// record begins a recording, or goes on with one.
func (l *life) record(log *Log, r *Recordings) {
	if len(l.open) == 0 || rapid.Bool().Draw(l.rt, "new") {
		l.sessions++
		id := fmt.Sprint("s", l.sessions)
		for _, e := range beginning(id) {
			if _, err := log.Record(l.t.Context(), e); err != nil {
				return
			}
		}
		rec, err := r.Start(l.t.Context(), Meta{Session: id})
		if err != nil {
			return
		}
		l.open = append(l.open, rec)
	}
	rec := l.open[len(l.open)-1]
	for n := range rapid.IntRange(1, 3).Draw(l.rt, "lines") {
		_ = rec.Write(Query{N: int64(n), SQL: strings.Repeat("x", rapid.SampledFrom([]int{8, 900}).Draw(l.rt, "statement"))})
	}
	if rapid.Bool().Draw(l.rt, "seal") {
		_, _ = rec.Seal(l.t.Context(), "closed")
		l.open = l.open[:len(l.open)-1]
	}
}

// live is a life of log and recordings.
func (l *life) live() {
	l.open = nil
	err := l.alive()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !l.dead {
		l.rt.Fatalf("life %d: %v", l.lives, err)
	}
}

func (l *life) alive() error {
	log, err := Open(Config{Dir: filepath.Join(l.dir, "audit"), Node: "a", Faults: l.faults("audit"), segment: 2000})
	if err != nil {
		return err
	}
	defer log.Close()
	r, err := OpenRecordings(filepath.Join(l.dir, "recordings"), log, RecordingOptions{Faults: l.faults("recordings")})
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Recover(l.t.Context()); err != nil {
		return err
	}
	l.know(log)
	l.verify()
	for range rapid.IntRange(0, 6).Draw(l.rt, "steps") {
		switch rapid.IntRange(0, 5).Draw(l.rt, "step") {
		case 0, 1:
			l.outbox(log)
		case 2:
			l.many(log)
		case 3, 4:
			l.record(log, r)
		case 5: // the publisher gets to write, and chunks are due
			<-time.After(2 * max(publishEvery, chunkAge))
			synctest.Wait()
		}
	}
	var errs []error
	for _, rec := range l.open {
		_, err := rec.Seal(l.t.Context(), "stopped")
		errs = append(errs, err)
	}
	return errors.Join(append(errs, r.Close(), log.Close())...)
}

func (l *life) verify() {
	r, err := Verify(l.t.Context(), filepath.Join(l.dir, "audit"), VerifyOptions{Recordings: filepath.Join(l.dir, "recordings")})
	l.mu.Lock()
	defer l.mu.Unlock()
	if (err != nil || r.Exit() != 0) && !l.dead {
		l.rt.Fatalf("life %d: %s: %v %v, %v", l.lives, r.Verdict(), r.Findings, r.Problems, err)
	}
}

// know checks what the log holds: all that was acknowledged in its place, and of the
// outbox nothing that was never given to it.
func (l *life) know(log *Log) {
	for index, leaf := range l.acked {
		e, err := log.Entries(l.t.Context(), index, 1)
		if err != nil || len(e) != 1 || !bytes.Equal(e[0].Raw, leaf) {
			l.rt.Fatalf("entry %d was acknowledged, and is not what the log holds: %v", index, err)
		}
	}
	size := log.State().Size
	entries, err := log.Entries(l.t.Context(), 0, int(size)+1)
	if err != nil || int64(len(entries)) != size {
		l.rt.Fatalf("%d of %d entries, %v", len(entries), size, err)
	}
	for _, e := range entries {
		if e.Node == "a" && !l.tried[string(e.Raw)] {
			l.rt.Fatalf("entry %d was never given to the log", e.Index)
		}
	}
}

// TestHistoriesOfCrashes lets a log with recordings live several lives, each of which may end by a kill or a
// power failure before any write or sync. What was acknowledged is there in every later
// life, and at the end one changed bit anywhere is found and named.
func TestHistoriesOfCrashes(t *testing.T) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", histories); err != nil {
			t.Fatal(err)
		}
	}
	if err := flag.Set("rapid.nofailfile", "true"); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) { crashes(t, rt) })
	})
}

func crashes(t *testing.T, rt *rapid.T) {
	root, err := os.MkdirTemp("", "history-")
	if err != nil {
		rt.Fatal(err)
	}
	rt.Cleanup(func() { _ = os.RemoveAll(root) })
	one := &life{t: rapidTB{t, rt}, rt: rt, dir: filepath.Join(root, "0"), acked: map[int64][]byte{}, tried: map[string]bool{}}
	if err := errors.Join(Init(filepath.Join(one.dir, "audit"), testOrigin), os.Mkdir(filepath.Join(one.dir, "recordings"), 0o700)); err != nil {
		rt.Fatal(err)
	}
	one.platter = &platter{files: map[uint64][]byte{}, names: map[string]map[string]uint64{}}
	for _, name := range []string{
		".", "recordings", "audit", "audit/wal", "audit/tile", "audit/body",
		"audit/" + fileMeta, "audit/" + fileKey, "audit/" + filePseudonym,
	} {
		if err := one.platter.sync(one.dir, name); err != nil {
			rt.Fatal(err)
		}
	}
	for range rapid.IntRange(1, 5).Draw(rt, "lives") {
		one.crash = rapid.SampledFrom([]string{"", "kill", "power"}).Draw(rt, "crash")
		one.after = rapid.IntRange(0, 40).Draw(rt, "after")
		one.chance = rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "chance"), 0))
		one.live()
		if one.dead {
			one.dir, one.platter, one.dead = one.image, one.next, false
		}
	}
	one.crash = ""
	one.live()
	one.verify()
	one.flip()
}

// flip changes one bit of the record, which is found and named. After a crash there are
// bodies and tiles that no entry names; they are left alone. So are summaries: they are
// compared by what they say, which another spelling of a name does not change.
func (l *life) flip() {
	files := []string{"audit/" + fileCheckpoint}
	for _, folder := range []string{"audit/wal", "audit/body", "audit/tile", "recordings"} {
		err := fs.WalkDir(os.DirFS(l.dir), folder, func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && d.Name() != fileSummary && (folder == "audit/wal" || l.lives == 0) {
				files = append(files, name)
			}
			return err
		})
		if err != nil {
			l.rt.Fatal(err)
		}
	}
	files = slices.DeleteFunc(files, func(name string) bool { return len(readFile(l.t, l.dir, name)) == 0 })
	name := rapid.SampledFrom(files).Draw(l.rt, "file")
	data := readFile(l.t, l.dir, name)
	at := rapid.IntRange(0, len(data)-1).Draw(l.rt, "byte")
	if path.Base(name) == fileCheckpoint && at == len(data)-3 {
		at-- // the last digit of base64, of which two bits say nothing
	}
	data[at] ^= 1 << rapid.IntRange(0, 7).Draw(l.rt, "bit")
	writeFile(l.t, data, l.dir, name)
	named := path.Base(name)
	if strings.HasPrefix(name, "recordings/") {
		named = path.Base(path.Dir(name)) // the session
	}
	if r, err := Verify(l.t.Context(), filepath.Join(l.dir, "audit"), VerifyOptions{Recordings: filepath.Join(l.dir, "recordings")}); err != nil || r.Exit() != 1 || !strings.Contains(fmt.Sprint(r.Findings), named) {
		l.rt.Fatalf("a bit of %s, byte %d, is changed, and verify says %s: %v, %v", name, at, r.Verdict(), r.Findings, err)
	}
}
