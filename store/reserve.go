package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

// reserveSize is room for the ends of about 2,000 sessions and grants, each with its
// entry, written twice: into SQLite's write-ahead log and into the database.
const reserveSize = 8 << 20

// again bounds how often a reserve that was given up is made again.
const again = time.Second

// A reserve is a file beside the database that keeps room on its disk. Where the disk
// is full it is given up for restrictions: a revoke that is not on disk would be
// undone by the next start. The writer goroutine's own.
type reserve struct {
	path  string
	size  int64
	held  bool
	tried time.Time
}

// openReserve makes the reserve of the database at path, where it is missing.
func openReserve(path string, size int64) (*reserve, error) {
	r := &reserve{path: path + "-reserve", size: size}
	if info, err := os.Lstat(r.path); err == nil && info.Mode().IsRegular() && info.Size() == size {
		r.held = true
		return r, nil
	}
	if err := r.make(); err != nil {
		return nil, fmt.Errorf("keep %d MiB in reserve for what must be written on a full disk: %w", size>>20, err)
	}
	return r, nil
}

// make writes the file. What it holds is random, because a file system may keep no
// room for zeros.
func (r *reserve) make() (err error) {
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, r.remove())
		}
		r.held = err == nil
	}()
	noise := rand.NewChaCha8([32]byte{})
	part := make([]byte, 1<<20)
	for left := r.size; left > 0; left -= int64(len(part)) {
		part = part[:min(left, int64(len(part)))]
		_, _ = noise.Read(part) // never fails
		if _, err := f.Write(part); err != nil {
			return err
		}
	}
	return nil
}

func (r *reserve) remove() error {
	if err := os.Remove(r.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// give makes room: the disk has what the reserve held. It reports false where there
// was nothing to give.
func (r *reserve) give() bool {
	if !r.held {
		return false
	}
	r.held, r.tried = false, time.Now()
	return r.remove() == nil
}

// whole reports that the reserve is there, and makes it again once there is room for
// twice as much: what it takes must not fill the disk.
func (r *reserve) whole() bool {
	if r.held {
		return true
	}
	if time.Since(r.tried) < again {
		return false
	}
	r.tried = time.Now()
	var disk syscall.Statfs_t
	if syscall.Statfs(r.path[:len(r.path)-len("-reserve")], &disk) != nil || int64(disk.Bavail)*int64(disk.Bsize) < 2*r.size { //nolint:unconvert // other systems have other types
		return false
	}
	return r.make() == nil
}
