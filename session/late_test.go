package session_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// Signing in anew must not hide from a running grant that the groups changed.
func TestSignInAgainWithFewerGroupsCutsToo(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	s := granted(t, f, alice)
	r := run(s)
	<-r.up
	moved := gatetest.Alice
	moved.Groups = []string{"sales"}
	f.SignIn(t, moved)
	alice.User = moved
	alice.Checked = time.Now()
	if err := f.Refreshed(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-r.ended:
		wantSays(t, err, "your groups changed")
	case <-time.After(2 * time.Second):
		t.Fatal("the session goes on though the policy allows it no more")
	}
}

func TestRefreshWithAnotherEmailIsAskedAgain(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{Rules: strings.Replace(gatetest.Rules, `who     = { groups = ["engineering"] }`, `who     = { emails = ["alice@example.com"] }`, 1)})
	alice := f.SignIn(t, gatetest.Alice)
	s := granted(t, f, alice)
	r := run(s)
	<-r.up
	alice.User.Email = "someone@example.com"
	if err := f.Refreshed(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-r.ended:
		wantSays(t, err, "changed")
	case <-time.After(2 * time.Second):
		t.Fatal("the session goes on though the policy allows it no more")
	}
}

// A yes is for the requester of now.
func TestYesForSomebodyWhoLostTheGroupOpensNothing(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	c := connect(t, f, ask("reader"))
	v := c.confirm(alice, "INC-42")
	alice.User.Groups = []string{"sales"}
	if err := f.Refreshed(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	_, err := f.Decide(t.Context(), f.SignIn(t, gatetest.Bob), v.Request, session.Verdict{Yes: true})
	if err == nil {
		s := c.session()
		r := run(s)
		select {
		case <-r.up:
			t.Fatal("the target can be reached by somebody whom the policy does not allow it")
		case <-r.ended:
		}
	}
}

func TestReloadThatNarrowsTheScopeCutsWhatIsWider(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{Scopes: map[string][]string{"postgres": {"databases", "read_only"}}})
	s := granted(t, f, f.SignIn(t, gatetest.Alice))
	r := run(s)
	up := <-r.up
	reload(t, f, strings.Replace(gatetest.Rules, `reason  = "required"`, "reason  = \"required\"\n scope { read_only = true }", 1))
	select {
	case err := <-r.ended:
		wantSays(t, err, "policy")
	case <-time.After(2 * time.Second):
		t.Fatalf("the session goes on with scope %+v", up.Scope())
	}
}

func TestExtensionNarrowedToReadOnlyIsNotIgnored(t *testing.T) {
	rules := strings.Replace(gatetest.Rules, `reason  = "required"`, "reason  = \"required\"\n extensions = 2", 1)
	f := gatetest.New(t, gatetest.Options{Rules: rules, Scopes: map[string][]string{"postgres": {"databases", "read_only"}}})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	s := granted(t, f, alice)
	req, err := f.Ask(t.Context(), alice, here, session.NewRequest{Extends: s.Grant().ID})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Decide(t.Context(), bob, req.ID, session.Verdict{Yes: true, Scope: policy.Scope{ReadOnly: true}})
	gr, _ := f.Grant(t.Context(), alice, s.Grant().ID)
	if err == nil && !gr.Scope.ReadOnly {
		t.Fatalf("the approver said read-only; the grant was extended %d times with scope %+v", gr.Times, gr.Scope)
	}
}

func TestExtendedNoMoreOftenThanTheRuleLets(t *testing.T) {
	rules := strings.Replace(gatetest.Rules, `reason  = "required"`, "reason  = \"required\"\n extensions = 1", 1)
	f := gatetest.New(t, gatetest.Options{Rules: rules})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	s := granted(t, f, alice)
	var reqs []string
	for range 4 {
		req, err := f.Ask(t.Context(), alice, here, session.NewRequest{Extends: s.Grant().ID})
		if err != nil {
			t.Fatal(err)
		}
		reqs = append(reqs, req.ID)
	}
	for _, id := range reqs {
		_, _ = f.Decide(t.Context(), bob, id, session.Verdict{Yes: true})
	}
	gr, _ := f.Grant(t.Context(), alice, s.Grant().ID)
	if gr.Times != 1 {
		t.Fatalf("extended %d times, the rule says 1", gr.Times)
	}
}

func TestEndedHoldsDoNotCount(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{Config: func(c *session.Config) { c.MaxHeld = 2 }})
	alice := f.SignIn(t, gatetest.Alice)
	for i := range 3 {
		c := connect(t, f, ask("reader"))
		if err := f.NotMine(t.Context(), c.link(), alice); err != nil {
			t.Fatal(err)
		}
		_, err := c.end()
		if say, _ := session.Message(err); strings.Contains(say, "too many") {
			t.Fatalf("connection %d: %s", i, say)
		}
	}
}

func TestOneIPv6NetworkIsOneSource(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{Config: func(c *session.Config) { c.MaxHeldPerSource, c.SignInWait = 2, 5*time.Second }})
	for i := range 3 {
		a := ask("reader")
		a.Client.Address = netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1)), 5000)
		c := connect(t, f, a)
		if i == 2 {
			c.refused("too many connections")
			return
		}
		c.link()
	}
}

