package session_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

const glassRules = gatetest.Rules + `
break_glass "sev1" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  default = "30m"
  reason  = "required"
  review  = { groups = ["security"], within = "2h" }
}
`

// all is what people were told, in a sentence.
func (n *told) all() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.list, ", ")
}

func glass(t testing.TB, dir string) (*gatetest.Fixture, *told) {
	t.Helper()
	n := &told{}
	return gatetest.New(t, gatetest.Options{Dir: dir, Rules: glassRules, Config: func(c *session.Config) { c.Notifier = n }}), n
}

var emergency = session.NewRequest{Target: "orders", Role: "writer", Reason: "INC-9 orders are lost", BreakGlass: true}

// breaks breaks the glass, which asks nobody.
func breaks(t testing.TB, f *gatetest.Fixture, by identity.SignIn) session.Request {
	t.Helper()
	r, err := f.Ask(t.Context(), by, here, emergency)
	if err != nil || r.State != session.RequestApproved {
		t.Fatalf("%s, %v", r.State, err)
	}
	return r
}

func TestGlassIsBrokenAtOnceAndReviewedAfterwards(t *testing.T) {
	f, notices := glass(t, t.TempDir())
	alice, bob, sam := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob), f.SignIn(t, gatetest.Sam)
	plain := emergency
	plain.BreakGlass = false
	if r, err := f.Ask(t.Context(), alice, here, plain); err != nil || r.State != session.RequestPending {
		t.Fatalf("the glass was broken unasked: %s, %v", r.State, err)
	}
	silent := emergency
	silent.Reason = ""
	_, err := f.Ask(t.Context(), alice, here, silent)
	wantSays(t, err, "say why you need this")
	_, err = f.Ask(t.Context(), bob, here, emergency)
	wantSays(t, err, "no break-glass rule lets you use orders as writer")

	r := breaks(t, f, alice)
	s, err := f.Open(t.Context(), askWith("writer", certificate(t, f, alice), ""), nil)
	if err != nil || s.Grant().ID != r.Grant || !s.Grant().Decision.BreakGlass {
		t.Fatalf("the connection after it: %v", err)
	}
	if n := f.Count(t, audit.GlassBroken); n != 1 {
		t.Fatalf("%d entries of it", n)
	}
	if got := notices.all(); !strings.HasSuffix(got, "glass.broken sam") || strings.Count(got, "glass") != 1 {
		t.Errorf("told %q", got)
	}

	// Whoever did it, and whoever is not named, does not review it; nobody does before its end.
	wantSays(t, f.DoReview(t.Context(), alice, r.Grant, "all was well"), "nobody reviews what they did themselves")
	wantSays(t, f.DoReview(t.Context(), bob, r.Grant, "all was well"), "this waits for 1 of security, and you are not among them")
	wantSays(t, f.DoReview(t.Context(), sam, r.Grant, "all was well"), "this grant is still active, until ")
	seen, hidden, err := f.Reviews(t.Context(), bob, session.Filter{})
	if err != nil || len(seen) != 0 || hidden != 1 {
		t.Errorf("bob sees %+v and %d hidden, %v", seen, hidden, err)
	}
	if err := f.Revoke(t.Context(), sam, r.Grant, "it is over"); err != nil {
		t.Fatal(err)
	}
	wantSays(t, f.DoReview(t.Context(), sam, r.Grant, " "), "say what you found")
	wantSays(t, f.DoReview(t.Context(), sam, r.Grant, "x\x1b[2J"), "printable characters")
	if err := f.DoReview(t.Context(), sam, r.Grant, "two rows were put back; fine"); err != nil {
		t.Fatal(err)
	}
	wantSays(t, f.DoReview(t.Context(), sam, r.Grant, "again"), "this review is done already, by sam@example.com")
	seen, _, err = f.Reviews(t.Context(), alice, session.Filter{})
	if err != nil || len(seen) != 1 || seen[0].State != session.ReviewDone || seen[0].Word != "two rows were put back; fine" {
		t.Errorf("alice sees %+v, %v", seen, err)
	}
	if n := f.Count(t, audit.ReviewDone); n != 1 {
		t.Errorf("%d reviews in the log", n)
	}
	if got := notices.all(); !strings.HasSuffix(got, "review.done alice") {
		t.Errorf("told %q", got)
	}
	f.Verify(t)
}

