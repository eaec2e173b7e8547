// Package tarball unpacks some folders of a gzipped tar that nobody vouches for, such as
// git hosts make of a repository: within bounds, below one folder, and nothing but plain
// files.
package tarball

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Limits bound what an archive can make of a disk.
type Limits struct {
	File  int64 // bytes of one file
	Total int64 // bytes of all
	Files int   // entries, of whatever kind
}

// Unpack writes the plain files below the named folders of an archive into dir, which is
// there and empty, and returns where those folders are: in dir, or in a folder of it that
// is around all of them, as git hosts have one. All else in the archive is passed over. It
// is an error where one of those files is there twice, is no plain file, or where a limit
// is reached.
func Unpack(r io.Reader, dir string, folders []string, l Limits) (at string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("open the folder to unpack into: %w", err)
	}
	defer root.Close() //nolint:errcheck // what was written is closed already
	if err := unpack(r, root, folders, l); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		return dir, err
	}
	around := filepath.Join(dir, entries[0].Name())
	inside, err := os.ReadDir(around)
	if err != nil {
		return "", fmt.Errorf("read what was unpacked: %w", err)
	}
	if slices.ContainsFunc(inside, func(e os.DirEntry) bool { return e.IsDir() && slices.Contains(folders, e.Name()) }) {
		return around, nil
	}
	return dir, nil
}

func unpack(r io.Reader, root *os.Root, folders []string, l Limits) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("not a gzipped tar: %w", err)
	}
	// Headers count too: a tar of nothing else would go on for ever.
	bounded := &io.LimitedReader{R: z, N: l.Total + int64(l.Files)*4096 + 1}
	t := tar.NewReader(bounded)
	for n := 0; ; n++ {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF) && bounded.N > 0:
			return nil
		case bounded.N <= 0 || n >= l.Files:
			return fmt.Errorf("it holds more than %d entries or %d bytes", l.Files, l.Total)
		case err != nil:
			return fmt.Errorf("not a gzipped tar: %w", err)
		}
		name := path.Clean(h.Name)
		if !wanted(name, folders) || h.Typeflag == tar.TypeDir {
			continue
		}
		if h.Typeflag != tar.TypeReg || h.Size > l.File {
			return fmt.Errorf("%q is no plain file of at most %d bytes", name, l.File)
		}
		if err := write(root, name, t); err != nil {
			return err
		}
	}
}

// wanted reports that a path is below one of the folders, or below one in a first folder.
func wanted(name string, folders []string) bool {
	first, rest, _ := strings.Cut(name, "/")
	second, _, below := strings.Cut(rest, "/")
	return slices.Contains(folders, first) && rest != "" || slices.Contains(folders, second) && below
}

// write makes a file that was not there. os.Root keeps it below the folder, whatever
// its name.
func write(root *os.Root, name string, from io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	_, err = io.Copy(f, from)
	if err == nil {
		err = f.Sync() // it takes the place of one that is on the disk
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("unpack %q: %w", name, err)
	}
	return nil
}
