package session_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// Class: a yes for a client that has gone used as permission for the next one.
func TestHeldRequestDoesNotOutliveACrash(t *testing.T) {
	dir := t.TempDir()
	f := gatetest.New(t, gatetest.Options{Dir: dir})
	alice := f.SignIn(t, gatetest.Alice)
	c := connect(t, f, ask("reader"))
	held := c.confirm(alice, "INC-42").Request
	f.Crash(t)
	c.refused("the gate is stopping")

	f = gatetest.New(t, gatetest.Options{Dir: dir})
	r, err := f.Request(t.Context(), alice, held)
	if err != nil || r.State != session.RequestWithdrawn || r.Outcome != "withdrawn: the client went when the gate did" {
		t.Errorf("the request is %s, %q, %v", r.State, r.Outcome, err)
	}
	_, err = f.Decide(t.Context(), f.SignIn(t, gatetest.Bob), held, yes)
	wantSays(t, err, "this request is withdrawn already")
	if n := f.Count(t, audit.RequestWithdrawn); n != 1 {
		t.Errorf("%d withdrawals in the log", n)
	}
	f.Close(t)
	f.Verify(t)
}

// What a policy forbids that was put in force while the gate was down does not come
// back with the next one that allows it.
func TestPolicyThatChangedWhileTheGateWasDownCuts(t *testing.T) {
	dir := t.TempDir()
	f := gatetest.New(t, gatetest.Options{Dir: dir})
	alice := f.SignIn(t, gatetest.Alice)
	id := granted(t, f, alice).Grant().ID
	f.Close(t)
	f = gatetest.New(t, gatetest.Options{Dir: dir, Rules: strings.ReplaceAll(gatetest.Rules, `"reader"`, `"owner"`)})
	gr, err := f.Grant(t.Context(), alice, id)
	if err != nil || gr.State != session.GrantRevoked || f.Count(t, audit.GrantRevoked) != 1 {
		t.Errorf("the grant is %s, %v", gr.State, err)
	}
}

// A crash between the steps of `users disable` leaves none of them out.
func TestDisableIsBroughtToItsEndAfterACrash(t *testing.T) {
	dir := t.TempDir()
	f := gatetest.New(t, gatetest.Options{Dir: dir})
	alice := f.SignIn(t, gatetest.Alice)
	id := granted(t, f, alice).Grant().ID
	pending := asked(t, f, alice, "writer")
	_, err := f.Store.Update(t.Context(), func(tx session.Tx) error { // the first step, as Disable writes it
		account, err := tx.Account(gatetest.Alice.ID())
		account.Disabled, account.DisabledBy = time.Now(), "sam@example.com"
		return errors.Join(err, tx.SaveAccount(account))
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Crash(t)
	f = gatetest.New(t, gatetest.Options{Dir: dir})
	if standing, err := f.Standing(t.Context()); err != nil || len(standing) != 1 { // Bob's
		t.Errorf("%d sign-ins stand, %v", len(standing), err)
	}
	sam := f.SignIn(t, gatetest.Sam)
	if gr, err := f.Grant(t.Context(), sam, id); err != nil || gr.State != session.GrantRevoked {
		t.Errorf("the grant is %s, %v", gr.State, err)
	}
	if r, err := f.Request(t.Context(), sam, pending.ID); err != nil || r.State != session.RequestWithdrawn {
		t.Errorf("the request is %s, %v", r.State, err)
	}
}

// A crash after the sign-in ended and before its grants did leaves no grant behind.
func TestGrantsOfASignInThatEndedDoNotSurviveACrash(t *testing.T) {
	dir := t.TempDir()
	f := gatetest.New(t, gatetest.Options{Dir: dir})
	alice := f.SignIn(t, gatetest.Alice)
	id := granted(t, f, alice).Grant().ID
	_, err := f.Store.Update(t.Context(), func(tx session.Tx) error { // the first step, as SignOut writes it
		s, err := tx.SignIn(alice.ID)
		s.Ended = time.Now()
		return errors.Join(err, tx.SaveSignIn(s))
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Crash(t)
	f = gatetest.New(t, gatetest.Options{Dir: dir})
	if gr, err := f.Grant(t.Context(), f.SignIn(t, gatetest.Sam), id); err != nil || gr.State != session.GrantRevoked {
		t.Errorf("the grant is %s, %v", gr.State, err)
	}
}

// A policy that asks fewer people than it did leaves a request with all it needs: until
// the gate has settled it, still only one of those who decide may say so.
func TestOnlyThoseWhoDecideSettleWhatNeedsNobodyElse(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob, carol, sam := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob), f.SignIn(t, gatetest.Carol), f.SignIn(t, gatetest.Sam)
	r, err := f.Decide(t.Context(), bob, asked(t, f, alice, "writer").ID, yes)
	if err != nil {
		t.Fatal(err)
	}
	other := asked(t, f, alice, "reader")
	reload(t, f, strings.Replace(gatetest.Rules, "count = 2", "count = 1", 1)+`
rule "a-orders-read" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
}`)
	wantSays(t, f.MayDecide(sam, r), "you are not among those who decide on this request now")
	if err := f.MayDecide(carol, r); err != nil {
		t.Error(err)
	}
	wantSays(t, f.MayDecide(sam, other), "the policy no longer asks anybody about this")
}
