// Package store keeps the gate's state in SQLite: requests, grants, sessions,
// sign-ins, tokens, and the outbox of the log. It satisfies session.Store.
//
// The database runs with a write-ahead log and synchronous=FULL: what Update
// returned for is on disk. Updates that wait at the same time share one commit.
package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/mattn/go-sqlite3"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/contain"
	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/session"
)

//go:embed schema.sql
var schema string

//go:embed reviews.sql
var reviews string

//go:embed fixed.sql
var fixed string

// steps make a database what it is now; how many of them were taken is kept in SQLite's
// user_version. A newer database is refused, an older one takes the steps that it lacks.
func steps() []string { return []string{schema, reviews, fixed} }

// batch is how many updates may share one commit.
const batch = 256

// ErrTransition says that a state cannot follow the one that the row has.
var ErrTransition = session.ErrTransition

// An Encoder makes the bytes that the log will keep; *audit.Log is one.
type Encoder interface {
	Encode(e audit.Event, counter uint64) (audit.Pending, error)
}

// DB is an open store. One process at a time writes to it.
type DB struct {
	encode Encoder
	read   *sql.DB // a pool of read-only connections
	write  *sql.DB // exactly one connection, used by the writer alone
	conn   *sql.Conn
	spare  *reserve

	jobs   chan *job
	mu     sync.RWMutex // held for reading while sending to jobs; for writing to close
	closed bool
	done   chan struct{} // the writer has returned
}

type job struct {
	fn        func(session.Tx) error
	restricts bool // may use the reserve
	counter   uint64
	err       error
	done      chan struct{}
}

// Open opens or makes the database at path (mode 0600). encode turns logged events
// into outbox rows.
func Open(path string, encode Encoder) (*DB, error) {
	if err := private(path); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	path, err := filepath.EvalSymlinks(path) // SQLite's files and the reserve are beside the real one
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	write, err := sql.Open("sqlite3", dsn(path, "rw"))
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	write.SetMaxOpenConns(1)
	conn, err := write.Conn(context.Background())
	if err == nil {
		err = migrate(conn)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), write.Close())
	}
	spare, err := openReserve(path, reserveSize)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), conn.Close(), write.Close())
	}
	read, err := sql.Open("sqlite3", dsn(path, "ro"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), conn.Close(), write.Close())
	}
	read.SetMaxOpenConns(4)
	db := &DB{encode: encode, read: read, write: write, conn: conn, spare: spare, jobs: make(chan *job, batch), done: make(chan struct{})}
	go db.writer()
	return db, nil
}

// private makes the file with mode 0600 where it is missing, and refuses one that
// others can read: it holds sealed refresh tokens and everybody's reasons.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s can be read by others (mode %04o); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return nil
}

func dsn(path, mode string) string {
	q := url.Values{"mode": {mode}, "_busy_timeout": {"5000"}, "_foreign_keys": {"on"}, "_synchronous": {"FULL"}, "_stmt_cache_size": {"128"}}
	if mode == "rw" {
		q.Set("_journal_mode", "WAL")
		q.Set("_txlock", "immediate")
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

func migrate(conn *sql.Conn) error {
	ctx := context.Background()
	var version int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	all := steps()
	if version > len(all) {
		return fmt.Errorf("the database has schema %d, this sallyport knows %d; run the newer sallyport", version, len(all))
	}
	for ; version < len(all); version++ {
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err = tx.ExecContext(ctx, all[version]+fmt.Sprintf("PRAGMA user_version = %d;", version+1)); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// Close waits for updates under way and closes the database.
func (db *DB) Close() error {
	db.mu.Lock()
	already := db.closed
	db.closed = true
	db.mu.Unlock()
	if already {
		return nil
	}
	close(db.jobs)
	<-db.done
	return errors.Join(db.conn.Close(), db.write.Close(), db.read.Close())
}

// Update satisfies session.Store. Once fn has begun, ctx no longer matters: other
// updates may share its transaction.
func (db *DB) Update(ctx context.Context, fn func(session.Tx) error) (uint64, error) {
	return db.submit(ctx, &job{fn: fn, done: make(chan struct{})})
}

// Restrict satisfies session.Store: on a full disk it has the reserve.
func (db *DB) Restrict(ctx context.Context, fn func(session.Tx) error) (uint64, error) {
	return db.submit(ctx, &job{fn: fn, restricts: true, done: make(chan struct{})})
}

func (db *DB) submit(ctx context.Context, j *job) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	db.mu.RLock()
	if db.closed {
		db.mu.RUnlock()
		return 0, errors.New("store is closed")
	}
	db.jobs <- j
	db.mu.RUnlock()
	<-j.done
	return j.counter, j.err
}

// writer runs updates one after the other, as many to a commit as are waiting.
func (db *DB) writer() {
	defer close(db.done)
	for first := range db.jobs {
		jobs := []*job{first}
	more:
		for len(jobs) < batch {
			select {
			case j, open := <-db.jobs:
				if !open {
					break more
				}
				jobs = append(jobs, j)
			default:
				break more
			}
		}
		db.commit(jobs)
	}
}

// commit runs the jobs in one transaction, each in a savepoint of its own, and
// releases their callers only once the whole is on disk. On a full disk only
// restrictions are left, which are run again with the reserve given up; until it is
// whole again nothing else may use the room.
func (db *DB) commit(jobs []*job) {
	var err error
	if !db.spare.whole() {
		jobs = restrictions(jobs, errLow)
	}
	if len(jobs) > 0 {
		err = db.transact(jobs)
	}
	if noRoom(err) && slices.ContainsFunc(jobs, func(j *job) bool { return j.restricts }) && db.spare.give() {
		jobs = restrictions(jobs, described(err))
		err = db.transact(jobs)
	}
	for _, j := range jobs {
		if err != nil {
			j.counter = 0
			if j.err == nil || full(j.err) {
				j.err = described(err)
			}
		}
		close(j.done)
	}
}

// errLow says that the reserve was given up, and there is no room yet to make it again.
var errLow = fmt.Errorf("store: %w", audit.ErrFull)

// restrictions returns the jobs that restrict, to be run afresh, and refuses the others.
func restrictions(jobs []*job, why error) []*job {
	var rest []*job
	for _, j := range jobs {
		j.err, j.counter = nil, 0
		if j.restricts {
			rest = append(rest, j)
			continue
		}
		j.err = why
		close(j.done)
	}
	return rest
}

func (db *DB) transact(jobs []*job) (err error) {
	ctx := context.Background()
	if _, err := db.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, back := db.conn.ExecContext(ctx, "ROLLBACK")
			err = errors.Join(err, ignoreNoTransaction(back))
		}
	}()
	var counter uint64
	if err := db.conn.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = 'counter'").Scan(&counter); err != nil {
		return err
	}
	before := counter
	for _, j := range jobs {
		if counter, err = db.one(ctx, j, counter); err != nil {
			return err
		}
	}
	if counter != before {
		if _, err := db.conn.ExecContext(ctx, "UPDATE meta SET value = ? WHERE key = 'counter'", counter); err != nil {
			return err
		}
	}
	_, err = db.conn.ExecContext(ctx, "COMMIT")
	return err
}

