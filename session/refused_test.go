package session_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// Whatever is asked of a grant, a session or a request that is over is refused, and the
// refusal says that it is over.
func TestWhatIsOverIsSaid(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob, sam := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob), f.SignIn(t, gatetest.Sam)
	s := granted(t, f, alice)
	r := run(s)
	<-r.up
	grant := s.Grant().ID
	if err := f.Release(t.Context(), f.SignIn(t, gatetest.Eve), grant); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("eve gives alice's grant back: %v", err)
	}
	if err := f.Revoke(t.Context(), sam, grant, ""); err != nil {
		t.Fatal(err)
	}
	<-r.ended
	for what, err := range map[string]error{
		"revoke":  f.Revoke(t.Context(), sam, grant, ""),
		"release": f.Release(t.Context(), alice, grant),
	} {
		if err == nil || !strings.Contains(err.Error(), "this grant is revoked already") {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err := f.GrantToken(t.Context(), alice, grant)
	wantSays(t, err, "this grant has ended; ask again")
	_, err = f.Ask(t.Context(), alice, here, session.NewRequest{Extends: grant})
	wantSays(t, err, "this grant has ended; ask again")
	wantSays(t, f.Kill(t.Context(), sam, s.ID(), ""), "this session has ended already")
	denied := asked(t, f, alice, "writer")
	if _, err := f.Decide(t.Context(), bob, denied.ID, yes); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Decide(t.Context(), f.SignIn(t, gatetest.Carol), denied.ID, session.Verdict{}); err != nil {
		t.Fatal(err)
	}
	_, err = f.Retract(t.Context(), bob, denied.ID)
	wantSays(t, err, "this request is denied already")
	wantSays(t, f.Withdraw(t.Context(), alice, denied.ID), "this request is denied already")
	api, _, err := f.APIToken(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SignOut(t.Context(), alice.ID, "by yourself"); err != nil {
		t.Fatal(err)
	}
	_, err = f.SignInByToken(t.Context(), api)
	wantSays(t, err, "that token has ended; run: sallyport login")
	if err := f.Ready(); err != nil {
		t.Errorf("a gate that serves: %v", err)
	}
	f.Close(t)
	wantSays(t, f.Ready(), "the gate is stopping")
}

// A yes to a longer grant comes too late where the grant ended meanwhile, and says so.
func TestWhatHasEndedIsNotLengthened(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	r, err := f.Decide(t.Context(), bob, asked(t, f, alice, "reader").ID, yes)
	if err != nil {
		t.Fatal(err)
	}
	more, err := f.Ask(t.Context(), alice, here, session.NewRequest{Extends: r.Grant})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Release(t.Context(), alice, r.Grant); err != nil {
		t.Fatal(err)
	}
	_, err = f.Decide(t.Context(), bob, more.ID, yes)
	wantSays(t, err, "the grant that this would lengthen has ended; ask again")
}

func TestExtensionsComeToAnEnd(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	r := asked(t, f, alice, "reader")
	r, err := f.Decide(t.Context(), bob, r.ID, yes)
	if err != nil {
		t.Fatal(err)
	}
	for range r.Decision.Extensions {
		more, err := f.Ask(t.Context(), alice, here, session.NewRequest{Extends: r.Grant})
		if err == nil {
			_, err = f.Decide(t.Context(), bob, more.ID, yes)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = f.Ask(t.Context(), alice, here, session.NewRequest{Extends: r.Grant})
	wantSays(t, err, "lets this be extended 3 times, and it has been")
}

func TestNobodyDisablesThemselves(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	sam := f.SignIn(t, gatetest.Sam)
	wantSays(t, f.Disable(t.Context(), sam, gatetest.Sam.ID(), ""), "nobody disables their own account; ask somebody else with the right")
}

// Nor do they undo that with another account of theirs.
func TestNobodyEnablesThemselves(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	one, two, tess := gatetest.Sam, gatetest.Sam, gatetest.Sam
	one.Person, two.Person, two.Subject, tess.Subject = "4711", "4711", "s.miller", "tess"
	f.SignIn(t, one)
	other := f.SignIn(t, two)
	if err := f.Disable(t.Context(), f.SignIn(t, tess), one.ID(), "left"); err != nil {
		t.Fatal(err)
	}
	wantSays(t, f.Enable(t.Context(), other, one.ID()), "nobody enables their own account")
}

func TestRefreshKeepsItsPerson(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	s := f.SignIn(t, gatetest.Alice)
	s.User = gatetest.Sam
	if err := f.Refreshed(t.Context(), s); err == nil || !strings.Contains(err.Error(), "a refresh cannot change whose sign-in it is") {
		t.Errorf("a refresh makes alice's sign-in sam's: %v", err)
	}
}

// No phrase is no try: a form that was sent too early costs nothing.
func TestNoPhraseIsNoTry(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	c := connect(t, f, ask("owner"))
	for range 3 {
		_, err := f.Confirm(t.Context(), c.link(), alice, here, session.Confirmation{Reason: "x"})
		wantSays(t, err, "pick the phrase that your terminal shows")
	}
	c.confirm(alice, "INC-42")
	c.session()
}

// What is written on the page is bounded as what a client says is, and the hold goes on.
func TestConfirmedWordsAreBounded(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	c := connect(t, f, ask("reader"))
	for _, reason := range []string{strings.Repeat("x", session.MaxReason+1), "\x1b[2Jall is well"} {
		_, err := f.Confirm(t.Context(), c.link(), alice, here, session.Confirmation{Phrase: c.phrase(), Reason: reason})
		wantSays(t, err, "the reason must be at most")
	}
	c.confirm(alice, "INC-42")
}

func TestAsksThatAreNone(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	for _, c := range []struct {
		ask  session.NewRequest
		want string
	}{
		{session.NewRequest{Role: "reader", Reason: "x"}, "no target is named"},
		{session.NewRequest{Target: "orders", Reason: "x"}, "no role is named"},
		{session.NewRequest{Target: "orders", Role: strings.Repeat("r", 200), Reason: "x"}, "name must be at most"},
		{session.NewRequest{Target: "orders", Role: "rea\x1bder", Reason: "x"}, "name must be at most"},
		{session.NewRequest{Target: "orders", Role: "reader", Reason: "x", Ticket: strings.Repeat("t", 300)}, "the ticket must be at most"},
		{session.NewRequest{Target: "orders", Role: "reader", Reason: "x", Duration: time.Millisecond}, "the duration must be at least one second"},
		{session.NewRequest{Target: "orders", Role: "reader", Reason: "x", Duration: -time.Hour}, "the duration must be at least one second"},
	} {
		_, err := f.Ask(t.Context(), alice, here, c.ask)
		wantSays(t, err, c.want)
	}
}

func TestGateNeedsItsParts(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	if _, err := session.New(session.Config{Store: f.Store, Log: f.Log, Recordings: f.Recordings}, nil); err == nil {
		t.Error("a gate without a policy")
	}
	for name, c := range map[string]session.Config{
		"store":      {Log: f.Log, Recordings: f.Recordings},
		"log":        {Store: f.Store, Recordings: f.Recordings},
		"recordings": {Store: f.Store, Log: f.Log},
	} {
		if _, err := session.New(c, f.Policy()); err == nil {
			t.Errorf("a gate without %s", name)
		}
	}
}

func TestOthersSessionsAreNotFound(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	s := granted(t, f, f.SignIn(t, gatetest.Alice))
	r := run(s)
	<-r.up
	if _, err := f.Session(t.Context(), f.SignIn(t, gatetest.Eve), s.ID()); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("eve sees alice's session: %v", err)
	}
	if _, err := f.Session(t.Context(), f.SignIn(t, gatetest.Sam), s.ID()); err != nil {
		t.Errorf("sam, who may cut and audit: %v", err)
	}
}

// A grant that the rules of now would not give ends with its session: shorter, or with
// more people to ask.
func TestStricterRuleEndsWhatIsMore(t *testing.T) {
	for want, rules := range map[string]string{
		"rule orders-read now allows 10m at the most":                strings.Replace(gatetest.Rules, "longest = \"1h\"\n  default = \"30m\"", "longest = \"10m\"\n  default = \"10m\"", 1),
		"rule orders-read now asks for more approvals than this has": strings.Replace(gatetest.Rules, "count = 1", "count = 2", 1),
	} {
		f := gatetest.New(t, gatetest.Options{})
		r := run(granted(t, f, f.SignIn(t, gatetest.Alice)))
		<-r.up
		reload(t, f, rules)
		select {
		case err := <-r.ended:
			wantSays(t, err, want)
		case <-time.After(20 * time.Second):
			t.Errorf("not ended, want %q", want)
		}
	}
}
