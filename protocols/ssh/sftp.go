package ssh

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"
)

// errBadStream refuses bytes that are not what the channel is for: what cannot be
// read cannot be recorded.
var errBadStream = errors.New("this is not the protocol that the channel was opened for, so it cannot be recorded")

// Limits on what an SFTP conversation may make the gate remember.
const (
	maxSFTPPacket  = 256<<10 + 1024 // OpenSSH sftp-common.h, SFTP_MAX_MSG_LENGTH, and what servers add
	maxSFTPHandles = 4096
	maxSFTPPending = 1 << 18
)

// Packet types of SFTP version 3 (draft-ietf-secsh-filexfer-02, section 3).
const (
	sftpInit     = 1
	sftpOpen     = 3
	sftpClose    = 4
	sftpRead     = 5
	sftpWrite    = 6
	sftpSetstat  = 9
	sftpFsetstat = 10
	sftpOpendir  = 11
	sftpRemove   = 13
	sftpMkdir    = 14
	sftpRmdir    = 15
	sftpRename   = 18
	sftpReadlink = 19
	sftpSymlink  = 20
	sftpExtended = 200

	sftpVersion = 2

	sftpStatus = 101
	sftpHandle = 102
	sftpData   = 103

	sftpFlagWrite = 2
)

// sftp observes an SFTP conversation: every file that is moved, and everything that
// changes a name. Looking around (stat, readdir, realpath) is not written down.
type sftp struct {
	rec *record
	n   int64

	upward, downward packets

	mu      sync.Mutex
	pending map[uint32]sftpAsk
	handles map[string]*sftpFile
}

// sftpAsk is a request whose answer matters.
type sftpAsk struct {
	open   *sftpFile // OPEN: becomes the handle
	read   *sftpFile // READ: gets the data
	offset uint64
}

// sftpFile is an open file.
type sftpFile struct {
	name       string
	write      bool
	up, down   moved
	upHappened bool
}

// moved is one direction of a file's bytes. They are hashed while they come in order.
type moved struct {
	next  uint64
	size  int64
	sum   hash.Hash
	mixed bool
}

func (m *moved) add(offset uint64, data []byte) {
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
}

// digest is nil where the bytes were not the file from its start to its end, in order.
func (m *moved) digest() hash.Hash {
	if m.mixed {
		return nil
	}
	if m.sum == nil {
		return sha256.New() // of an empty file
	}
	return m.sum
}

func newSFTP(rec *record, n int64) *sftp {
	return &sftp{rec: rec, n: n, pending: map[uint32]sftpAsk{}, handles: map[string]*sftpFile{}}
}

func (s *sftp) up(data []byte) error   { return s.upward.feed(data, s.request) }
func (s *sftp) down(data []byte) error { return s.downward.feed(data, s.answer) }

// close writes down files that were left open.
func (s *sftp) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for handle := range s.handles {
		if err := s.closed(handle, " (not closed)"); err != nil {
			return err
		}
	}
	return nil
}

// packets cuts a stream into SFTP packets.
type packets struct{ buf []byte }

// feed gives each whole packet to see, without its length.
func (p *packets) feed(data []byte, see func(kind byte, body sftpBody) error) error {
	p.buf = append(p.buf, data...)
	rest := p.buf
	for len(rest) >= 4 {
		size := binary.BigEndian.Uint32(rest)
		if size == 0 || size > maxSFTPPacket {
			return fmt.Errorf("%w: an SFTP packet of %d bytes", errBadStream, size)
		}
		if uint32(len(rest)-4) < size { //nolint:gosec // at least 0
			break
		}
		if err := see(rest[4], sftpBody(rest[5:4+size])); err != nil {
			return err
		}
		rest = rest[4+size:]
	}
	p.buf = append(p.buf[:0], rest...)
	if len(p.buf) == 0 && cap(p.buf) > maxSFTPPacket {
		p.buf = nil
	}
	return nil
}

// sftpBody is read from its front; what is short is an error.
type sftpBody []byte

func (b *sftpBody) uint32() (uint32, error) {
	if len(*b) < 4 {
		return 0, fmt.Errorf("%w: a short SFTP packet", errBadStream)
	}
	n := binary.BigEndian.Uint32(*b)
	*b = (*b)[4:]
	return n, nil
}

func (b *sftpBody) uint64() (uint64, error) {
	if len(*b) < 8 {
		return 0, fmt.Errorf("%w: a short SFTP packet", errBadStream)
	}
	n := binary.BigEndian.Uint64(*b)
	*b = (*b)[8:]
	return n, nil
}

// text reads a string; it is the packet's memory.
func (b *sftpBody) text() ([]byte, error) {
	n, err := b.uint32()
	if err != nil {
		return nil, err
	}
	if uint64(n) > uint64(len(*b)) {
		return nil, fmt.Errorf("%w: a short SFTP packet", errBadStream)
	}
	s := (*b)[:n]
	*b = (*b)[n:]
	return s, nil
}

// request looks at a packet of the client.
func (s *sftp) request(kind byte, body sftpBody) error {
	if kind == sftpInit {
		return nil
	}
	id, err := body.uint32()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case sftpOpen:
		return s.open(id, body)
	case sftpClose:
		handle, err := body.text()
		if err != nil {
			return err
		}
		return s.closed(string(handle), "")
	case sftpRead:
		return s.read(id, body)
	case sftpWrite:
		return s.write(body)
	case sftpSetstat, sftpOpendir, sftpRemove, sftpMkdir, sftpRmdir, sftpReadlink:
		return s.named(sftpVerb(kind), body, 1)
	case sftpRename, sftpSymlink:
		return s.named(sftpVerb(kind), body, 2)
	case sftpFsetstat:
		return s.fsetstat(body)
	case sftpExtended:
		name, err := body.text()
		if err != nil {
			return err
		}
		return s.extended(string(name), body)
	}
	return nil
}

