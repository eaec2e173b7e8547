package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Limits on what an unverified folder can make the gate read.
const (
	maxManifest  = 1 << 20 // bytes
	maxRoot      = 1 << 20
	maxSignature = 16 << 10
	maxFile      = 16 << 20
	maxTotal     = 64 << 20
	maxFiles     = 5000
	maxEntries   = 10000 // of one folder
	maxDepth     = 8
)

// A tree reads below one folder and cannot leave it (os.Root). It follows no
// symlink, not even one that stays inside: what is signed is a plain file.
type tree struct{ root *os.Root }

var errLink = errors.New("is a symlink or no plain file")

// read returns a plain file's bytes, at most limit of them.
func (t tree) read(name string, limit int64) ([]byte, error) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		info, err := t.root.Lstat(dir)
		if err != nil {
			return nil, cause(err)
		}
		if !info.IsDir() {
			return nil, errLink
		}
	}
	info, err := t.root.Lstat(name)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errLink
	}
	// Between Lstat and open somebody may have put a pipe there: never block on it.
	f, err := t.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close() //nolint:errcheck // only read
	if now, err := f.Stat(); err != nil || !now.Mode().IsRegular() {
		return nil, errLink
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, cause(err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("is larger than %d bytes", limit)
	}
	return b, nil
}

// list returns the entries of a folder, sorted by name.
func (t tree) list(name string) ([]fs.DirEntry, error) {
	info, err := t.root.Lstat(name)
	if err != nil {
		return nil, cause(err)
	}
	if !info.IsDir() {
		return nil, errLink
	}
	f, err := t.root.Open(name)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close() //nolint:errcheck // only read
	entries, err := f.ReadDir(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, cause(err)
	}
	if len(entries) > maxEntries {
		return nil, fmt.Errorf("has more than %d entries", maxEntries)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// walk returns the paths of all plain files below a folder, sorted. Anything that is
// neither a plain file nor a folder is an error.
func (t tree) walk(name string, depth int) ([]string, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s is nested too deeply", clean(name))
	}
	entries, err := t.list(name)
	if err != nil {
		return nil, fmt.Errorf("%s %w", clean(name), err)
	}
	var names []string
	for _, e := range entries {
		at := path.Join(name, e.Name())
		switch {
		case e.Type().IsDir():
			below, err := t.walk(at, depth+1)
			if err != nil {
				return nil, err
			}
			names = append(names, below...)
		case e.Type().IsRegular():
			names = append(names, at)
		default:
			return nil, fmt.Errorf("%s %w", clean(at), errLink)
		}
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%s has more than %d files", clean(name), maxFiles)
	}
	slices.Sort(names)
	return names, nil
}

// cause drops the path from an error of os: the sentence around it names the file.
func cause(err error) error {
	var at *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("is not there")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("may not be read")
	case errors.As(err, &at):
		return at.Err
	default:
		return err
	}
}
