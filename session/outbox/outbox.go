// Package outbox moves what the store has written down into the log, in order, and
// tells those who wait when an entry of theirs is durable.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// page is how many outbox rows go into the log at once.
const page = 1024

// Store is where the outbox is; session.Store says what its methods promise.
type Store interface {
	Outbox(ctx context.Context, after uint64, limit int) ([]audit.Pending, error)
	Logged(ctx context.Context, counter uint64) error
	Counter(ctx context.Context) (uint64, error)
}

// ErrClosed is Wait's answer for an entry that was not durable when the log stopped.
var ErrClosed = errors.New("the log takes nothing any more")

// A Sequencer moves the outbox into the log, in order, and releases whoever waits
// for an entry to be durable. One goroutine runs it.
type Sequencer struct {
	store Store
	log   *audit.Log
	kick  chan struct{} // holds at most one: there is something in the outbox
	quit  chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	counter uint64        // all up to here are durable in the log
	moved   chan struct{} // closed and replaced whenever counter or err changes
	full    bool          // the log's disk is full; rows wait in the outbox
	err     error         // final
}

// New makes a Sequencer that does nothing before Run.
func New(store Store, log *audit.Log) *Sequencer {
	return &Sequencer{
		store: store, log: log, counter: log.Counter(),
		kick: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), moved: make(chan struct{}),
	}
}

// Check refuses a database that is older than the log: it would bring back grants
// that were revoked since.
func (s *Sequencer) Check(ctx context.Context) error {
	given, err := s.store.Counter(ctx)
	if err != nil {
		return err
	}
	if logged := s.log.Counter(); logged > given {
		return fmt.Errorf("the store is older than the log: the log holds entry %d of this node, the store has given out only %d; "+
			"the store was restored from a backup and would bring back what was revoked since: restore the newest store, or put both away and begin anew: sallyport audit init", logged, given)
	}
	return nil
}

// Run logs what comes until Close, or until store or log cannot be written any more,
// which is the error.
func (s *Sequencer) Run() error {
	defer close(s.done)
	for {
		select {
		case <-s.kick:
		case <-s.quit:
			return s.drain()
		}
		if err := s.drain(); err != nil {
			return err
		}
	}
}

// drain logs all that is in the outbox now. A full disk is waited out: the rows
// stay where they are, and whoever waits for a permission is told.
func (s *Sequencer) drain() error {
	ctx := context.Background()
	for {
		rows, err := s.store.Outbox(ctx, s.durable(), page)
		if err == nil && len(rows) == 0 {
			return nil
		}
		if err == nil {
			_, err = s.log.Append(ctx, rows)
		}
		s.setFull(errors.Is(err, audit.ErrFull))
		if errors.Is(err, audit.ErrFull) {
			select {
			case <-s.quit:
				s.advance(0, err)
				return err
			case <-time.After(time.Second):
				continue
			}
		}
		if err != nil {
			s.advance(0, fmt.Errorf("log: %w", err))
			return err
		}
		last := rows[len(rows)-1].Counter
		s.advance(last, nil)
		if err := s.store.Logged(ctx, last); err != nil && !errors.Is(err, audit.ErrFull) {
			s.advance(0, err)
			return err
		}
	}
}

func (s *Sequencer) setFull(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if full && !s.full {
		close(s.moved)
		s.moved = make(chan struct{})
	}
	s.full = full
}

// Full reports that rows wait because the log's disk is full.
func (s *Sequencer) Full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full
}

func (s *Sequencer) durable() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counter
}

func (s *Sequencer) advance(counter uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counter = max(s.counter, counter)
	if s.err == nil {
		s.err = err
	}
	close(s.moved)
	s.moved = make(chan struct{})
}

// Kick says that the outbox has something in it.
func (s *Sequencer) Kick() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Wait returns once the entries up to counter are durable, or with audit.ErrFull
// where they have to wait for space on the disk.
func (s *Sequencer) Wait(ctx context.Context, counter uint64) error {
	for {
		s.mu.Lock()
		reached, full, err, moved := s.counter >= counter, s.full, s.err, s.moved
		s.mu.Unlock()
		switch {
		case reached:
			return nil
		case full && err == nil:
			return audit.ErrFull
		case err != nil:
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.done:
			if s.durable() >= counter {
				return nil
			}
			return ErrClosed
		}
	}
}

// Close logs what is in the outbox now, and ends Run.
func (s *Sequencer) Close() {
	close(s.quit)
	<-s.done
}