func sftpVerb(kind byte) string {
	return map[byte]string{
		sftpSetstat: "setstat", sftpOpendir: "list", sftpRemove: "remove", sftpMkdir: "mkdir", sftpRmdir: "rmdir",
		sftpReadlink: "readlink", sftpRename: "rename", sftpSymlink: "symlink",
	}[kind]
}

// named writes down an operation on one or two names.
func (s *sftp) named(verb string, body sftpBody, count int) error {
	for range count {
		name, err := body.text()
		if err != nil {
			return err
		}
		verb += fmt.Sprintf(" %q", name)
	}
	return s.rec.begun(s.n, "sftp", verb)
}

func (s *sftp) open(id uint32, body sftpBody) error {
	name, err := body.text()
	if err != nil {
		return err
	}
	flags, err := body.uint32()
	if err != nil {
		return err
	}
	f := &sftpFile{name: string(name), write: flags&sftpFlagWrite != 0}
	verb := "read"
	if f.write {
		verb = "write"
	}
	if err := s.pend(id, sftpAsk{open: f}); err != nil {
		return err
	}
	return s.rec.begun(s.n, "sftp", fmt.Sprintf("%s %q", verb, name))
}

func (s *sftp) pend(id uint32, ask sftpAsk) error {
	if len(s.pending) >= maxSFTPPending {
		return fmt.Errorf("%w: too many requests wait for an answer", errBadStream)
	}
	s.pending[id] = ask
	return nil
}

func (s *sftp) read(id uint32, body sftpBody) error {
	handle, err := body.text()
	if err != nil {
		return err
	}
	offset, err := body.uint64()
	if err != nil {
		return err
	}
	if f := s.handles[string(handle)]; f != nil {
		return s.pend(id, sftpAsk{read: f, offset: offset})
	}
	return nil
}

func (s *sftp) write(body sftpBody) error {
	handle, err := body.text()
	if err != nil {
		return err
	}
	offset, err := body.uint64()
	if err != nil {
		return err
	}
	data, err := body.text()
	if err != nil {
		return err
	}
	if f := s.handles[string(handle)]; f != nil {
		f.up.add(offset, data)
		f.upHappened = true
	}
	return nil
}

func (s *sftp) fsetstat(body sftpBody) error {
	handle, err := body.text()
	if err != nil {
		return err
	}
	name := "(unknown)"
	if f := s.handles[string(handle)]; f != nil {
		name = f.name
	}
	return s.rec.begun(s.n, "sftp", fmt.Sprintf("setstat %q", name))
}

// extended writes down the extensions that change names or copy (OpenSSH PROTOCOL,
// section 4), and by their name alone those that are not known here.
func (s *sftp) extended(name string, body sftpBody) error {
	switch name {
	case "posix-rename@openssh.com", "hardlink@openssh.com":
		return s.named(name, body, 2)
	case "lsetstat@openssh.com":
		return s.named(name, body, 1)
	case "statvfs@openssh.com", "fstatvfs@openssh.com", "limits@openssh.com", "expand-path@openssh.com", "home-directory", "users-groups-by-id@openssh.com", "fsync@openssh.com":
		return nil
	case "copy-data":
		from, err := body.text()
		if err != nil {
			return err
		}
		if f := s.handles[string(from)]; f != nil {
			return s.rec.begun(s.n, "sftp", fmt.Sprintf("copy-data from %q", f.name))
		}
	}
	return s.rec.begun(s.n, "sftp", fmt.Sprintf("extension %q", name))
}

// answer looks at a packet of the target. Versions after 3 mean other things by the
// same types, and no server in use speaks them.
func (s *sftp) answer(kind byte, body sftpBody) error {
	if kind == sftpVersion {
		version, err := body.uint32()
		if err == nil && version > 3 {
			err = fmt.Errorf("%w: SFTP version %d", errBadStream, version)
		}
		return err
	}
	if kind != sftpStatus && kind != sftpHandle && kind != sftpData {
		return nil
	}
	id, err := body.uint32()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ask, waits := s.pending[id]
	delete(s.pending, id)
	switch {
	case !waits || kind == sftpStatus:
		return nil
	case kind == sftpHandle && ask.open != nil:
		handle, err := body.text()
		if err != nil {
			return err
		}
		if len(s.handles) >= maxSFTPHandles {
			return fmt.Errorf("%w: too many files are open", errBadStream)
		}
		s.handles[string(handle)] = ask.open
	case kind == sftpData && ask.read != nil:
		data, err := body.text()
		if err != nil {
			return err
		}
		ask.read.down.add(ask.offset, data)
	}
	return nil
}

// closed writes down what was moved through a handle.
func (s *sftp) closed(handle, suffix string) error {
	f := s.handles[handle]
	if f == nil {
		return nil
	}
	delete(s.handles, handle)
	if f.write || f.upHappened {
		if err := s.rec.file(f.name+suffix, directionUp, f.up.size, f.up.digest()); err != nil {
			return err
		}
	}
	if !f.write || f.down.size > 0 {
		return s.rec.file(f.name+suffix, directionDown, f.down.size, f.down.digest())
	}
	return nil
}
