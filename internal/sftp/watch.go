package sftp

import (
	"fmt"
	"sync"
)

// Packet types (section 3).
const (
	typeInit     = 1
	typeOpen     = 3
	typeClose    = 4
	typeRead     = 5
	typeWrite    = 6
	typeLstat    = 7
	typeFstat    = 8
	typeSetstat  = 9
	typeFsetstat = 10
	typeOpendir  = 11
	typeReaddir  = 12
	typeRemove   = 13
	typeMkdir    = 14
	typeRmdir    = 15
	typeRealpath = 16
	typeStat     = 17
	typeRename   = 18
	typeReadlink = 19
	typeSymlink  = 20
	typeExtended = 200

	typeVersion = 2

	typeStatus        = 101
	typeHandle        = 102
	typeData          = 103
	typeName          = 104
	typeAttrs         = 105
	typeExtendedReply = 201
)

// Limits on what a conversation may make its watcher remember.
const (
	maxHandles = 4096
	maxPending = 1 << 18 // paramiko asks for all of a file at once
)

// A Record is told what a conversation does. An error ends it: it is what Up, Down or
// Close returns, and what was about to go on does not.
type Record interface {
	// Began is told of a request before it goes on: `remove "/etc/hosts"`.
	Began(what string) error
	// Piece is told of bytes of a file before they go on, and returns the number by which
	// it knows the file: n is 0 for its first ones, and then what was returned for them.
	// It must not keep p.
	Piece(n int64, offset uint64, p []byte) (int64, error)
	// Moved is told of a file that is closed, before the client hears of it.
	Moved(f File) error
}

// A Watch follows one conversation. Up and Down may be called side by side.
type Watch struct {
	to       Record
	up, down packets

	mu       sync.Mutex
	greeted  bool // INIT was sent
	answered bool // VERSION came
	pending  map[uint32]ask
	handles  map[string]*file
	files    map[*file]struct{} // that are open, or have been and are not told yet
}

// ask is a request that is not answered.
type ask struct {
	kind   byte
	file   *file  // that it is about; nil: none
	offset uint64 // of READ
	size   int    // of READ, what was asked for; of WRITE, what was sent
}

// New starts with a conversation's first byte.
func New(to Record) *Watch {
	return &Watch{to: to, pending: map[uint32]ask{}, handles: map[string]*file{}, files: map[*file]struct{}{}}
}

// Up takes what the client sends, cut anywhere, before it goes to the target.
func (w *Watch) Up(p []byte) error { return w.up.feed(p, w.request) }

// Down takes what the target sends, cut anywhere, before it goes to the client.
func (w *Watch) Down(p []byte) error { return w.down.feed(p, w.answer) }

// Close tells the record of what is open at the end of the conversation.
func (w *Watch) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for f := range w.files {
		delete(w.files, f)
		if err := f.tell(w.to); err != nil {
			return err
		}
	}
	return nil
}

// request follows a packet of the client.
func (w *Watch) request(kind byte, b *body) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if (kind == typeInit) == w.greeted {
		return bad("a first packet that is not, or another one")
	}
	if kind == typeInit {
		w.greeted = true
		return nil
	}
	id := b.uint32()
	if _, used := w.pending[id]; used {
		return bad("request id %d is in use", id)
	}
	if len(w.pending) >= maxPending {
		return bad("more than %d requests wait for an answer", maxPending)
	}
	a := ask{kind: kind}
	say, err := w.reads(&a, b)
	switch {
	case b.err != nil:
		return b.err
	case err != nil:
		return err
	}
	if a.file != nil {
		a.file.waiting++
	}
	w.pending[id] = a
	if say == "" {
		return nil
	}
	return w.to.Began(say)
}

// reads reads what a request asks for, and says what is worth telling.
func (w *Watch) reads(a *ask, b *body) (say string, err error) {
	switch a.kind {
	case typeOpen:
		const write = 2
		name, flags := b.text(), b.uint32()
		a.file = &file{name: name, writes: flags&write != 0}
		if a.file.writes {
			return fmt.Sprintf("write %q", name), nil
		}
		return fmt.Sprintf("read %q", name), nil
	case typeOpendir:
		a.file = &file{name: b.text(), folder: true}
		return fmt.Sprintf("list %q", a.file.name), nil
	case typeClose, typeRead, typeWrite, typeFstat, typeFsetstat, typeReaddir:
		return w.about(a, b)
	case typeSetstat:
		return fmt.Sprintf("setstat %q", b.text()) + b.attributes(), nil
	case typeRemove:
		return fmt.Sprintf("remove %q", b.text()), nil
	case typeMkdir:
		return fmt.Sprintf("mkdir %q", b.text()), nil
	case typeRmdir:
		return fmt.Sprintf("rmdir %q", b.text()), nil
	case typeReadlink:
		return fmt.Sprintf("readlink %q", b.text()), nil
	case typeRename:
		return fmt.Sprintf("rename %q %q", b.text(), b.text()), nil
	case typeSymlink:
		return fmt.Sprintf("symlink %q %q", b.text(), b.text()), nil
	case typeLstat, typeStat, typeRealpath:
		b.bytes()
		return "", nil
	case typeExtended:
		return w.extended(a, b)
	}
	return "", bad("packet type %d", a.kind)
}

