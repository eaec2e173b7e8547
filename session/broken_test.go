package session_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// breaking is a store whose disk turns read-only for some of what it does.
type breaking struct {
	session.Store
	update, restrict, logged atomic.Bool
	hung                     atomic.Bool // no Restrict answers until hangs is closed
	hangs                    chan struct{}
}

var errDisk = fmt.Errorf("store: %w: read-only file system", session.ErrStore)

func (b *breaking) Update(ctx context.Context, fn func(session.Tx) error) (uint64, error) {
	if b.update.Load() {
		return 0, errDisk
	}
	return b.Store.Update(ctx, fn)
}

func (b *breaking) Restrict(ctx context.Context, fn func(session.Tx) error) (uint64, error) {
	if b.restrict.Load() {
		return 0, errDisk
	}
	if b.hung.Load() {
		<-b.hangs
	}
	return b.Store.Restrict(ctx, fn)
}

func (b *breaking) Logged(ctx context.Context, counter uint64) error {
	if b.logged.Load() {
		return errDisk
	}
	return b.Store.Logged(ctx, counter)
}

// A store that cannot be written any more stops the gate by its own word, whatever it was
// that could not be written: nobody new gets in, live sessions are cut, and all are told.
func TestBrokenStoreStopsTheGate(t *testing.T) {
	another := func(f *gatetest.Fixture) error {
		return f.Gate.SignIn(t.Context(), identity.SignIn{ID: identity.NewID(), User: gatetest.Bob, Created: time.Now(), Expires: time.Now().Add(time.Hour)})
	}
	for name, c := range map[string]struct {
		breaks func(*breaking)
		do     func(*gatetest.Fixture, *session.Session, identity.SignIn) error
		says   string
		ends   error
	}{
		"a permission": {func(b *breaking) { b.update.Store(true) }, func(f *gatetest.Fixture, _ *session.Session, _ identity.SignIn) error { return another(f) }, "the gate has stopped: it cannot keep its record", session.ErrStopping},
		"a revoke": {func(b *breaking) { b.restrict.Store(true) }, func(f *gatetest.Fixture, s *session.Session, sam identity.SignIn) error {
			return f.Revoke(t.Context(), sam, s.Grant().ID, "enough")
		}, "this took effect, but the gate cannot write it down and has stopped; do it again once the gate is back", session.ErrRevoked},
		"what the log has": {func(b *breaking) { b.logged.Store(true) }, func(f *gatetest.Fixture, _ *session.Session, _ identity.SignIn) error { return another(f) }, "", session.ErrStopping},
	} {
		t.Run(name, func(t *testing.T) {
			var disk *breaking
			f := gatetest.New(t, gatetest.Options{Config: func(c *session.Config) {
				disk = &breaking{Store: c.Store}
				c.Store = disk
			}})
			live, sam := granted(t, f, f.SignIn(t, gatetest.Alice)), f.SignIn(t, gatetest.Sam)
			r := run(live)
			<-r.up
			c.breaks(disk)
			if err := c.do(f, live, sam); c.says != "" {
				wantSays(t, err, c.says)
			}
			select {
			case err := <-r.ended:
				if !errors.Is(err, c.ends) {
					t.Errorf("the session ended with %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the session goes on without a store")
			}
			select {
			case <-f.Done():
			case <-time.After(20 * time.Second):
				t.Fatal("the gate goes on without a store")
			}
			if !errors.Is(f.Gate.Err(), session.ErrStore) {
				t.Errorf("the gate stopped by %v", f.Gate.Err())
			}
			_, err := f.Open(t.Context(), ask("reader"), nil)
			wantSays(t, err, "it cannot keep its record")
		})
	}
}

// Who stops a gate that has failed closes its store and its recordings next: Stop returns
// once every session that was cut has sealed its recording.
func TestStopOfAFailedGateWaitsForTheCut(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var disk *breaking
		f := gatetest.New(t, gatetest.Options{Dir: dir, Config: func(c *session.Config) {
			disk = &breaking{Store: c.Store}
			c.Store = disk
		}})
		live := granted(t, f, f.SignIn(t, gatetest.Alice))
		up, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			_ = live.Run(t.Context(), func(ctx context.Context, _ *session.Upstream) error {
				close(up)
				<-ctx.Done()
				time.Sleep(time.Second) // a slow client reads its last words
				return ctx.Err()
			})
		}()
		<-up
		disk.update.Store(true)
		if err := f.Gate.SignIn(t.Context(), identity.SignIn{ID: identity.NewID(), User: gatetest.Bob, Created: time.Now(), Expires: time.Now().Add(time.Hour)}); err == nil {
			t.Fatal("the disk does not break")
		}
		if err := f.Gate.Stop(t.Context(), 0); !errors.Is(err, session.ErrStore) {
			t.Errorf("stop: %v", err)
		}
		synctest.Wait()
		select {
		case <-ended:
		default:
			t.Error("stopped with a session that has not ended")
			<-ended
		}
	})
}

// A session ends at its grant's end by itself: a store that does not answer then keeps
// nobody in.
func TestStoreThatHangsLengthensNoSession(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var disk *breaking
		f := gatetest.New(t, gatetest.Options{Dir: dir, Config: func(c *session.Config) {
			disk = &breaking{Store: c.Store, hangs: make(chan struct{})}
			c.Store = disk
		}})
		live := granted(t, f, f.SignIn(t, gatetest.Alice))
		disk.hung.Store(true)
		cut, ended := make(chan time.Time, 1), make(chan struct{})
		go func() {
			defer close(ended)
			_ = live.Run(t.Context(), func(ctx context.Context, _ *session.Upstream) error {
				<-ctx.Done()
				cut <- time.Now()
				return ctx.Err()
			})
		}()
		select {
		case at := <-cut:
			if !at.Equal(live.Ends()) {
				t.Errorf("cut at %v, want %v", at, live.Ends())
			}
		case <-time.After(time.Until(live.Ends()) + time.Minute):
			t.Error("it lives on")
		}
		close(disk.hangs)
		<-ended
		f.Close(t)
	})
}

// A log that fails by what is none of the store's stops the gate all the same.
func TestLogThatFailsByItselfStopsTheGate(t *testing.T) {
	disk := &gatetest.Disk{}
	f := gatetest.New(t, gatetest.Options{Faults: disk.Faults()})
	if err := f.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	disk.Break()
	if _, err := f.Log.Record(t.Context(), audit.Event{Type: audit.SessionAlarm, Actor: "gate", Body: map[string]any{}}); err == nil {
		t.Fatal("the disk does not break")
	}
	select {
	case <-f.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the gate goes on without a log")
	}
}

// A gate that was never started has nothing to wait for.
func TestStopWithoutStart(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	g, err := session.New(session.Config{Store: f.Store, Log: f.Log, Recordings: f.Recordings}, f.Policy())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
