package audit

import (
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/internal/durable"
)

// A disk stands in for one that is full or broken.
type disk struct {
	full  atomic.Int64 // bytes that still fit for names with the prefix; negative: no limit
	sync  atomic.Bool  // syncs fail
	write atomic.Bool  // writes fail
	cause error        // of a failed sync
	only  string       // prefix of the names it is about
	syncs atomic.Int64
}

func newDisk(only string) (*disk, *durable.Faults) {
	d := &disk{only: only, cause: syscall.EIO}
	d.full.Store(-1)
	return d, &durable.Faults{
		Write: func(name string, n int) (int, error) {
			if !strings.HasPrefix(name, d.only) {
				return n, nil
			}
			if d.write.Load() {
				return 0, syscall.EIO
			}
			left := d.full.Load()
			if left < 0 {
				return n, nil
			}
			if int64(n) > left {
				d.full.Store(0)
				return int(left), syscall.ENOSPC
			}
			d.full.Add(-int64(n))
			return n, nil
		},
		Sync: func(name string) error {
			if strings.HasPrefix(name, d.only) {
				d.syncs.Add(1)
				if d.sync.Load() {
					return d.cause
				}
			}
			return nil
		},
	}
}

func TestFullDiskRefusesAndLosesNothing(t *testing.T) {
	for _, where := range []string{"wal/", "body/"} {
		for _, fits := range []int64{0, 1, 100, 500} {
			d, faults := newDisk(where)
			dir := newLogDir(t)
			l := openLog(t, Config{Dir: dir, Faults: faults})
			fill(t, l, 3)
			before := walSize(t, dir)
			d.full.Store(fits)
			big := encode(t, l, 4, Event{Type: SignedIn, Policy: PolicyRef{Rule: strings.Repeat("r", 600)}, Body: strings.Repeat("x", 600)})
			for range 3 {
				if _, err := l.Append(t.Context(), []Pending{big}); !errors.Is(err, ErrFull) {
					t.Fatalf("%s with %d bytes left: %v", where, fits, err)
				}
			}
			if _, err := l.Record(t.Context(), Event{Type: NodeAlive, Body: strings.Repeat("x", 600)}); !errors.Is(err, ErrFull) {
				t.Fatalf("%s: %v", where, err)
			}
			if after := walSize(t, dir); after != before {
				t.Errorf("%s: %d bytes of a refused batch stay in the WAL", where, after-before)
			}
			if l.Err() != nil || l.State().Size != 3 {
				t.Errorf("%s: the log stands at %d, %v", where, l.State().Size, l.Err())
			}
			mustVerify(t, dir, VerifyOptions{})
			d.full.Store(-1)
			if _, err := l.Append(t.Context(), []Pending{big}); err != nil {
				t.Fatalf("%s with space again: %v", where, err)
			}
			if _, err := l.Record(t.Context(), Event{Type: NodeAlive}); err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
			if r := mustVerify(t, dir, VerifyOptions{}); r.Size != 5 {
				t.Errorf("%s: %d entries", where, r.Size)
			}
		}
	}
}

func walSize(t testing.TB, dir string) int64 {
	t.Helper()
	info, err := os.Stat(dir + "/wal/000001.seg")
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestFailedSyncIsFinal(t *testing.T) {
	for _, where := range []string{"wal/", "body/"} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			failedSyncIsFinal(t, where, cause)
		}
	}
}

func failedSyncIsFinal(t *testing.T, where string, cause error) {
	d, faults := newDisk(where)
	d.cause = cause
	dir := newLogDir(t)
	l := openLog(t, Config{Dir: dir, Faults: faults})
	fill(t, l, 2)
	next := encode(t, l, 3, Event{Type: SignedIn})
	d.sync.Store(true)
	if _, err := l.Append(t.Context(), []Pending{next}); !errors.Is(err, ErrFailed) {
		t.Fatalf("%s: %v", where, err)
	}
	select {
	case <-l.Failed():
	default:
		t.Errorf("%s: Failed is not closed", where)
	}
	d.sync.Store(false)
	before := d.syncs.Load()
	if _, err := l.Append(t.Context(), []Pending{next}); !errors.Is(err, ErrFailed) {
		t.Errorf("%s: the log goes on after a failed fsync: %v", where, err)
	}
	if _, err := l.Record(t.Context(), Event{Type: NodeAlive}); !errors.Is(err, ErrFailed) {
		t.Errorf("%s: the log goes on after a failed fsync: %v", where, err)
	}
	if d.syncs.Load() != before {
		t.Errorf("%s: fsync was tried again", where)
	}
}

func TestFailedWriteIsFinal(t *testing.T) {
	d, faults := newDisk("wal/")
	l := openLog(t, Config{Dir: newLogDir(t), Faults: faults})
	fill(t, l, 1)
	d.write.Store(true)
	if _, err := l.Record(t.Context(), Event{Type: NodeAlive}); !errors.Is(err, ErrFailed) {
		t.Errorf("%v", err)
	}
	d.write.Store(false)
	if _, err := l.Record(t.Context(), Event{Type: NodeAlive}); !errors.Is(err, ErrFailed) {
		t.Errorf("%v", err)
	}
}

func TestBodiesAreDurableBeforeTheirEntries(t *testing.T) {
	var mu sync.Mutex
	var order []string
	add := func(what, name string) {
		mu.Lock()
		defer mu.Unlock()
		if top, _, found := strings.Cut(name, "/"); found && (top == "wal" || top == "body") {
			order = append(order, what+" "+top)
		}
	}
	faults := &durable.Faults{
		Write: func(name string, n int) (int, error) { add("write", name); return n, nil },
		Sync:  func(name string) error { add("sync", name); return nil },
	}
	l := openLog(t, Config{Dir: newLogDir(t), Faults: faults})
	fill(t, l, 1) // makes the segments
	mu.Lock()
	order = nil
	mu.Unlock()
	fill(t, l, 1)
	mu.Lock()
	defer mu.Unlock()
	if got, want := strings.Join(order, ", "), "write body, sync body, write wal, sync wal"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func TestFullDiskForTilesIsNoFailure(t *testing.T) {
	d, faults := newDisk("tile/")
	dir := newLogDir(t)
	l := openLog(t, Config{Dir: dir, Faults: faults})
	d.full.Store(0)
	fill(t, l, 300)
	if err := l.publisher.publish(); !durable.IsFull(err) {
		t.Fatal(err)
	}
	if l.Err() != nil {
		t.Fatal(l.Err())
	}
	mustVerify(t, dir, VerifyOptions{})
	d.full.Store(-1)
	fill(t, l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir, VerifyOptions{}); r.Tiles < 4 {
		t.Errorf("%d tiles", r.Tiles)
	}
}

func TestReadOnlyFolderIsOneSentence(t *testing.T) {
	dir := newLogDir(t)
	if os.Geteuid() == 0 {
		// Root writes everywhere; what it cannot open is a folder in the lock's place.
		if err := os.Mkdir(dir+"/lock", 0o700); err != nil {
			t.Fatal(err)
		}
	} else {
		chmod(t, dir, 0o500)
	}
	if _, err := Open(Config{Dir: dir, Node: "a"}); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}
