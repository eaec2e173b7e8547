package proxytest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// The eleven promises of a hold.

func nothingBeforeTheYes(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	alice, bob := b.SignIn(t, gatetest.Alice), b.SignIn(t, gatetest.Bob)
	c := b.connect(t, "reader", nobody)
	shown(t, c)
	b.untouched(t)
	b.confirm(t, c, alice)
	request := b.inbox(t, bob)
	b.untouched(t)
	_, err := b.Decide(t.Context(), bob, request.ID, session.Verdict{Yes: true})
	must(t, err)
	must(t, c.Ready(t.Context()))
	must(t, c.Ask(t.Context()))
	if b.tap.conns.Load() == 0 {
		t.Fatal("the tap sees nothing")
	}
	// A certificate is a proof, and no permission either.
	other := newBench(t, h, options{})
	c = other.connect(t, "reader", other.SignIn(t, gatetest.Alice))
	shown2(t, c)
	other.untouched(t)
}

// shown2 waits until somebody who is known is asked for the reason.
func shown2(t testing.TB, c Client) {
	t.Helper()
	eventually(t, "nobody is asked why", func() bool { return linkOf.MatchString(c.Notices()) })
}

func openedDuringTheWait(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	alice := b.SignIn(t, gatetest.Alice)
	c := b.connect(t, "reader", nobody)
	shown(t, c)
	c.Early()
	b.untouched(t)
	id, phrase := shown(t, c)
	// The hold may have ended with it; where it goes on, nothing passes before the yes.
	_, err := b.Confirm(t.Context(), id, alice, loopback, session.Confirmation{Phrase: phrase, Reason: "trial"})
	if err == nil {
		b.untouched(t)
	}
}

func waitingIsNotIdling(t *testing.T, h Harness) {
	const handshake = 300 * time.Millisecond
	b := newBench(t, h, options{handshake: handshake})
	alice, bob := b.SignIn(t, gatetest.Alice), b.SignIn(t, gatetest.Bob)
	c := b.connect(t, "reader", nobody)
	b.confirm(t, c, alice)
	request := b.inbox(t, bob)
	<-time.After(3 * handshake)
	_, err := b.Decide(t.Context(), bob, request.ID, session.Verdict{Yes: true})
	must(t, err)
	must(t, c.Ready(t.Context()))
	must(t, c.Ask(t.Context()))
}

func hangUpWithdraws(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	alice, bob := b.SignIn(t, gatetest.Alice), b.SignIn(t, gatetest.Bob)
	c := b.connect(t, "reader", nobody)
	b.confirm(t, c, alice)
	request := b.inbox(t, bob)
	begun := time.Now()
	c.HangUp()
	b.state(t, alice, request.ID, session.RequestWithdrawn)
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("withdrawn after %v", took)
	}
	if _, err := b.Decide(t.Context(), bob, request.ID, session.Verdict{Yes: true}); err == nil {
		t.Error("a yes to a client that has gone was taken")
	}
	if grants, err := b.Grants(t.Context(), alice, session.Filter{}); err != nil || len(grants) > 0 {
		t.Errorf("a yes to a client that has gone is remembered: %v, %v", grants, err)
	}
	b.untouched(t)
}

