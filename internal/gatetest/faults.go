package gatetest

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/session"
	"github.com/sallyport/sallyport/store"
)

// Crash leaves the disk as it is at this moment, as kill -9 does, and ends the gate.
// What the gate writes while it is ended here is thrown away.
func (f *Fixture) Crash(t testing.TB) {
	t.Helper()
	f.CrashAs(t, f.Freeze(t))
}

// Freeze copies the disk as it is at this moment. It may be called while the log or a
// recording writes (by Options.Faults): they stand still meanwhile.
func (f *Fixture) Freeze(t testing.TB) string {
	t.Helper()
	for {
		frozen := t.TempDir()
		err := os.CopyFS(frozen, os.DirFS(f.Dir))
		if err == nil {
			return frozen
		}
		if !os.IsNotExist(err) { // a temporary file that got its name meanwhile
			t.Fatal(err)
		}
	}
}

// CrashAs ends the gate and leaves the disk as Freeze found it.
func (f *Fixture) CrashAs(t testing.TB, frozen string) {
	t.Helper()
	f.Close(t)
	f.replace(t, frozen)
}

// SaveStore copies the closed store, and returns what puts the copy back.
func (f *Fixture) SaveStore(t testing.TB) (restore func()) {
	t.Helper()
	path := filepath.Join(f.Dir, "state.db")
	data, err := os.ReadFile(path)
	must(t, err)
	return func() {
		t.Helper()
		for _, more := range []string{"-wal", "-shm"} {
			if err := os.Remove(path + more); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		must(t, os.WriteFile(path, data, 0o600))
	}
}

func (f *Fixture) replace(t testing.TB, with string) {
	t.Helper()
	entries, err := os.ReadDir(f.Dir)
	must(t, err)
	for _, e := range entries {
		must(t, os.RemoveAll(filepath.Join(f.Dir, e.Name())))
	}
	must(t, os.CopyFS(f.Dir, os.DirFS(with)))
	must(t, filepath.Walk(f.Dir, func(path string, info os.FileInfo, err error) error { // CopyFS widens modes
		if err != nil {
			return err
		}
		if info.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	}))
}

// StartFails starts a gate that must refuse to, and returns why.
func StartFails(t testing.TB, o Options) error {
	t.Helper()
	log, err := audit.Open(audit.Config{Dir: filepath.Join(o.Dir, "audit"), Node: "gate"})
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the start's error is what counts
	db, err := store.Open(filepath.Join(o.Dir, "state.db"), log)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // as above
	recordings, err := audit.OpenRecordings(filepath.Join(o.Dir, "recordings"), log, audit.RecordingOptions{})
	if err != nil {
		return err
	}
	defer recordings.Close() //nolint:errcheck // as above
	f := &Fixture{Dir: o.Dir, o: o}
	g, err := session.New(session.Config{Store: db, Log: log, Recordings: recordings}, f.Sign(t, ""))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := g.Start(ctx); err != nil {
		return err
	}
	return g.Stop(ctx, 0)
}

// A Disk has faults that can be switched while a gate runs. It is given to Options.Faults
// before the start, by its Faults method.
type Disk struct {
	full, broken atomic.Bool
}

// Faults is what the log and the recordings are opened with.
func (d *Disk) Faults() *durable.Faults {
	return &durable.Faults{
		Write: func(_ string, n int) (int, error) {
			if d.full.Load() {
				return 0, syscall.ENOSPC
			}
			return n, nil
		},
		Sync: func(string) error {
			if d.broken.Load() {
				return syscall.EIO
			}
			return nil
		},
	}
}

// Full makes every write fail with ENOSPC, or no longer.
func (d *Disk) Full(full bool) { d.full.Store(full) }

// Break makes every fsync fail.
func (d *Disk) Break() { d.broken.Store(true) }
