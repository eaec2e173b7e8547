package session_test

import (
	"context"
	"flag"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

func asked(t testing.TB, f *gatetest.Fixture, by identity.SignIn, role string) session.Request {
	t.Helper()
	r, err := f.Ask(t.Context(), by, here, session.NewRequest{Target: "orders", Role: role, Reason: "INC-42"})
	if err != nil {
		t.Fatalf("ask: %v", err)
	}
	return r
}

var yes = session.Verdict{Yes: true}

func TestNobodyDecidesOnTheirOwn(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	eve := f.SignIn(t, gatetest.Eve) // engineering and dba
	r := asked(t, f, eve, "reader")
	_, err := f.Decide(t.Context(), eve, r.ID, yes)
	wantSays(t, err, "nobody decides on their own request")
	if inbox, _ := f.Inbox(t.Context(), eve); len(inbox) != 0 {
		t.Errorf("eve's own request is in her inbox")
	}
	other := gatetest.Eve // a second account of the same person
	other.Issuer, other.Person = "https://other.test", "eve"
	first := gatetest.Eve
	first.Person = "eve"
	own := asked(t, f, f.SignIn(t, first), "reader")
	_, err = f.Decide(t.Context(), f.SignIn(t, other), own.ID, yes)
	wantSays(t, err, "nobody decides on their own request")
}

func TestTwoApprovalsAreTwoPeople(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob, carol := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob), f.SignIn(t, gatetest.Carol)
	r := asked(t, f, alice, "writer")
	now, err := f.Decide(t.Context(), bob, r.ID, yes)
	if err != nil || now.State != session.RequestPending {
		t.Fatalf("after one of two: %v, %v", now.State, err)
	}
	_, err = f.Decide(t.Context(), bob, r.ID, yes)
	wantSays(t, err, "you have said yes to this request already")
	_, err = f.Decide(t.Context(), f.SignIn(t, gatetest.Bob), r.ID, yes) // another sign-in of his
	wantSays(t, err, "you have said yes to this request already")
	account := gatetest.Bob // another group makes nobody a second person
	account.Groups = []string{"dba", "oncall"}
	_, err = f.Decide(t.Context(), f.SignIn(t, account), r.ID, yes)
	wantSays(t, err, "you have said yes to this request already")
	now, err = f.Decide(t.Context(), carol, r.ID, yes)
	if err != nil || now.State != session.RequestApproved {
		t.Fatalf("after two of two: %v, %v", now.State, err)
	}
}