func TestGlassIsBrokenOnTheHeldConnectionsPage(t *testing.T) {
	f, _ := glass(t, t.TempDir())
	alice := f.SignIn(t, gatetest.Alice)
	c := connect(t, f, ask("writer"))
	v, err := f.Held(t.Context(), c.link(), alice, here)
	if err != nil || !v.Glass.BreakGlass || v.Decision.BreakGlass {
		t.Fatalf("the page does not offer it: %+v, %v", v.Glass, err)
	}
	if _, err := f.Confirm(t.Context(), v.ID, alice, here, session.Confirmation{Phrase: c.phrase(), Reason: "INC-9", BreakGlass: true}); err != nil {
		t.Fatal(err)
	}
	if s := c.session(); !s.Grant().Decision.BreakGlass || f.Count(t, audit.GlassBroken) != 1 {
		t.Errorf("let in by %+v", s.Grant().Decision)
	}
	// From another address nothing is given without people.
	far := connect(t, f, ask("writer"))
	_, err = f.Confirm(t.Context(), far.link(), f.SignIn(t, gatetest.Eve), there, session.Confirmation{Phrase: far.phrase(), Reason: "INC-9", BreakGlass: true})
	if err != nil {
		t.Fatal(err)
	}
	far.refused("you signed in from another address than your connection comes from")
}

func TestOverdueReviewKeepsTheGlassWhole(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, notices := glass(t, dir)
		alice, sam := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Sam)
		r := breaks(t, f, alice)
		<-time.After(20 * time.Minute)
		// It may be lengthened like any grant, and the review's end moves with it.
		more, err := f.Ask(t.Context(), alice, here, session.NewRequest{Extends: r.Grant})
		if err != nil || more.State != session.RequestApproved || more.Grant != r.Grant {
			t.Fatalf("%+v, %v", more, err)
		}
		<-time.After(2*time.Hour + 20*time.Minute) // past the first end and its two hours, not past the second's
		if n := f.Count(t, audit.ReviewOverdue); n != 0 {
			t.Fatal("overdue before its time")
		}
		again := breaks(t, f, alice)
		<-time.After(20 * time.Minute)
		if n := f.Count(t, audit.ReviewOverdue); n != 1 {
			t.Fatalf("%d entries of what is overdue", n)
		}
		if got := notices.all(); !strings.HasSuffix(got, "review.overdue sam") {
			t.Errorf("told %q", got)
		}
		const closed = "nobody breaks the glass of orders now: the review of alice@example.com's on "
		_, err = f.Ask(t.Context(), f.SignIn(t, gatetest.Eve), here, emergency)
		wantSays(t, err, closed)
		_, err = f.Ask(t.Context(), alice, here, session.NewRequest{Extends: again.Grant})
		wantSays(t, err, closed)
		f.Close(t)

		f, _ = glass(t, dir) // a restart opens no door
		_, err = f.Ask(t.Context(), f.SignIn(t, gatetest.Eve), here, emergency)
		wantSays(t, err, closed)
		<-time.After(time.Hour)
		if n := f.Count(t, audit.ReviewOverdue); n != 1 {
			t.Errorf("%d entries of what is overdue after a restart", n)
		}
		if err := f.DoReview(t.Context(), sam, r.Grant, "late, and fine"); err != nil {
			t.Fatal(err)
		}
		breaks(t, f, f.SignIn(t, gatetest.Eve))
		f.Close(t)
		f.Verify(t)
	})
}

// A pipeline has no emergencies, whatever the rule says of who it is for.
func TestPipelineBreaksNoGlass(t *testing.T) {
	ci := gatetest.NewCI(t)
	f := gatetest.New(t, gatetest.Options{CI: ci, Rules: strings.Replace(glassRules, `who     = { groups = ["engineering"] }
  longest = "1h"
  default = "30m"
  reason  = "required"
  review`, `who     = { claims = { repository = "shop/app" } }
  longest = "1h"
  review`, 1)})
	a := shows("writer", ci.Token(t, nil))
	a.BreakGlass = true
	_, err := f.Open(t.Context(), a, nil)
	wantSays(t, err, "only a person breaks the glass")
}

// Whoever has a narrower grant already gets what the break-glass rule gives.
func TestGlassIsBrokenThoughALesserGrantRuns(t *testing.T) {
	f, _ := glass(t, t.TempDir())
	alice := f.SignIn(t, gatetest.Alice)
	plain := emergency
	plain.BreakGlass = false
	r, err := f.Ask(t.Context(), alice, here, plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []identity.User{gatetest.Bob, gatetest.Carol} {
		if _, err := f.Decide(t.Context(), f.SignIn(t, by), r.ID, session.Verdict{Yes: true, Duration: time.Minute}); err != nil {
			t.Fatal(err)
		}
	}
	if broken := breaks(t, f, alice); broken.ID == r.ID {
		t.Error("served by the lesser grant")
	}
	s, err := f.Open(t.Context(), askWith("writer", certificate(t, f, alice), ""), nil)
	if err != nil || !s.Grant().Decision.BreakGlass {
		t.Errorf("the connection goes by %+v, %v", s.Grant().Decision, err)
	}
}
