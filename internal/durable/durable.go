// Package durable writes files so that they are there after a power loss, and
// tells a full disk from a broken one.
//
// What must be on disk before what: a file's bytes before the name that makes
// them visible, and the name before anybody is told. A failed fsync is never
// tried again: the kernel may have dropped the pages and would report success
// (PostgreSQL met this in 2018 and stops too).
package durable

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
)

// Faults makes writes and syncs fail, for tests of what happens then. A nil
// *Faults, and each nil func, changes nothing.
type Faults struct {
	// Write is asked before n bytes are written to the named file; it returns how
	// many of them are let through, and the error that follows.
	Write func(name string, n int) (int, error)
	// Sync is asked before the named file or folder is synced.
	Sync func(name string) error
}

// A Dir is a folder below which files are written durably. Names are slash
// separated and cannot leave it (os.Root).
type Dir struct {
	*os.Root
	faults *Faults
	made   atomic.Uint64 // numbers temporary files

	mu      sync.Mutex
	lasting map[string]bool // folders whose names Make has synced
}

// Open opens an existing folder. faults is nil outside tests.
func Open(name string, faults *Faults) (*Dir, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &Dir{Root: root, faults: faults, lasting: map[string]bool{}}, nil
}

// Make makes a folder and its parents (mode 0700) where they are missing, and
// syncs each parent, so that the names are on disk. It returns whether it made any.
// The name of a folder that it finds is synced too, once: a process that died may
// have left it unsynced.
func (d *Dir) Make(name string) (bool, error) {
	if name == "." || d.isLasting(name) {
		return false, nil
	}
	parents, err := d.Make(path.Dir(name))
	if err != nil {
		return parents, err
	}
	err = d.Mkdir(name, 0o700)
	found := errors.Is(err, fs.ErrExist)
	if err != nil && !found {
		return parents, err
	}
	if info, err := d.Stat(name); err != nil || !info.IsDir() {
		return parents, cmp.Or(err, error(&fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}))
	}
	if err := d.SyncDir(path.Dir(name)); err != nil {
		return parents, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lasting[name] = true
	return parents || !found, nil
}

func (d *Dir) isLasting(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lasting[name]
}

// SyncDir puts the names in a folder on disk.
func (d *Dir) SyncDir(name string) error {
	if err := d.syncFault(name); err != nil {
		return err
	}
	f, err := d.Root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// WriteFile replaces a file as a whole: readers see the old bytes or the new
// ones, now and after a power loss. Once it returns the new ones stay.
func (d *Dir) WriteFile(name string, data []byte, perm fs.FileMode) error {
	if err := d.Replace(name, data, perm); err != nil {
		return err
	}
	return d.SyncDir(path.Dir(name))
}

// Replace is WriteFile without the last sync: a power loss may bring the old bytes back.
func (d *Dir) Replace(name string, data []byte, perm fs.FileMode) (err error) {
	temp := fmt.Sprintf("%s.tmp%d", name, d.made.Add(1))
	f, err := d.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = d.Remove(temp)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return d.Rename(temp, name)
}

// OpenFile opens a file of which every write and sync can be made to fail.
func (d *Dir) OpenFile(name string, flag int, perm fs.FileMode) (*File, error) {
	f, err := d.Root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &File{File: f, name: name, faults: d.faults}, nil
}

func (d *Dir) syncFault(name string) error {
	if d.faults == nil || d.faults.Sync == nil {
		return nil
	}
	return d.faults.Sync(name)
}

// A File is an os.File whose writes and syncs can be made to fail.
type File struct {
	*os.File
	name   string
	faults *Faults
}

// Write is one write(2) at the file's position, more only where the kernel takes less.
func (f *File) Write(p []byte) (int, error) {
	let, fault := f.writeFault(p)
	n, err := f.File.Write(p[:let])
	return n, errors.Join(fault, err)
}

// WriteAt is one pwrite(2), more only where the kernel takes less.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	let, fault := f.writeFault(p)
	n, err := f.File.WriteAt(p[:let], off)
	return n, errors.Join(fault, err)
}

// Sync puts the file's bytes and its length on disk. An error is final.
func (f *File) Sync() error {
	if f.faults != nil && f.faults.Sync != nil {
		if err := f.faults.Sync(f.name); err != nil {
			return err
		}
	}
	return syncData(f.File)
}

func (f *File) writeFault(p []byte) (int, error) {
	if f.faults == nil || f.faults.Write == nil {
		return len(p), nil
	}
	return f.faults.Write(f.name, len(p))
}

// IsFull reports that a write failed for want of something that comes back: space on the
// disk or in the quota, or file descriptors of the process or the machine.
func IsFull(err error) bool {
	for _, passing := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}