func TestOnlyThoseWhoMayDecide(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	r := asked(t, f, alice, "reader")
	sam := f.SignIn(t, gatetest.Sam) // sees it, but is no dba
	_, err := f.Decide(t.Context(), sam, r.ID, yes)
	wantSays(t, err, "you are not among those who decide")
	_, err = f.Decide(t.Context(), sam, r.ID, session.Verdict{})
	wantSays(t, err, "you are not among those who decide")
	mallory := gatetest.Alice
	mallory.Subject, mallory.Email = "mallory", "mallory@example.com"
	_, err = f.Request(t.Context(), f.SignIn(t, mallory), r.ID)
	wantSays(t, err, "no such thing here")
	_, err = f.Decide(t.Context(), f.SignIn(t, mallory), r.ID, yes)
	wantSays(t, err, "no such thing here")
	agent := gatetest.Bob
	agent.Subject, agent.Kind = "agent", identity.Workload
	_, err = f.Decide(t.Context(), f.SignIn(t, agent), r.ID, yes)
	if err == nil {
		t.Fatal("a workload approved")
	}
	gone := f.SignIn(t, gatetest.Bob)
	if err := f.SignOut(t.Context(), gone.ID, "signed out"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Decide(t.Context(), gone, r.ID, yes); err == nil {
		t.Fatal("an ended sign-in approved")
	}
}

// The right is checked at the click, not when the page was opened.
func TestApproverWhoLostTheRight(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	bob := f.SignIn(t, gatetest.Bob)
	r := asked(t, f, f.SignIn(t, gatetest.Alice), "reader")
	if err := f.MayDecide(bob, r); err != nil {
		t.Fatal(err)
	}
	moved := bob
	moved.User.Groups = []string{"sales"}
	if err := f.Refreshed(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Decide(t.Context(), bob, r.ID, yes); err == nil {
		t.Fatal("somebody who is no dba any more approved")
	}
	if n := f.Count(t, audit.ApprovalGiven); n != 0 {
		t.Fatalf("%d approvals in the log", n)
	}
}

func TestNarrowNeverWiden(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	r := asked(t, f, alice, "reader")
	_, err := f.Decide(t.Context(), bob, r.ID, session.Verdict{Yes: true, Duration: time.Hour})
	wantSays(t, err, "may shorten, never lengthen")
	_, err = f.Decide(t.Context(), bob, r.ID, session.Verdict{Yes: true, Scope: policy.Scope{ReadOnly: true}})
	wantSays(t, err, "the gate cannot enforce for postgres targets yet")
	now, err := f.Decide(t.Context(), bob, r.ID, session.Verdict{Yes: true, Duration: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	gr, err := f.Grant(t.Context(), alice, now.Grant)
	if err != nil || gr.Ends.Sub(gr.Starts) != 10*time.Minute {
		t.Fatalf("narrowed to %s, %v", gr.Ends.Sub(gr.Starts), err)
	}
}

// The clock starts at the approval, not at the asking.
func TestClockStartsAtTheApproval(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	r := asked(t, f, alice, "reader")
	before := time.Now()
	now, err := f.Decide(t.Context(), f.SignIn(t, gatetest.Bob), r.ID, yes)
	if err != nil {
		t.Fatal(err)
	}
	gr, err := f.Grant(t.Context(), alice, now.Grant)
	if err != nil || gr.Starts.Before(before.Truncate(0)) || gr.Ends.Sub(gr.Starts) != 30*time.Minute {
		t.Fatalf("from %s to %s, approved after %s (%v)", gr.Starts, gr.Ends, before, err)
	}
}

var races = flag.Int("races", 200, "requests that are answered by several at once")

// However many decide at once, a request has one outcome, and the log tells it once.
func TestOneOutcome(t *testing.T) {
	rounds := *races
	f := gatetest.New(t, gatetest.Options{})
	alice, bob, carol := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob), f.SignIn(t, gatetest.Carol)
	outcomes := map[session.RequestState]int{}
	for range rounds {
		r := asked(t, f, alice, "reader")
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		try := func(do func() error) {
			wg.Go(func() {
				if do() == nil {
					mu.Lock()
					won++
					mu.Unlock()
				}
			})
		}
		try(func() error { _, err := f.Decide(context.Background(), bob, r.ID, yes); return err })
		try(func() error { _, err := f.Decide(context.Background(), bob, r.ID, yes); return err })
		try(func() error { _, err := f.Decide(context.Background(), carol, r.ID, session.Verdict{}); return err })
		try(func() error { return f.Withdraw(context.Background(), alice, r.ID) })
		wg.Wait()
		if won != 1 {
			t.Fatalf("%d of four who decided at once were told that they did", won)
		}
		now, err := f.Request(t.Context(), alice, r.ID)
		if err != nil || now.State == session.RequestPending {
			t.Fatalf("%v, %v", now.State, err)
		}
		outcomes[now.State]++
		if now.State == session.RequestApproved { // or the next round is served by this grant
			if err := f.Release(t.Context(), alice, now.Grant); err != nil {
				t.Fatal(err)
			}
		}
	}
	told := 0
	for _, kind := range []string{audit.RequestApproved, audit.RequestDenied, audit.RequestWithdrawn} {
		told += f.Count(t, kind)
	}
	if told != rounds || f.Count(t, audit.GrantActive) != outcomes[session.RequestApproved] {
		t.Fatalf("%d outcomes in the log of %d rounds (%v)", told, rounds, outcomes)
	}
}

func TestYesNamesItsQuestion(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	first := asked(t, f, alice, "reader")
	if err := f.Withdraw(t.Context(), alice, first.ID); err != nil {
		t.Fatal(err)
	}
	second := asked(t, f, alice, "reader")
	_, err := f.Decide(t.Context(), bob, first.ID, yes)
	wantSays(t, err, "this request is withdrawn already")
	now, err := f.Request(t.Context(), alice, second.ID)
	if err != nil || now.State != session.RequestPending {
		t.Fatalf("a click on the earlier question decided the later: %v, %v", now.State, err)
	}
}

func TestAutomaticIsRecordedAsTheRules(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	r := asked(t, f, f.SignIn(t, gatetest.Alice), "owner")
	if r.State != session.RequestApproved || len(r.Approvals) != 1 || r.Approvals[0].Rule != "orders-own" || !r.Approvals[0].By.IsZero() {
		t.Fatalf("%+v", r)
	}
	if n := f.Count(t, audit.ApprovalGiven); n != 1 {
		t.Fatalf("%d approvals in the log", n)
	}
}

func TestDecidedUnderThePolicyOfNow(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	r := asked(t, f, alice, "reader")
	reload(t, f, gatetest.Rules+`
forbid "frozen" {
  target = { name = "orders" }
  who    = { groups = ["engineering"] }
}
`)
	wantSays(t, f.MayDecide(bob, r), "the policy no longer allows this request") // as a page that was open shows it
	_, err := f.Decide(t.Context(), bob, r.ID, yes)
	wantSays(t, err, "this request is denied already: the policy changed: rule frozen forbids it")
}

func reload(t testing.TB, f *gatetest.Fixture, rules string) *policy.Policy {
	t.Helper()
	p := f.Sign(t, rules)
	if err := f.Reload(t.Context(), p, audit.Event{Type: audit.PolicyLoaded, Actor: "gate"}); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRequestsAreSeenByRight(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	asked(t, f, alice, "reader")
	stranger := gatetest.Alice
	stranger.Subject, stranger.Email, stranger.Groups = "zoe", "zoe@example.com", []string{"sales"}
	for _, trial := range []struct {
		user identity.User
		want int
	}{{gatetest.Alice, 1}, {gatetest.Bob, 1}, {gatetest.Sam, 1}, {stranger, 0}} {
		got, err := f.Requests(t.Context(), f.SignIn(t, trial.user), session.Filter{})
		if err != nil || len(got) != trial.want {
			t.Errorf("%s sees %d requests (%v), want %d", trial.user, len(got), err, trial.want)
		}
	}
	if inbox, _ := f.Inbox(t.Context(), f.SignIn(t, gatetest.Sam)); len(inbox) != 0 {
		t.Error("sam's inbox holds what he may not decide")
	}
}

func TestUsersNeedTheRight(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, sam := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Sam)
	for name, err := range map[string]error{
		"list":    func() error { _, err := f.Users(t.Context(), alice); return err }(),
		"disable": f.Disable(t.Context(), alice, gatetest.Bob.ID(), ""),
		"enable":  f.Enable(t.Context(), alice, gatetest.Bob.ID()),
	} {
		if err == nil {
			t.Errorf("alice may %s users", name)
			continue
		}
		wantSays(t, err, `the policy does not give you the right "users"`)
	}
	if err := f.Disable(t.Context(), sam, gatetest.Alice.ID(), "left"); err != nil {
		t.Fatal(err)
	}
	err := f.Gate.SignIn(t.Context(), identity.SignIn{ID: "again", User: gatetest.Alice, Created: time.Now(), Expires: time.Now().Add(time.Hour)})
	wantSays(t, err, "your account is disabled")
	if err := f.Enable(t.Context(), sam, gatetest.Alice.ID()); err != nil {
		t.Fatal(err)
	}
	f.SignIn(t, gatetest.Alice)
}

func TestWithdrawIsTheRequestersOwn(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	r := asked(t, f, f.SignIn(t, gatetest.Alice), "reader")
	wantSays(t, f.Withdraw(t.Context(), f.SignIn(t, gatetest.Bob), r.ID), "no such thing here")
}

// Somebody with little to see gets it, however much there is of others'.
func TestListsReadOnPastWhatIsHidden(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	zoe := gatetest.Alice
	zoe.Subject, zoe.Email = "zoe", "zoe@example.com"
	mine := asked(t, f, f.SignIn(t, zoe), "reader")
	for range 520 {
		if err := f.Withdraw(t.Context(), alice, asked(t, f, alice, "reader").ID); err != nil {
			t.Fatal(err)
		}
	}
	got, err := f.Requests(t.Context(), f.SignIn(t, zoe), session.Filter{Limit: 10})
	if err != nil || len(got) != 1 || got[0].ID != mine.ID {
		t.Fatalf("%d requests, %v", len(got), err)
	}
}

// told keeps what the gate has people told of.
type told struct {
	mu   sync.Mutex
	list []string
}

func (n *told) Notify(_ context.Context, notice session.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, u := range notice.To {
		n.list = append(n.list, notice.Kind+" "+u.Short())
	}
}

func TestWhoCanDecideIsCalled(t *testing.T) {
	var n told
	f := gatetest.New(t, gatetest.Options{Config: func(c *session.Config) { c.Notifier = &n }})
	alice, bob, carol := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob), f.SignIn(t, gatetest.Carol)
	f.SignIn(t, gatetest.Sam)
	r := asked(t, f, alice, "writer")
	if _, err := f.Decide(t.Context(), bob, r.ID, yes); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Decide(t.Context(), carol, r.ID, session.Verdict{Word: "not tonight"}); err != nil {
		t.Fatal(err)
	}
	want := []string{"request.waiting bob", "request.waiting carol", "request.waiting carol", "request.denied alice"}
	if !slices.Equal(n.list, want) {
		t.Fatalf("told %q, want %q", n.list, want)
	}
}
