package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func open(t *testing.T, faults *Faults) (*Dir, string) {
	t.Helper()
	name := t.TempDir()
	d, err := Open(name, faults)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, name
}

func TestWriteFileReplacesAsAWhole(t *testing.T) {
	var order []string
	d, name := open(t, &Faults{
		Write: func(name string, n int) (int, error) { order = append(order, "write "+name); return n, nil },
		Sync:  func(name string) error { order = append(order, "sync "+name); return nil },
	})
	for _, text := range []string{"old", "new"} {
		order = nil
		if err := d.WriteFile("a", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(name, "a")); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if got := strings.Join(order, ", "); got != "write a.tmp2, sync a.tmp2, sync ." {
		t.Error(got)
	}
	info, err := os.Stat(filepath.Join(name, "a"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestWriteFileThatFailsLeavesTheOldFile(t *testing.T) {
	for _, f := range []*Faults{
		{Write: func(_ string, n int) (int, error) { return n / 2, syscall.ENOSPC }},
		{Sync: func(string) error { return syscall.EIO }},
	} {
		d, name := open(t, f)
		if err := os.WriteFile(filepath.Join(name, "a"), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.WriteFile("a", []byte("new"), 0o600); err == nil {
			t.Error("no error")
		}
		if got, err := os.ReadFile(filepath.Join(name, "a")); err != nil || string(got) != "old" {
			t.Errorf("%q, %v", got, err)
		}
		if names, err := os.ReadDir(name); err != nil || len(names) != 1 {
			t.Errorf("%v, %v", names, err)
		}
	}
}

// TestMakeSyncsWhatItFinds: whoever made the folder may have died before its name was on disk.
func TestMakeSyncsWhatItFinds(t *testing.T) {
	var synced []string
	d, name := open(t, &Faults{Sync: func(name string) error { synced = append(synced, name); return nil }})
	if err := os.MkdirAll(filepath.Join(name, "a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if made, err := d.Make("a/b"); err != nil || made || !slices.Equal(synced, []string{".", "a"}) {
			t.Errorf("made %v, synced %v, %v", made, synced, err)
		}
	}
}

func TestMakeSyncsEachParent(t *testing.T) {
	var synced []string
	d, name := open(t, &Faults{Sync: func(name string) error { synced = append(synced, name); return nil }})
	made, err := d.Make("a/b/c")
	if err != nil || !made || strings.Join(synced, " ") != ". a a/b" {
		t.Errorf("%v, %v, synced %v", made, err, synced)
	}
	if made, err = d.Make("a/b/c"); err != nil || made || len(synced) != 3 {
		t.Errorf("%v, %v, synced %v", made, err, synced)
	}
	if err := os.WriteFile(filepath.Join(name, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Make("f/x"); err == nil {
		t.Error("a folder inside a file")
	}
}

func TestNothingLeavesTheFolder(t *testing.T) {
	d, name := open(t, nil)
	if err := os.Symlink(t.TempDir(), filepath.Join(name, "out")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"../x", "/etc/x", "out/x"} {
		if err := d.WriteFile(bad, []byte("x"), 0o600); err == nil {
			t.Errorf("%s was written", bad)
		}
		if _, err := d.OpenFile(bad, os.O_RDWR|os.O_CREATE, 0o600); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestFullIsToldFromBroken(t *testing.T) {
	for err, want := range map[error]bool{
		&os.PathError{Op: "write", Err: syscall.ENOSPC}: true,
		errors.Join(errors.New("x"), syscall.EDQUOT):    true,
		&os.PathError{Op: "open", Err: syscall.EMFILE}:  true,
		&os.PathError{Op: "open", Err: syscall.ENFILE}:  true,
		syscall.EIO: false,
		nil:         false,
	} {
		if IsFull(err) != want {
			t.Errorf("IsFull(%v) = %v", err, !want)
		}
	}
}

func TestSync(t *testing.T) {
	d, _ := open(t, nil)
	f, err := d.OpenFile("a", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("X"), 1); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	if err := d.SyncDir("."); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err == nil {
		t.Error("a closed file was synced")
	}
	if got, err := d.ReadFile("a"); err != nil || string(got) != "aXc" {
		t.Errorf("%q, %v", got, err)
	}
}
