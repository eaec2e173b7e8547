package session_test

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// Class: an approver whose right was withdrawn between view and click.
func TestYesOfSomebodyWhoMayNoLongerDoesNotCount(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *gatetest.Fixture, identity.SignIn){
		"disabled": func(t *testing.T, f *gatetest.Fixture, bob identity.SignIn) {
			if err := f.Disable(t.Context(), f.SignIn(t, gatetest.Sam), bob.User.ID(), "left"); err != nil {
				t.Fatal(err)
			}
		},
		"left the group": func(t *testing.T, f *gatetest.Fixture, bob identity.SignIn) {
			bob.User.Groups = []string{"marketing"}
			if err := f.Refreshed(t.Context(), bob); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := gatetest.New(t, gatetest.Options{})
			alice, bob, carol := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob), f.SignIn(t, gatetest.Carol)
			r := asked(t, f, alice, "writer")
			if _, err := f.Decide(t.Context(), bob, r.ID, yes); err != nil {
				t.Fatal(err)
			}
			lose(t, f, bob)
			r, err := f.Decide(t.Context(), carol, r.ID, yes)
			if err != nil || r.State != session.RequestPending {
				t.Fatalf("one yes of two is enough: %s, %v", r.State, err)
			}
			if r, err = f.Decide(t.Context(), f.SignIn(t, gatetest.Eve), r.ID, yes); err != nil || r.State != session.RequestApproved {
				t.Fatalf("%s, %v", r.State, err)
			}
			gr, err := f.Grant(t.Context(), alice, r.Grant)
			if err != nil || len(gr.By) != 2 || gr.By[0] != "carol@example.com" || gr.By[1] != "eve@example.com" {
				t.Errorf("approved by %v, %v", gr.By, err)
			}
		})
	}
}

func TestYesIsTakenBackBeforeItTakesEffect(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob, carol := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob), f.SignIn(t, gatetest.Carol)
	r := asked(t, f, alice, "writer")
	_, err := f.Retract(t.Context(), bob, r.ID)
	wantSays(t, err, "you have not said yes to this request")
	if _, err := f.Decide(t.Context(), bob, r.ID, yes); err != nil {
		t.Fatal(err)
	}
	_, err = f.Retract(t.Context(), carol, r.ID)
	wantSays(t, err, "you have not said yes to this request")
	if _, err := f.Retract(t.Context(), bob, r.ID); err != nil {
		t.Fatal(err)
	}
	if r, err = f.Decide(t.Context(), carol, r.ID, yes); err != nil || r.State != session.RequestPending {
		t.Fatalf("a yes that was taken back counts: %s, %v", r.State, err)
	}
	if r, err = f.Decide(t.Context(), bob, r.ID, yes); err != nil || r.State != session.RequestApproved {
		t.Fatalf("bob cannot say yes again: %s, %v", r.State, err)
	}
	_, err = f.Retract(t.Context(), bob, r.ID)
	wantSays(t, err, "your yes has taken effect already; revoke the grant")
	if n := f.Count(t, audit.ApprovalTaken); n != 1 {
		t.Errorf("%d entries of it", n)
	}
	f.Verify(t)
}

func TestWhoLengthenedAGrantMayRevokeIt(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, carol := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Carol)
	s := granted(t, f, alice) // by bob
	r := run(s)
	<-r.up
	_, err := f.Grant(t.Context(), carol, s.Grant().ID)
	if err == nil || f.MayRevoke(carol, s.Grant()) {
		t.Fatal("carol has no part in it yet")
	}
	more, err := f.Ask(t.Context(), alice, here, session.NewRequest{Extends: s.Grant().ID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Decide(t.Context(), carol, more.ID, yes); err != nil {
		t.Fatal(err)
	}
	gr, err := f.Grant(t.Context(), carol, s.Grant().ID)
	if err != nil || !f.MayRevoke(carol, gr) {
		t.Fatalf("carol lengthened it and may not revoke it: %v", err)
	}
	if err := f.Revoke(t.Context(), carol, gr.ID, "enough"); err != nil {
		t.Fatal(err)
	}
	wantSays(t, <-r.ended, "your access was revoked by carol@example.com: enough")
}

// What waits when the policy changes is decided by the new one at once, where nobody is
// left to ask.
func TestReloadSettlesWhatWaits(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	held := connect(t, f, ask("writer"))
	v := held.confirm(alice, "INC-42")
	if _, err := f.Decide(t.Context(), bob, v.Request, yes); err != nil {
		t.Fatal(err)
	}
	reader := asked(t, f, alice, "reader")

	// One yes is enough now, and reading asks nobody.
	rules := strings.Replace(gatetest.Rules, "count = 2", "count = 1", 1)
	rules = strings.Replace(rules, `  approve {
    count = 1
    from  = { groups = ["dba"] }
  }
`, "", 1)
	reload(t, f, rules)
	if s := held.session(); len(s.Grant().By) != 1 || s.Grant().By[0] != "bob@example.com" {
		t.Errorf("granted by %v", s.Grant().By)
	}
	r, err := f.Request(t.Context(), alice, reader.ID)
	if err != nil || r.State != session.RequestApproved || r.Approvals[0].Rule != "orders-read" {
		t.Errorf("%s, %+v, %v", r.State, r.Approvals, err)
	}

	// And what is no longer allowed is over.
	reload(t, f, gatetest.Rules)
	eve := connect(t, f, ask("writer"))
	by := f.SignIn(t, gatetest.Eve)
	v = eve.confirm(by, "INC-43")
	reload(t, f, strings.Replace(gatetest.Rules, `rule "orders-write" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { groups = ["engineering"] }`, `rule "orders-write" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { groups = ["oncall"] }`, 1))
	if r, err := f.Request(t.Context(), by, v.Request); err != nil || r.State != session.RequestDenied {
		t.Fatalf("a request that nobody may answer is %s, %v", r.State, err)
	}
	eve.refused("the policy changed: no rule lets you use orders as writer")
	f.Verify(t)
}
