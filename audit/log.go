package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sallyport/sallyport/internal/durable"
)

// Config says where a log is and what goes with it.
type Config struct {
	Dir    string
	Node   string // this node's name, which its entries carry
	Origin string // what log.json must say; empty: whatever it says
	// Mirror gets every entry with its body as a line of JSON, for collectors; nil:
	// none. A Mirror that blocks loses lines, which a line {"gap":N} says: the log
	// itself is the record, and waits for nobody.
	Mirror io.Writer
	Alive  time.Duration // between node.alive entries; 0: none. Use 10 s.
	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
	Faults *durable.Faults  // nil outside tests

	segment int64 // in place of segmentSize, for tests
}

// Errors of a Log, to be compared with by errors.Is.
var (
	// ErrFull: nothing of what was given was logged, because the disk is full. The log goes on once there is space.
	ErrFull = errors.New("the disk of the audit log is full")
	// ErrFailed: a write or fsync failed for another reason. It is final: the gate must stop.
	ErrFailed = errors.New("the audit log cannot be written any more")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("the audit log is closed")
	// ErrGap: the counters given do not follow the log's.
	ErrGap = errors.New("the outbox does not continue where the audit log ends")
	// ErrForged: an outbox row is not what Encode made.
	ErrForged = errors.New("an outbox row is not what was logged")
	// ErrLocked: another process writes the log.
	ErrLocked = errors.New("the audit log is in use by another process; end that sallyport first")
	// ErrDamaged is every *Damage.
	ErrDamaged = errors.New("the audit log is damaged")
	// ErrNoLog: there is no log in the folder.
	ErrNoLog = errors.New("there is no audit log")
)

// Damage says where a log is not what was written. The log does not open, and
// changes nothing, until somebody has looked.
type Damage struct {
	File string // inside the log's folder
	Byte int64  // where in File; -1 where it is about the file as a whole
	Why  string
}

func (d *Damage) Error() string {
	if d.Byte < 0 {
		return fmt.Sprintf("the audit log is damaged: %s: %s", d.File, d.Why)
	}
	return fmt.Sprintf("the audit log is damaged: %s, byte %d: %s", d.File, d.Byte, d.Why)
}

// Is makes every Damage an ErrDamaged.
func (d *Damage) Is(target error) bool { return target == ErrDamaged }

// State is where a log stands: a signed checkpoint covers it, on disk.
type State struct {
	Origin string
	Node   string
	Size   int64 // entries
	Root   tlog.Hash
	Time   time.Time // of the last entry; zero for an empty log
	Key    string    // the log's public key, as C2SP signed-note writes verifier keys
}

// A Log is an open log. All its methods may be called by many goroutines at once.
type Log struct {
	node      string
	origin    string
	key       string
	signer    note.Signer
	pseudonym []byte
	now       func() time.Time
	logger    *slog.Logger
	dir       *durable.Dir
	lock      *durable.File
	mirror    *mirror
	publisher *publisher

	wake   chan struct{} // 1 buffered: there is something in queue
	failed chan struct{}
	stop   context.CancelFunc
	done   sync.WaitGroup // the writer, publisher and alive goroutines

	// The writer goroutine's own.
	wal    walWriter
	bodies bodyWriter
	tree   tree
	buf    []byte

	mu     sync.Mutex // guards what follows
	queue  []*call
	closed bool
	err    error
	state  State
	counts map[string]uint64 // highest counter of each stream
	index  []place           // where each entry is
}

// Open opens the log in c.Dir for writing. It reads all of it, recomputes the tree
// and checks the last checkpoint; a torn tail, which only a crash leaves, is cut
// off. Anything else that is wrong is a *Damage.
func Open(c Config) (*Log, error) {
	l, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", c.Dir, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	l.done.Go(func() { l.write(ctx) })
	l.done.Go(func() { l.publisher.run(ctx) })
	if c.Alive > 0 {
		l.done.Go(func() { l.alive(ctx, c.Alive) })
	}
	return l, nil
}

func open(c Config) (_ *Log, err error) {
	if !word(c.Node) || containsSlash(c.Node) {
		return nil, fmt.Errorf("%q is no name for a node", c.Node)
	}
	dir, err := durable.Open(c.Dir, c.Faults)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w; type: sallyport audit init --config FILE", ErrNoLog)
		}
		return nil, err
	}
	l := &Log{
		node: c.Node, dir: dir, now: c.Now, logger: c.Logger,
		wake: make(chan struct{}, 1), failed: make(chan struct{}),
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.logger == nil {
		l.logger = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.release())
		}
	}()
	if err := l.loadKeys(c.Origin); err != nil {
		return nil, err
	}
	if l.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	l.wal.size, l.bodies.size = segmentSize, segmentSize
	if c.segment > 0 {
		l.wal.size, l.bodies.size = c.segment, uint32(c.segment)
	}
	if err := l.recover(); err != nil {
		return nil, err
	}
	l.mirror = newMirror(c.Mirror, l.logger)
	return l, nil
}

// release closes the files.
func (l *Log) release() error {
	errs := []error{l.wal.close(), l.bodies.close()}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(append(errs, l.dir.Close())...)
}

func lockDir(dir *durable.Dir) (*durable.File, error) {
	f, err := dir.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

// Counter is the highest counter of the node's outbox stream: 0 for none. Where
// the database never gave that counter out, it was restored from the past.
func (l *Log) Counter() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[l.node]
}

// State is where the log stands.
func (l *Log) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Failed is closed when the log cannot be written any more; Err says why.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Err is nil, or why the log failed.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *Log) fail(err error) error {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		close(l.failed)
	}
	return l.err
}

// alive seals silence too: an hour without entries of a node that ran would show.
func (l *Log) alive(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		body := struct {
			Counter uint64 `json:"counter"`
		}{l.Counter()}
		_, err := l.Record(ctx, Event{Type: NodeAlive, Actor: "gate", Body: body})
		if err != nil && ctx.Err() == nil {
			l.logger.Warn("node.alive is not logged", "err", err)
		}
	}
}

// Close logs what is waiting, writes the last tiles and closes the files. Calls
// that come later get ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.done.Wait()
	err := l.publisher.publish()
	l.mirror.close()
	return errors.Join(err, l.release())
}