// about reads a request about an open file or folder.
func (w *Watch) about(a *ask, b *body) (say string, err error) {
	if a.file, err = w.open(b); err != nil {
		return "", err
	}
	switch a.kind {
	case typeClose:
		a.file.closing = true
	case typeRead:
		a.offset, a.size = b.uint64(), int(b.uint32())
	case typeWrite:
		offset, data := b.uint64(), b.bytes()
		a.size = len(data)
		return "", a.file.up.add(w.to, offset, data)
	case typeFsetstat:
		return fmt.Sprintf("setstat %q", a.file.name) + b.attributes(), nil
	}
	return "", nil
}

// open reads a handle and finds what it stands for.
func (w *Watch) open(b *body) (*file, error) {
	f := w.handles[string(b.bytes())]
	switch {
	case b.err != nil:
		return nil, b.err
	case f == nil:
		return nil, bad("a handle that the target did not give")
	case f.closing:
		return nil, bad("a handle that is being closed")
	}
	return f, nil
}

// extended reads an extension: those that change names or copy are told, and all that
// is not known here.
func (w *Watch) extended(a *ask, b *body) (say string, err error) {
	const most = 256 // of an unknown one's bytes
	switch name := b.text(); name {
	case "posix-rename@openssh.com", "hardlink@openssh.com":
		return fmt.Sprintf("%s %q %q", name, b.text(), b.text()), nil
	case "lsetstat@openssh.com":
		return fmt.Sprintf("%s %q", name, b.text()) + b.attributes(), nil
	case "statvfs@openssh.com", "limits@openssh.com", "expand-path@openssh.com", "home-directory", "users-groups-by-id@openssh.com":
		return "", nil
	case "fstatvfs@openssh.com", "fsync@openssh.com":
		a.file, err = w.open(b)
		return "", err
	case "copy-data":
		from, err := w.open(b)
		if err != nil {
			return "", err
		}
		b.take(16) // offset and length
		if a.file, err = w.open(b); err != nil {
			return "", err
		}
		a.file.up.mixed = true // what it then holds did not come through here
		return fmt.Sprintf("copy-data %q %q", from.name, a.file.name), nil
	default:
		return fmt.Sprintf("extension %q %q", name, b.rest[:min(len(b.rest), most)]), nil
	}
}

// answer follows a packet of the target.
func (w *Watch) answer(kind byte, b *body) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if (kind == typeVersion) == w.answered {
		return bad("a first answer that is not, or another one")
	}
	if kind == typeVersion {
		w.answered = true
		if version := b.uint32(); b.err == nil && version != 3 {
			return bad("version %d", version)
		}
		return b.err
	}
	id := b.uint32()
	a, waits := w.pending[id]
	switch {
	case b.err != nil:
		return b.err
	case !waits:
		return bad("an answer to nothing")
	case !answers(a.kind, kind):
		return bad("an answer of type %d to a request of type %d", kind, a.kind)
	}
	delete(w.pending, id)
	if err := w.answersTo(a, kind, b); err != nil {
		return err
	}
	if f := a.file; f != nil {
		f.waiting--
		if f.closed && f.waiting == 0 {
			delete(w.files, f)
			return f.tell(w.to)
		}
	}
	return nil
}

// answers reports whether a packet may be the answer to a request; an error always may.
func answers(request, answer byte) bool {
	switch answer {
	case typeStatus:
		return true
	case typeHandle:
		return request == typeOpen || request == typeOpendir
	case typeData:
		return request == typeRead
	case typeName:
		return request == typeReaddir || request == typeReadlink || request == typeRealpath || request == typeExtended
	case typeAttrs:
		return request == typeLstat || request == typeFstat || request == typeStat
	case typeExtendedReply:
		return request == typeExtended
	}
	return false
}

// answersTo does what an answer means for the file that was asked about.
func (w *Watch) answersTo(a ask, kind byte, b *body) error {
	const ok = 0 // SSH_FX_OK
	switch {
	case kind == typeHandle:
		return w.opened(a.file, b)
	case kind == typeData:
		data := b.bytes()
		if len(data) > a.size {
			return bad("more than was asked for")
		}
		if err := a.file.down.add(w.to, a.offset, data); err != nil {
			return err
		}
	case a.kind == typeWrite && b.uint32() != ok:
		a.file.up.lost(a.size)
	case a.kind == typeClose:
		// A server forgets a handle even where closing fails, and may give it anew.
		delete(w.handles, a.file.handle)
		a.file.closed, a.file.failed = true, b.uint32() != ok
	}
	return b.err
}

func (w *Watch) opened(f *file, b *body) error {
	f.handle = b.text()
	switch {
	case b.err != nil:
		return b.err
	case w.handles[f.handle] != nil:
		return bad("a handle twice")
	case len(w.files) >= maxHandles:
		return bad("more than %d files are open", maxHandles)
	}
	w.handles[f.handle] = f
	w.files[f] = struct{}{}
	return nil
}
