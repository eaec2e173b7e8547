package sftp

import (
	"crypto/sha256"
	"hash"
)

// A File is one direction of what was moved through one handle.
type File struct {
	Name   string // as the client said it
	Up     bool   // from the client to the target
	Size   int64  // bytes that were moved, the same ones twice if need be
	SHA256 []byte // nil: they did not come in order from the file's start
	N      int64  // what the Record calls its pieces
	// Ending is empty for a file that was closed; else "not closed", because the
	// conversation was over, or "close failed".
	Ending string
}

// file is an open file or folder: from the request that opens it on.
type file struct {
	name     string
	folder   bool
	writes   bool // opened for writing
	up, down moved

	handle  string // that the target gave it
	waiting int    // requests about it that are not answered
	closing bool   // a CLOSE is on its way
	closed  bool   // it was answered
	failed  bool   // by an error
}

// tell gives the record what was moved; a file that was opened and not read is told too.
func (f *file) tell(to Record) error {
	if f.folder {
		return nil
	}
	ending := ""
	switch {
	case !f.closed:
		ending = "not closed"
	case f.failed:
		ending = "close failed"
	}
	if f.writes || f.up.size > 0 {
		if err := to.Moved(File{f.name, true, f.up.size, f.up.digest(), f.up.n, ending}); err != nil {
			return err
		}
	}
	if f.writes && f.down.size == 0 {
		return nil
	}
	return to.Moved(File{f.name, false, f.down.size, f.down.digest(), f.down.n, ending})
}

// moved is one direction of a file's bytes. They are hashed while they come in order.
type moved struct {
	next  uint64
	size  int64
	sum   hash.Hash
	mixed bool
	n     int64 // the Record's
}

// add tells to of bytes before they go on.
func (m *moved) add(to Record, offset uint64, data []byte) (err error) {
	if len(data) > 0 {
		m.n, err = to.Piece(m.n, offset, data)
	}
	m.size += int64(len(data))
	if m.sum == nil {
		m.sum = sha256.New()
	}
	if offset != m.next {
		m.mixed = true
	}
	if !m.mixed {
		m.sum.Write(data)
		m.next += uint64(len(data))
	}
	return err
}

// lost takes back bytes that did not arrive.
func (m *moved) lost(size int) {
	m.size -= int64(size)
	m.mixed = true
}

func (m *moved) digest() []byte {
	switch {
	case m.mixed:
		return nil
	case m.sum == nil:
		empty := sha256.Sum256(nil)
		return empty[:]
	}
	return m.sum.Sum(nil)
}
