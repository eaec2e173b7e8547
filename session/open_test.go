package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

func TestHeldApprovedAndClosed(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	c := connect(t, f, ask("reader"))
	if link := c.wait("sign in and say why at"); !strings.Contains(link, "https://gate.test/h/") {
		t.Fatalf("link: %q", link)
	}
	if n := f.Count(t, audit.RequestCreated); n != 0 {
		t.Fatalf("%d requests before anybody confirmed", n)
	}
	v := c.confirm(alice, "INC-42 stuck order")
	if v.Request == "" || v.State != "confirmed" {
		t.Fatalf("after the confirmation: %+v", v)
	}
	if line := c.wait("waiting for"); !strings.Contains(line, "signed in as alice@example.com; waiting for 1 of: dba (bob)") {
		t.Fatalf("told %q", line)
	}
	inbox, err := f.Inbox(t.Context(), bob)
	if err != nil || len(inbox) != 1 || inbox[0].ID != v.Request || !inbox[0].Waiting || inbox[0].Input.Reason != "INC-42 stuck order" {
		t.Fatalf("bob's inbox: %+v, %v", inbox, err)
	}
	r, err := f.Decide(t.Context(), bob, v.Request, session.Verdict{Yes: true})
	if err != nil || r.State != session.RequestApproved {
		t.Fatalf("decide: %+v, %v", r, err)
	}
	if n := f.Count(t, audit.GrantActive); n != 1 {
		t.Fatalf("%d grants in the log when the approver is told so", n)
	}
	s := c.session()
	if line := c.wait("approved by"); !strings.HasPrefix(line, "approved by bob@example.com until ") || !strings.HasSuffix(line, " (30m). Recorded.") {
		t.Fatalf("told %q", line)
	}
	err = s.Run(t.Context(), func(_ context.Context, up *session.Upstream) error {
		if n := f.Count(t, audit.SessionStarted); n != 1 {
			t.Errorf("%d starts in the log when the target can be reached", n)
		}
		return up.Recorder().Write(audit.Query{N: 1, Kind: "simple", SQL: "select 1"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := f.Count(t, audit.SessionEnded); n != 1 {
		t.Fatalf("%d ends in the log", n)
	}
	f.Close(t)
	f.Verify(t)
}

func TestDeniedWithAWord(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	c := connect(t, f, ask("reader"))
	v := c.confirm(f.SignIn(t, gatetest.Alice), "curious")
	if _, err := f.Decide(t.Context(), f.SignIn(t, gatetest.Bob), v.Request, session.Verdict{Word: "ask for the replica"}); err != nil {
		t.Fatal(err)
	}
	c.refused("denied by bob@example.com: ask for the replica")
	if n := f.Count(t, audit.RequestDenied); n != 1 {
		t.Fatalf("%d denials in the log", n)
	}
}

func TestHangUpWithdrawsAndALaterYesOpensNothing(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
	c := connect(t, f, ask("reader"))
	v := c.confirm(alice, "INC-42")
	c.hangUp()
	if _, err := c.end(); err == nil {
		t.Fatal("a client that hung up was let through")
	}
	if n := f.Count(t, audit.RequestWithdrawn); n != 1 {
		t.Fatalf("%d withdrawals in the log", n)
	}
	_, err := f.Decide(t.Context(), bob, v.Request, session.Verdict{Yes: true})
	wantSays(t, err, "this request is withdrawn already")
	if n := f.Count(t, audit.GrantActive); n != 0 {
		t.Fatalf("%d grants after a late yes", n)
	}
	second := connect(t, f, ask("reader"))
	second.confirm(alice, "INC-42")
	second.wait("waiting for") // asks again
}

func TestKeptRequestOutlivesItsConnection(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	c := connect(t, f, ask("reader"))
	v, err := f.Confirm(t.Context(), c.link(), alice, here, session.Confirmation{Phrase: c.phrase(), Reason: "INC-42", Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	c.hangUp()
	_, _ = c.end()
	if _, err := f.Decide(t.Context(), f.SignIn(t, gatetest.Bob), v.Request, session.Verdict{Yes: true}); err != nil {
		t.Fatal(err)
	}
	next := connect(t, f, ask("reader"))
	next.confirm(alice, "")
	next.session()
}

// The link can be sent to somebody else (RFC 8628, section 5.4).
func TestPhishedLink(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, sam := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Sam)
	t.Run("belongs to the first who opens it", func(t *testing.T) {
		c := connect(t, f, ask("reader"))
		if _, err := f.Held(t.Context(), c.link(), sam, here); err != nil {
			t.Fatal(err)
		}
		_, err := f.Held(t.Context(), c.link(), alice, here)
		if !errors.Is(err, session.ErrNotFound) {
			t.Fatalf("the second sign-in saw it: %v", err)
		}
		_, err = f.Confirm(t.Context(), c.link(), alice, here, session.Confirmation{Phrase: c.phrase(), Reason: "x"})
		if !errors.Is(err, session.ErrNotFound) {
			t.Fatalf("the second sign-in confirmed it: %v", err)
		}
	})
	t.Run("wrong phrase twice ends it", func(t *testing.T) {
		c := connect(t, f, ask("reader"))
		wrong := session.Confirmation{Phrase: "no such phrase", Reason: "x"}
		_, err := f.Confirm(t.Context(), c.link(), alice, here, wrong)
		wantSays(t, err, "one more try")
		_, err = f.Confirm(t.Context(), c.link(), alice, here, wrong)
		wantSays(t, err, "picked wrong twice")
		c.refused("picked wrong twice")
		_, err = f.Confirm(t.Context(), c.link(), alice, here, session.Confirmation{Phrase: c.phrase(), Reason: "x"})
		wantSays(t, err, "confirmed or ended already")
	})
	t.Run("not mine", func(t *testing.T) {
		c := connect(t, f, ask("reader"))
		if err := f.NotMine(t.Context(), c.link(), alice); err != nil {
			t.Fatal(err)
		}
		c.refused("this connection is not theirs")
	})
	t.Run("another address uses no grant and no automatic rule", func(t *testing.T) {
		c := connect(t, f, ask("owner"))
		v, err := f.Held(t.Context(), c.link(), alice, there)
		if err != nil || v.Same {
			t.Fatalf("%+v, %v", v, err)
		}
		_, _ = f.Confirm(t.Context(), c.link(), alice, there, session.Confirmation{Phrase: c.phrase(), Reason: "x"})
		if s, err := c.end(); err == nil {
			t.Fatalf("an automatic rule let session %s through from another address", s.ID())
		}
		granted(t, f, alice) // a person said yes to the role reader
		approved := connect(t, f, ask("reader"))
		if _, err := f.Confirm(t.Context(), approved.link(), alice, there, session.Confirmation{Phrase: approved.phrase(), Reason: "x"}); err != nil {
			t.Fatal(err)
		}
		approved.wait("waiting for 1 of: dba") // asks again: the grant was for the other address
		same := connect(t, f, ask("owner"))
		same.confirm(alice, "x")
		same.session()
		again := connect(t, f, ask("owner"))
		_, _ = f.Confirm(t.Context(), again.link(), alice, there, session.Confirmation{Phrase: again.phrase(), Reason: "x"})
		if s, err := again.end(); err == nil {
			t.Fatalf("a running grant let session %s through from another address", s.ID())
		}
	})
}

func TestOneConfirmationAConnection(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	granted(t, f, alice)
	c := connect(t, f, ask("reader"))
	v, err := f.Held(t.Context(), c.link(), alice, here)
	if err != nil || v.Existing == nil {
		t.Fatalf("the page does not say that a grant runs: %+v, %v", v, err)
	}
	c.confirm(alice, "")
	c.session()
	if n := f.Count(t, audit.RequestCreated); n != 1 {
		t.Fatalf("%d requests for two connections under one grant", n)
	}
	c = connect(t, f, ask("writer"))
	c.confirm(alice, "INC-42")
	for _, phrase := range []string{c.phrase(), "another"} {
		_, err = f.Confirm(t.Context(), c.link(), alice, here, session.Confirmation{Phrase: phrase, Reason: "INC-43"})
		wantSays(t, err, "this connection was confirmed or ended already")
	}
}

func TestPoolOfTenNeedsOneYes(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	proof := certificate(t, f, alice)
	var pool []*client
	for range 10 {
		pool = append(pool, connect(t, f, askWith("reader", proof, "INC-42")))
	}
	for _, c := range pool {
		c.wait("waiting for")
	}
	bob := f.SignIn(t, gatetest.Bob)
	inbox, err := f.Inbox(t.Context(), bob)
	if err != nil || len(inbox) != 1 {
		t.Fatalf("%d requests for a pool of ten, %v", len(inbox), err)
	}
	pool[0].hangUp() // one of ten leaves: the request stays
	_, _ = pool[0].end()
	if _, err := f.Decide(t.Context(), bob, inbox[0].ID, session.Verdict{Yes: true}); err != nil {
		t.Fatal(err)
	}
	for _, c := range pool[1:] {
		c.session()
	}
	if n := f.Count(t, audit.GrantActive); n != 1 {
		t.Fatalf("%d grants for a pool of ten", n)
	}
}

func TestGrantServesExactlyItsOwn(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, eve := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Eve)
	granted(t, f, alice)
	for _, trial := range []struct {
		name string
		ask  session.Ask
	}{
		{"another user", askWith("reader", certificate(t, f, eve), "INC-1")},
		{"another role", askWith("writer", certificate(t, f, alice), "INC-1")},
	} {
		t.Run(trial.name, func(t *testing.T) {
			c := connect(t, f, trial.ask)
			c.wait("waiting for")
		})
	}
	t.Run("the same, by certificate", func(t *testing.T) {
		connect(t, f, askWith("reader", certificate(t, f, alice), "")).session()
	})
}

func TestNoWaitAnswersAndTheNextConnectionGoesThrough(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	a := askWith("reader", certificate(t, f, alice), "deploy 7")
	a.NoWait = true
	_, err := f.Open(t.Context(), a, func(string) error { t.Error("a program was told to wait"); return nil })
	var held *session.Held
	if !errors.As(err, &held) || held.Request == "" || !strings.Contains(held.Error(), held.Request) {
		t.Fatalf("got %v", err)
	}
	if _, err := f.Decide(t.Context(), f.SignIn(t, gatetest.Bob), held.Request, session.Verdict{Yes: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(t.Context(), a, nil); err != nil {
		t.Fatalf("after the yes: %v", err)
	}
}

func TestTokens(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	gr := granted(t, f, alice).Grant()
	token, _, err := f.GrantToken(t.Context(), alice, gr.ID)
	if err != nil {
		t.Fatal(err)
	}
	api, _, err := f.APIToken(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	open := func(role string, token identity.Token) error {
		_, err := f.Open(t.Context(), askWith(role, identity.Proof{Kind: identity.ByToken, Token: token}, ""), nil)
		return err
	}
	if err := open("reader", token); err != nil {
		t.Fatalf("a grant token does not open its grant: %v", err)
	}
	for _, trial := range []struct {
		name string
		err  error
	}{
		{"a grant token for another role", open("writer", token)},
		{"an API token", open("reader", api)},
		{"no token", open("reader", "")},
		{"a made-up token", open("reader", "spg_"+identity.Token(strings.Repeat("a", 43)))},
	} {
		if !errors.Is(trial.err, session.ErrBadToken) {
			t.Errorf("%s gave %v, want ErrBadToken", trial.name, trial.err)
		}
	}
	_, err = f.SignInByToken(t.Context(), token)
	wantSays(t, err, "a grant token only opens connections")
	if s, err := f.SignInByToken(t.Context(), api); err != nil || s.ID != alice.ID {
		t.Errorf("an API token: %v, %v", s.ID, err)
	}
	_, _, err = f.GrantToken(t.Context(), f.SignIn(t, gatetest.Bob), gr.ID)
	if !errors.Is(err, session.ErrNotFound) {
		t.Errorf("bob got a token for alice's grant: %v", err)
	}
	if err := f.Release(t.Context(), alice, gr.ID); err != nil {
		t.Fatal(err)
	}
	if err := open("reader", token); !errors.Is(err, session.ErrBadToken) {
		t.Errorf("a token outlived its grant: %v", err)
	}
}

// Two grants may run for one target and role, of two sign-ins; a token opens its own.
func TestTokenServesOnlyItsOwnGrant(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	reader := granted(t, f, alice).Grant()
	r, err := f.Ask(t.Context(), alice, here, session.NewRequest{Target: "orders", Role: "owner", Reason: "x"})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := f.GrantToken(t.Context(), alice, r.Grant)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Open(t.Context(), askWith("reader", identity.Proof{Kind: identity.ByToken, Token: token}, ""), nil)
	if !errors.Is(err, session.ErrBadToken) {
		t.Fatalf("the token of grant %s opened grant %s: %v", r.Grant, reader.ID, err)
	}
}

func TestUnboundedInputRefused(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	proof := certificate(t, f, alice)
	for _, trial := range []struct{ name, role, reason, say string }{
		{"a long reason", "reader", strings.Repeat("x", session.MaxReason+1), "the reason must be at most"},
		{"an escape sequence", "reader", "\x1b[2Jall is well", "printable"},
		{"a C1 control", "reader", "a\u009bm", "printable"},
		{"a reversed line", "reader", "a\u202eb", "printable"},
		{"a long role", strings.Repeat("r", session.MaxName+1), "x", "role's name must be at most"},
		{"no role", "", "x", "no role is named"},
	} {
		t.Run(trial.name, func(t *testing.T) {
			_, err := f.Open(t.Context(), askWith(trial.role, proof, trial.reason), nil)
			wantSays(t, err, trial.say)
		})
	}
}

func TestCapsBeforeIdentity(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{Config: func(c *session.Config) { c.MaxHeldPerSource = 3 }})
	for range 3 {
		connect(t, f, ask("reader")).link()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := f.Open(ctx, ask("reader"), func(string) error { return nil })
	wantSays(t, err, "too many connections wait")
	other := ask("reader")
	other.Client.Address = session.Ask{}.Client.Address
	connect(t, f, other).link() // another source is not shut out
}

func TestCertificateOfAnEndedSignIn(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	proof := certificate(t, f, alice)
	if err := f.SignOut(t.Context(), alice.ID, "signed out"); err != nil {
		t.Fatal(err)
	}
	_, err := f.Open(t.Context(), askWith("reader", proof, "x"), nil)
	wantSays(t, err, "the sign-in of your client certificate has ended")
	other := gatetest.New(t, gatetest.Options{})
	_, err = other.Open(t.Context(), askWith("reader", proof, "x"), nil)
	wantSays(t, err, "your client certificate is not valid here")
}

func TestNobodyConfirms(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{Config: func(c *session.Config) { c.SignInWait = 50 * time.Millisecond }})
	c := connect(t, f, ask("reader"))
	c.refused("nobody confirmed this connection")
	if _, err := f.Held(t.Context(), c.link(), f.SignIn(t, gatetest.Alice), here); !errors.Is(err, session.ErrNotFound) {
		t.Fatalf("a link that nobody opened is still there: %v", err)
	}
}

func TestAReasonIsAskedForOnThePage(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice, eve := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Eve)
	c := connect(t, f, askWith("reader", certificate(t, f, alice), ""))
	if line := c.wait("say why at"); strings.Contains(line, "sign in") {
		t.Fatalf("somebody who is known is told %q", line)
	}
	if _, err := f.Held(t.Context(), c.link(), eve, here); !errors.Is(err, session.ErrNotFound) {
		t.Fatalf("eve saw alice's connection: %v", err)
	}
	_, err := f.Confirm(t.Context(), c.link(), alice, here, session.Confirmation{Phrase: c.phrase()})
	wantSays(t, err, "say why")
	c.confirm(alice, "INC-42")
	c.wait("waiting for 1 of: dba")
}

func TestAsksAreRefusedWithTheRulesWord(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	sam := f.SignIn(t, gatetest.Sam)
	proof := certificate(t, f, sam)
	for _, target := range []string{"orders", "nowhere"} {
		a := askWith("reader", proof, "x")
		a.Target = target
		_, err := f.Open(t.Context(), a, nil)
		var denied *session.Denied
		if !errors.As(err, &denied) {
			t.Fatalf("%s: %v", target, err)
		}
	}
	if n := f.Count(t, audit.AskRefused); n != 2 {
		t.Fatalf("%d refusals in the log", n)
	}
}

func BenchmarkOpenUnderGrant(b *testing.B) {
	f := gatetest.New(b, gatetest.Options{})
	alice := f.SignIn(b, gatetest.Alice)
	granted(b, f, alice)
	a := askWith("reader", certificate(b, f, alice), "")
	for b.Loop() {
		s, err := f.Open(context.Background(), a, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Run(context.Background(), func(context.Context, *session.Upstream) error { return nil }); err != nil {
			b.Fatal(fmt.Errorf("run: %w", err))
		}
	}
}

// Somebody who was told that a request stays open finds it so, though the connection that
// it was made for has gone.
func TestJoinedRequestStaysForWhoWasTold(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	alice := f.SignIn(t, gatetest.Alice)
	a := askWith("reader", certificate(t, f, alice), "deploy 7")
	first := connect(t, f, a)
	first.wait("waiting for 1 of: dba")
	program := a
	program.NoWait = true
	_, err := f.Open(t.Context(), program, nil)
	var held *session.Held
	if !errors.As(err, &held) {
		t.Fatalf("got %v", err)
	}
	first.hangUp()
	_, _ = first.end()
	if r, err := f.Request(t.Context(), alice, held.Request); err != nil || r.State != session.RequestPending || !r.Keep {
		t.Fatalf("the request is %s, %v", r.State, err)
	}
	if _, err := f.Decide(t.Context(), f.SignIn(t, gatetest.Bob), held.Request, session.Verdict{Yes: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(t.Context(), program, nil); err != nil {
		t.Fatalf("after the yes: %v", err)
	}
}

// A known user whose client tries again at once does not fill the log: so many a minute
// are entries, the rest is counted, and the next minute begins anew.
func TestRefusalsOfOneUserAreBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := gatetest.New(t, gatetest.Options{Dir: dir})
		a := askWith("nosuch", certificate(t, f, f.SignIn(t, gatetest.Alice)), "x")
		other := askWith("nosuch", certificate(t, f, f.SignIn(t, gatetest.Eve)), "x")
		for range 100 {
			if _, err := f.Open(t.Context(), a, nil); err == nil {
				t.Fatal("let in")
			}
		}
		_, _ = f.Open(t.Context(), other, nil)
		if n := f.Count(t, audit.AskRefused); n != 61 {
			t.Errorf("%d entries of 101 refusals, want 60 of alice and one of eve", n)
		}
		time.Sleep(61 * time.Second)
		synctest.Wait()
		_, _ = f.Open(t.Context(), a, nil)
		if n := f.Count(t, audit.AskRefused); n != 62 {
			t.Errorf("%d entries after a minute, want one more", n)
		}
		entries, err := f.Log.Entries(t.Context(), 0, 500)
		if err != nil {
			t.Fatal(err)
		}
		var body struct{ Users map[string]int }
		for _, e := range entries {
			if e.Type == audit.RefusalsCounted {
				if err := json.Unmarshal(e.Body, &body); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(body.Users) != 1 || body.Users["alice@example.com"] != 40 {
			t.Errorf("counted are %v, want 40 of alice", body.Users)
		}
		f.Close(t)
	})
}
