package session_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// opened is a session by one browser's sign-in, under a grant that another sign-in of
// the same person asked for; it does not run yet.
func opened(t *testing.T, f *gatetest.Fixture) (identity.SignIn, *session.Session) {
	t.Helper()
	asked(t, f, f.SignIn(t, gatetest.Alice), "owner")
	by := f.SignIn(t, gatetest.Alice)
	a := ask("owner")
	a.Proof.SignIn = by.ID
	s, err := f.Open(t.Context(), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	return by, s
}

func wantSignedOut(t *testing.T, s *session.Session) {
	t.Helper()
	r := run(s)
	select {
	case <-r.up:
		t.Fatal("a session began to live whose sign-in had ended")
	case err := <-r.ended:
		if !errors.Is(err, session.ErrSignedOut) {
			t.Errorf("ended with %v", err)
		}
		wantSays(t, err, "you are signed out")
	}
}

func TestSignedOutBeforeItRuns(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	by, s := opened(t, f)
	if err := f.SignOut(t.Context(), by.ID, "by yourself"); err != nil {
		t.Fatal(err)
	}
	wantSignedOut(t, s)
}

// A pausing store stops at its next restriction, once it is armed.
type pausing struct {
	session.Store
	armed  atomic.Bool
	paused chan struct{}
	goOn   chan struct{}
}

func (p *pausing) Restrict(ctx context.Context, fn func(session.Tx) error) (uint64, error) {
	if p.armed.CompareAndSwap(true, false) {
		close(p.paused)
		<-p.goOn
	}
	return p.Store.Restrict(ctx, fn)
}

// While the end of a sign-in is being written down, nothing that it proved begins to live.
func TestSigningOutBeforeItRuns(t *testing.T) {
	p := &pausing{paused: make(chan struct{}), goOn: make(chan struct{})}
	f := gatetest.New(t, gatetest.Options{Config: func(c *session.Config) { p.Store, c.Store = c.Store, p }})
	by, s := opened(t, f)
	p.armed.Store(true)
	done := make(chan error, 1)
	go func() { done <- f.SignOut(context.Background(), by.ID, "by yourself") }()
	<-p.paused
	defer func() {
		close(p.goOn)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	wantSignedOut(t, s)
}