func TestOneUserDoesNotFillTheInbox(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, eve, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Eve), f.SignIn(t, gatetest.Bob)
	if _, err := f.Ask(t.Context(), eve, here, session.NewRequest{Target: "orders", Role: "reader", Reason: "real"}); err != nil {
		t.Fatal(err)
	}
	for i := range 510 {
		_, err := f.Ask(t.Context(), alice, here, session.NewRequest{Target: "orders", Role: "reader", Reason: fmt.Sprint("flood ", i)})
		if err != nil {
			wantSays(t, err, "open already")
			break
		}
	}
	list, _ := f.Inbox(t.Context(), bob)
	for _, r := range list {
		if r.Input.Reason == "real" {
			return
		}
	}
	t.Fatalf("the inbox has %d requests, and Eve's is not among them", len(list))
}

func TestSignInsPastTheirAgeAreNotReadForEver(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	now := time.Now()
	s := identity.SignIn{ID: identity.NewID(), User: gatetest.Alice, Via: "browser", Created: now.Add(-13 * time.Hour), Checked: now.Add(-time.Hour), Expires: now.Add(-time.Hour), Refresh: []byte("x")}
	if err := f.Gate.SignIn(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	list, err := f.Standing(t.Context())
	if err != nil || len(list) != 0 {
		t.Fatalf("%d, %v", len(list), err)
	}
}

// hooked runs something between a look at the state and the change that follows from it.
type hooked struct {
	session.Store
	before func()
}

func (h *hooked) Update(ctx context.Context, fn func(session.Tx) error) (uint64, error) {
	h.hook()
	return h.Store.Update(ctx, fn)
}

func (h *hooked) Restrict(ctx context.Context, fn func(session.Tx) error) (uint64, error) {
	h.hook()
	return h.Store.Restrict(ctx, fn)
}

func (h *hooked) hook() {
	if do := h.before; do != nil {
		h.before = nil
		do()
	}
}

func TestDisabledBetweenProofAndGrantOpensNothing(t *testing.T) {
	h := &hooked{}
	f := gatetest.New(t, gatetest.Options{Config: func(c *session.Config) { h.Store = c.Store; c.Store = h }})
	alice, sam := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Sam)
	proof := certificate(t, f, alice)
	h.before = func() {
		if err := f.Disable(t.Context(), sam, gatetest.Alice.ID(), "left"); err != nil {
			t.Error(err)
		}
	}
	s, err := f.Open(t.Context(), askWith("owner", proof, ""), nil)
	if err != nil {
		return
	}
	r := run(s)
	select {
	case <-r.up:
		t.Fatal("a disabled user reaches the target")
	case <-r.ended:
	}
}

func TestSignOutWhileSomebodySaysYesEndsTheGrant(t *testing.T) {
	h := &hooked{}
	f := gatetest.New(t, gatetest.Options{Config: func(c *session.Config) { h.Store = c.Store; c.Store = h }})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	c := connect(t, f, ask("reader"))
	v := c.confirm(alice, "INC-42")
	h.before = func() {
		if _, err := f.Decide(t.Context(), bob, v.Request, session.Verdict{Yes: true}); err != nil {
			t.Error(err)
		}
	}
	if err := f.SignOut(t.Context(), alice.ID, "signed out"); err != nil {
		t.Fatal(err)
	}
	if s, err := c.end(); err == nil {
		r := run(s)
		select {
		case <-r.up:
			t.Fatal("signed out, and the target can be reached")
		case <-r.ended:
		}
	}
	active, err := f.Grants(t.Context(), f.SignIn(t, gatetest.Alice), session.Filter{State: string(session.GrantActive)})
	if err != nil || len(active) != 0 {
		t.Fatalf("the grant goes on: %d active, %v", len(active), err)
	}
}

// A session that is revoked in the moment in which it begins says so: it neither blames a
// recorder that never was, nor a time that is still to come.
func TestRevokedAsItBegins(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, sam := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Sam)
	for i := range 60 {
		s := granted(t, f, alice)
		r := run(s)
		for live := i%2 == 0; !live; { // every other one as it starts
			list, err := f.Sessions(t.Context(), sam, session.Filter{State: "live"})
			if err != nil {
				t.Fatal(err)
			}
			live = slices.ContainsFunc(list, func(r session.Record) bool { return r.ID == s.ID() })
		}
		if err := f.Revoke(t.Context(), sam, s.Grant().ID, ""); err != nil {
			t.Fatal(err)
		}
		wantSays(t, <-r.ended, "revoked by sam@example.com")
	}
	if list, err := f.Sessions(t.Context(), sam, session.Filter{State: "live"}); err != nil || len(list) > 0 {
		t.Errorf("live when all have ended: %+v, %v", list, err)
	}
	if begun, ended := f.Count(t, audit.SessionStarted), f.Count(t, audit.SessionEnded); begun != ended {
		t.Errorf("%d sessions began and %d ended", begun, ended)
	}
}