// one runs a job in a savepoint and returns the counter after it. An error of the
// job is the job's own; an error here spoils the whole transaction.
func (db *DB) one(ctx context.Context, j *job, counter uint64) (uint64, error) {
	if _, err := db.conn.ExecContext(ctx, "SAVEPOINT job"); err != nil {
		return counter, err
	}
	t := &tx{ctx: ctx, q: db.conn, encode: db.encode, counter: counter}
	j.err = run(j.fn, t)
	if j.err != nil {
		if full(j.err) { // SQLite may have rolled back everything already
			return counter, j.err
		}
		_, err := db.conn.ExecContext(ctx, "ROLLBACK TO job; RELEASE job")
		return counter, err
	}
	if t.counter > counter {
		j.counter = t.counter
	}
	_, err := db.conn.ExecContext(ctx, "RELEASE job")
	return t.counter, err
}

// run turns a panic in fn into its error, so that the writer lives on.
func run(fn func(session.Tx) error, t session.Tx) (err error) {
	defer contain.Panic(&err)
	return fn(t)
}

// View satisfies session.Store.
func (db *DB) View(ctx context.Context, fn func(session.Tx) error) error {
	read, err := db.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer read.Rollback() //nolint:errcheck // nothing was written
	return fn(&tx{ctx: ctx, q: read})
}

// Outbox satisfies session.Store.
func (db *DB) Outbox(ctx context.Context, after uint64, limit int) ([]audit.Pending, error) {
	rows, err := db.read.QueryContext(ctx, "SELECT counter, leaf, body FROM outbox WHERE counter > ? ORDER BY counter LIMIT ?", after, limit)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var out []audit.Pending
	for rows.Next() {
		var p audit.Pending
		if err := rows.Scan(&p.Counter, &p.Leaf, &p.Body); err != nil {
			return nil, fmt.Errorf("read outbox: %w", err)
		}
		out = append(out, p)
	}
	return out, rows.Err()
}

// Logged satisfies session.Store.
func (db *DB) Logged(ctx context.Context, counter uint64) error {
	_, err := db.Update(ctx, func(t session.Tx) error {
		_, err := t.(*tx).q.ExecContext(ctx, "DELETE FROM outbox WHERE counter <= ?", counter)
		return err
	})
	return err
}

// Counter satisfies session.Store.
func (db *DB) Counter(ctx context.Context) (uint64, error) {
	var counter uint64
	err := db.read.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = 'counter'").Scan(&counter)
	return counter, err
}

// described says a full disk in the log's own word, so that everybody above knows one
// error for it, and a broken one in session's.
func described(err error) error {
	switch {
	case noRoom(err):
		return fmt.Errorf("store: %w: %w", audit.ErrFull, err)
	case broken(err):
		return fmt.Errorf("store: %w: %w", session.ErrStore, err)
	}
	return fmt.Errorf("store: %w", err)
}

// noRoom knows a full quota too, which is only an I/O error to SQLite.
func noRoom(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrFull || durable.IsFull(e.SystemErrno))
}

// broken reports that SQLite cannot write, or does not find what it wrote.
func broken(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && slices.Contains([]sqlite3.ErrNo{sqlite3.ErrIoErr, sqlite3.ErrReadonly, sqlite3.ErrCantOpen, sqlite3.ErrCorrupt, sqlite3.ErrNotADB}, e.Code)
}

// full reports errors after which SQLite may have rolled back the whole transaction.
func full(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrFull || e.Code == sqlite3.ErrIoErr)
}

func ignoreNoTransaction(err error) error {
	if err != nil && strings.Contains(err.Error(), "no transaction is active") {
		return nil
	}
	return err
}
