package audit

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func chmod(t testing.TB, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, parts ...string) []byte {
	t.Helper()
	p, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// writeFile is os.WriteFile without O_TRUNC, which makes ext4 flush at close: the
// trials here write thousands of files.
func writeFile(t testing.TB, data []byte, parts ...string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(parts...), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(data, 0)
	if err = errors.Join(err, f.Truncate(int64(len(data))), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// copyDir copies a log, so that each trial has its own.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fileKey, filePseudonym} {
		chmod(t, filepath.Join(to, name), 0o600)
	}
	return to
}

// await fails the test where ch is not closed soon.
func await(t testing.TB, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(20 * time.Second):
		t.Fatal("not within 20 s: " + what)
	}
}

// untilSize waits for entries that are logged behind the caller.
func untilSize(t testing.TB, l *Log, size int64) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); l.State().Size < size; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d entries after 20 s, want %d", l.State().Size, size)
		}
	}
}

// entry is the data of the n-th entry's frame.
func entry(t testing.TB, wal []byte, n int) []byte {
	t.Helper()
	for len(wal) > 0 {
		kind, data, size, err := readFrame(wal)
		if err != nil {
			t.Fatal(err)
		}
		if kind == frameEntry {
			if n == 0 {
				return data
			}
			n--
		}
		wal = wal[size:]
	}
	t.Fatal("no such entry")
	return nil
}