func aYesNamesItsQuestion(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	alice, eve, bob := b.SignIn(t, gatetest.Alice), b.SignIn(t, gatetest.Eve), b.SignIn(t, gatetest.Bob)
	first := b.connect(t, "reader", nobody)
	second := b.connect(t, "reader", nobody)
	b.confirm(t, first, alice)
	b.confirm(t, second, eve)
	var mine session.Request
	eventually(t, "no two requests came", func() bool {
		list, err := b.Inbox(t.Context(), bob)
		must(t, err)
		for _, r := range list {
			if r.User.ID() == gatetest.Alice.ID() {
				mine = r
			}
		}
		return len(list) == 2
	})
	_, err := b.Decide(t.Context(), bob, mine.ID, session.Verdict{Yes: true})
	must(t, err)
	must(t, first.Ready(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := second.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the other connection's wait ended: %v", err)
	}
}

func oneEnding(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	alice, bob, carol := b.SignIn(t, gatetest.Alice), b.SignIn(t, gatetest.Bob), b.SignIn(t, gatetest.Carol)
	c := b.connect(t, "reader", nobody)
	b.confirm(t, c, alice)
	request := b.inbox(t, bob)
	_, err := b.Decide(t.Context(), bob, request.ID, session.Verdict{Word: "no"})
	must(t, err)
	refused(t, c.Ready(t.Context()), "denied")
	if _, err := b.Decide(t.Context(), carol, request.ID, session.Verdict{Yes: true}); err == nil {
		t.Error("a second click was taken")
	}
	if denied, approved := b.Count(t, audit.RequestDenied), b.Count(t, audit.RequestApproved); denied != 1 || approved != 0 {
		t.Errorf("%d denials and %d approvals are in the log", denied, approved)
	}
	b.untouched(t)
}

func aGrantServesItsOwn(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	alice, eve, bob := b.SignIn(t, gatetest.Alice), b.SignIn(t, gatetest.Eve), b.SignIn(t, gatetest.Bob)
	c := b.connect(t, "reader", nobody)
	b.confirm(t, c, alice)
	_, err := b.Decide(t.Context(), bob, b.inbox(t, bob).ID, session.Verdict{Yes: true})
	must(t, err)
	must(t, c.Ready(t.Context()))
	must(t, c.Ask(t.Context()))
	again := b.connect(t, "reader", alice)
	must(t, again.Ready(t.Context())) // the same user, target and role, with a certificate
	must(t, again.Ask(t.Context()))
	before := b.tap.conns.Load()
	shown2(t, b.connect(t, "reader", eve)) // another user asks again
	if now := b.tap.conns.Load(); now != before {
		t.Errorf("another user reached the target under the grant")
	}
}

func nobodyDecidesOnTheirOwn(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	eve := b.SignIn(t, gatetest.Eve) // engineering and dba
	c := b.connect(t, "reader", nobody)
	b.confirm(t, c, eve)
	request := b.inbox(t, b.SignIn(t, gatetest.Bob))
	if list, err := b.Inbox(t.Context(), eve); err != nil || len(list) > 0 {
		t.Errorf("eve's own request is in her inbox: %v, %v", list, err)
	}
	if _, err := b.Decide(t.Context(), eve, request.ID, session.Verdict{Yes: true}); err == nil {
		t.Error("eve agreed with herself")
	}
	b.untouched(t)
}

func nobodyAnsweredIsNotNo(t *testing.T, h Harness) {
	b := newBench(t, h, options{config: func(c *session.Config) { c.SignInWait = 300 * time.Millisecond }})
	c := b.connect(t, "reader", nobody)
	shown(t, c)
	refused(t, c.Ready(t.Context()), "nobody confirmed this connection")
	if n := b.Count(t, audit.RequestDenied) + b.Count(t, audit.AskRefused); n > 0 {
		t.Errorf("%d refusals are in the log", n)
	}
	shown(t, b.connect(t, "reader", nobody))
}

func holdOfARule(t *testing.T, h Harness) {
	b := newBench(t, h, options{hold: "1s"})
	alice, bob := b.SignIn(t, gatetest.Alice), b.SignIn(t, gatetest.Bob)
	c := b.connect(t, "reader", nobody)
	b.confirm(t, c, alice)
	refused(t, c.Ready(t.Context()), "waits for 1 of: dba", "connect again after the yes")
	request := b.inbox(t, bob)
	b.untouched(t)
	_, err := b.Decide(t.Context(), bob, request.ID, session.Verdict{Yes: true})
	must(t, err)
	next := b.connect(t, "reader", nobody)
	b.confirm(t, next, alice)
	must(t, next.Ready(t.Context()))
}

func aYesIsPushed(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	alice, bob := b.SignIn(t, gatetest.Alice), b.SignIn(t, gatetest.Bob)
	c := b.connect(t, "reader", nobody)
	b.confirm(t, c, alice)
	request := b.inbox(t, bob)
	_, err := b.Decide(t.Context(), bob, request.ID, session.Verdict{Yes: true})
	must(t, err)
	begun := time.Now()
	eventually(t, "the target is not called", func() bool { return b.tap.conns.Load() > 0 })
	if took := time.Since(begun); took > 250*time.Millisecond {
		t.Errorf("the target was called %v after the yes", took)
	}
}

func theClientIsTold(t *testing.T, h Harness) {
	b := newBench(t, h, options{})
	alice := b.SignIn(t, gatetest.Alice)
	c := b.connect(t, "reader", nobody)
	b.confirm(t, c, alice)
	eventually(t, "it is not said who is waited for, and until when", func() bool {
		return waitsFor.MatchString(c.Notices())
	})
}
