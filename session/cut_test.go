package session_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/contain"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

func TestWhateverCutsSaysSo(t *testing.T) {
	for _, trial := range []struct {
		name string
		cut  func(t *testing.T, f *gatetest.Fixture, alice identity.SignIn, s *session.Session) error
		is   error
		say  string
	}{
		{"revoked", func(t *testing.T, f *gatetest.Fixture, _ identity.SignIn, s *session.Session) error {
			return f.Revoke(t.Context(), f.SignIn(t, gatetest.Sam), s.Grant().ID, "wrong database")
		}, session.ErrRevoked, "your access was revoked by sam@example.com: wrong database"},
		{"revoked by the approver", func(t *testing.T, f *gatetest.Fixture, _ identity.SignIn, s *session.Session) error {
			return f.Revoke(t.Context(), f.SignIn(t, gatetest.Bob), s.Grant().ID, "")
		}, session.ErrRevoked, "your access was revoked by bob@example.com"},
		{"killed", func(t *testing.T, f *gatetest.Fixture, _ identity.SignIn, s *session.Session) error {
			return f.Kill(t.Context(), f.SignIn(t, gatetest.Sam), s.ID(), "")
		}, session.ErrKilled, "this session was ended by sam@example.com"},
		{"released", func(t *testing.T, f *gatetest.Fixture, alice identity.SignIn, s *session.Session) error {
			return f.Release(t.Context(), alice, s.Grant().ID)
		}, &session.Ended{Cause: "released"}, "you gave up this access"},
		{"signed out", func(t *testing.T, f *gatetest.Fixture, alice identity.SignIn, _ *session.Session) error {
			return f.SignOut(t.Context(), alice.ID, "by yourself")
		}, session.ErrSignedOut, "you are signed out"},
		{"disabled", func(t *testing.T, f *gatetest.Fixture, _ identity.SignIn, _ *session.Session) error {
			return f.Disable(t.Context(), f.SignIn(t, gatetest.Sam), gatetest.Alice.ID(), "left")
		}, session.ErrSignedOut, "your account was disabled by sam@example.com: left"},
		{"policy", func(t *testing.T, f *gatetest.Fixture, _ identity.SignIn, _ *session.Session) error {
			reload(t, f, strings.ReplaceAll(gatetest.Rules, `"reader"`, `"owner"`))
			return nil
		}, session.ErrPolicy, "the policy changed"},
		{"groups", func(t *testing.T, f *gatetest.Fixture, alice identity.SignIn, _ *session.Session) error {
			alice.User.Groups = []string{"sales"}
			return f.Refreshed(t.Context(), alice)
		}, session.ErrPolicy, "your groups changed"},
		{"stopping", func(t *testing.T, f *gatetest.Fixture, _ identity.SignIn, _ *session.Session) error {
			f.Close(t)
			return nil
		}, session.ErrStopping, "the gate is stopping"},
	} {
		t.Run(trial.name, func(t *testing.T) {
			f := gatetest.New(t, gatetest.Options{})
			alice := f.SignIn(t, gatetest.Alice)
			s := granted(t, f, alice)
			r := run(s)
			<-r.up
			if err := trial.cut(t, f, alice, s); err != nil {
				t.Fatal(err)
			}
			err := <-r.ended
			if !errors.Is(err, trial.is) {
				t.Fatalf("ended with %v, want %v", err, trial.is)
			}
			wantSays(t, err, trial.say)
			f.Verify(t)
		})
	}
}

func TestOthersMayNotCut(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	s := granted(t, f, f.SignIn(t, gatetest.Alice))
	r := run(s)
	<-r.up
	carol := f.SignIn(t, gatetest.Carol) // a dba, but not the one who said yes
	if err := f.Revoke(t.Context(), carol, s.Grant().ID, ""); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("revoke: %v", err)
	}
	if err := f.Kill(t.Context(), carol, s.ID(), ""); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("kill: %v", err)
	}
	select {
	case err := <-r.ended:
		t.Fatalf("cut by somebody without the right: %v", err)
	default:
	}
}

func TestPolicyReloadKeepsWhoIsStillAllowed(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	s := granted(t, f, f.SignIn(t, gatetest.Alice))
	r := run(s)
	<-r.up
	reload(t, f, gatetest.Rules+"\n# a comment\n")
	select {
	case err := <-r.ended:
		t.Fatalf("cut though still allowed: %v", err)
	default:
	}
	reload(t, f, strings.Replace(gatetest.Rules, "count = 1", "count = 2", 1))
	wantSays(t, r.cut(t), "now asks for more approvals than this has")
}

// With the clock faked the end is exact, and the warnings come when they should.
func TestEndsExactlyAtTheGrantsEnd(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := gatetest.New(t, gatetest.Options{Dir: dir})
		s := granted(t, f, f.SignIn(t, gatetest.Alice))
		r := run(s)
		up := <-r.up
		start := time.Now()
		var told []time.Duration
		for range 2 {
			line := <-up.Warnings()
			told = append(told, time.Until(s.Ends()))
			if !strings.Contains(line, "left; extend at https://gate.test/g/"+s.Grant().ID) {
				t.Errorf("warned %q", line)
			}
		}
		err := <-r.ended
		if !errors.Is(err, session.ErrExpired) || !time.Now().Equal(s.Ends()) {
			t.Errorf("ended with %v after %s, want at %s", err, time.Since(start), s.Ends().Sub(start))
		}
		wantSays(t, err, "your access to orders ended at "+s.Ends().UTC().Format("15:04:05")+" UTC")
		if len(told) != 2 || told[0] != 5*time.Minute || told[1] != time.Minute {
			t.Errorf("warned at %v before the end", told)
		}
		synctest.Wait()
		gr, err := f.Grant(t.Context(), f.SignIn(t, gatetest.Alice), s.Grant().ID)
		if err != nil || gr.State != session.GrantExpired {
			t.Errorf("the grant is %s, %v", gr.State, err)
		}
		f.Close(t)
	})
}

func TestTimesOutWhenNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := gatetest.New(t, gatetest.Options{Dir: dir})
		alice := f.SignIn(t, gatetest.Alice)
		c := connect(t, f, ask("reader"))
		v := c.confirm(alice, "INC-42")
		start := time.Now()
		_, err := c.end()
		if !errors.Is(err, session.ErrTimedOut) {
			t.Fatalf("ended with %v", err)
		}
		wantSays(t, err, "nobody answered by")
		r, err := f.Request(t.Context(), alice, v.Request)
		if err != nil || r.State != session.RequestTimedOut || time.Since(start) < r.Decision.RequestTimeout {
			t.Errorf("%s after %s, %v", r.State, time.Since(start), err)
		}
		if n := f.Count(t, audit.RequestDenied); n != 0 {
			t.Errorf("a time-out left %d refusals behind", n)
		}
		f.Close(t)
	})
}

// A rule may hold connections for less time than their request waits: then the request
// stays open, whatever becomes of who else waited for it, and of the gate.
func TestHoldOfARuleLeavesItsRequestOpen(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		rules := strings.Replace(gatetest.Rules, `default = "30m"`, "default = \"30m\"\n  hold = \"10m\"", 1)
		f := gatetest.New(t, gatetest.Options{Dir: dir, Rules: rules})
		alice := f.SignIn(t, gatetest.Alice)
		a := askWith("reader", certificate(t, f, alice), "INC-42")
		start := time.Now()
		first, second := connect(t, f, a), connect(t, f, a)
		first.wait("until " + start.Add(10*time.Minute).UTC().Format("15:04:05 UTC") + ", then the request waits on without you until " + start.Add(time.Hour).UTC().Format("15:04:05 UTC"))
		second.wait("waiting for")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		third := connect(t, f, a)
		third.wait("waiting for")
		for _, c := range []*client{first, second} {
			c.refused("connect again after the yes")
		}
		if took := time.Since(start); took != 10*time.Minute {
			t.Errorf("held for %s", took)
		}
		third.hangUp()
		_, _ = third.end()
		f.Crash(t)
		f = gatetest.New(t, gatetest.Options{Dir: dir, Rules: rules})
		_, err := first.end()
		var held *session.Held
		if !errors.As(err, &held) {
			t.Fatalf("ended with %v", err)
		}
		if _, err := f.Decide(t.Context(), f.SignIn(t, gatetest.Bob), held.Request, session.Verdict{Yes: true}); err != nil {
			t.Fatal(err)
		}
		a.Proof = certificate(t, f, alice) // of the CA that the gate has now
		connect(t, f, a).session()
		f.Close(t)
		f.Verify(t)
	})
}

func TestAfterACrash(t *testing.T) {
	dir := t.TempDir()
	f := gatetest.New(t, gatetest.Options{Dir: dir})
	alice := f.SignIn(t, gatetest.Alice)
	s := granted(t, f, alice)
	r := run(s)
	<-r.up
	pending := asked(t, f, alice, "writer")
	f.Crash(t)
	<-r.ended

	f = gatetest.New(t, gatetest.Options{Dir: dir})
	now, err := f.Request(t.Context(), alice, pending.ID)
	if err != nil || now.State != session.RequestPending || !now.TimesOut.Equal(pending.TimesOut) {
		t.Errorf("the pending request: %+v, %v", now, err)
	}
	gr, err := f.Grant(t.Context(), alice, s.Grant().ID)
	if err != nil || gr.State != session.GrantActive || !gr.Ends.Equal(s.Ends()) {
		t.Errorf("the grant: %+v, %v", gr, err)
	}
	record, err := f.Session(t.Context(), alice, s.ID())
	if err != nil || record.Live || record.Cause != "crashed" {
		t.Errorf("the session: %+v, %v", record, err)
	}
	if n := f.Count(t, audit.SessionEnded); n != 1 {
		t.Errorf("%d ends of one session in the log", n)
	}
	f.Close(t)
	f.Verify(t)
}

// A database restored from a backup would bring back what was revoked since.
func TestOlderStoreUnderANewerLogRefusesToStart(t *testing.T) {
	dir := t.TempDir()
	f := gatetest.New(t, gatetest.Options{Dir: dir})
	f.SignIn(t, gatetest.Alice)
	f.Close(t)
	old := f.SaveStore(t)
	f = gatetest.New(t, gatetest.Options{Dir: dir})
	f.SignIn(t, gatetest.Bob)
	f.Close(t)
	old()
	err := gatetest.StartFails(t, gatetest.Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "the store is older than the log") {
		t.Fatalf("got %v", err)
	}
}

func TestFullDiskOpensNothingNewAndStillCuts(t *testing.T) {
	disk := &gatetest.Disk{}
	f := gatetest.New(t, gatetest.Options{Faults: disk.Faults()})
	alice, sam := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Sam)
	s := granted(t, f, alice)
	r := run(s)
	<-r.up
	proof := certificate(t, f, alice)
	disk.Full(true)
	second, err := f.Open(t.Context(), askWith("reader", proof, ""), nil)
	if err == nil {
		err = second.Run(t.Context(), func(context.Context, *session.Upstream) error {
			t.Error("a session began on a full disk")
			return nil
		})
	}
	wantSays(t, err, "the gate's disk is full")
	_, err = f.Ask(t.Context(), alice, here, session.NewRequest{Target: "orders", Role: "writer", Reason: "INC-42"})
	wantSays(t, err, "the gate's disk is full")
	if err := f.Revoke(t.Context(), sam, s.Grant().ID, ""); err != nil {
		t.Fatal(err)
	}
	if err := <-r.ended; !errors.Is(err, session.ErrRevoked) && !errors.Is(err, session.ErrRecorder) {
		t.Fatalf("revoked on a full disk: %v", err)
	}
	disk.Full(false)
	for f.Settle(t.Context()) != nil { // rows wait in the outbox until there is space
	}
	if n := f.Count(t, audit.GrantRevoked); n != 1 {
		t.Fatalf("%d revocations in the log once there is space", n)
	}
}

func TestBrokenLogStopsTheGate(t *testing.T) {
	disk := &gatetest.Disk{}
	f := gatetest.New(t, gatetest.Options{Faults: disk.Faults()})
	alice := f.SignIn(t, gatetest.Alice)
	r := run(granted(t, f, alice))
	<-r.up
	disk.Break()
	if err := f.Gate.SignIn(t.Context(), identity.SignIn{ID: identity.NewID(), User: gatetest.Bob, Created: time.Now(), Expires: time.Now().Add(time.Hour)}); err == nil {
		t.Fatal("a sign-in was acknowledged that is not on the record")
	}
	select {
	case err := <-r.ended:
		if !errors.Is(err, session.ErrStopping) && !errors.Is(err, session.ErrRecorder) { // whichever notices first
			t.Fatalf("the session ended with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the session goes on without a log")
	}
	select {
	case <-f.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the gate goes on without a log")
	}
	if f.Gate.Err() == nil {
		t.Fatal("the gate does not say why it stopped")
	}
	_, err := f.Open(t.Context(), ask("reader"), nil)
	wantSays(t, err, "it cannot keep its record")
}

func TestCutBetweenOpenAndRun(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	s := granted(t, f, f.SignIn(t, gatetest.Alice))
	if err := f.Revoke(t.Context(), f.SignIn(t, gatetest.Sam), s.Grant().ID, ""); err != nil {
		t.Fatal(err)
	}
	err := s.Run(t.Context(), func(context.Context, *session.Upstream) error {
		t.Error("the target could be reached under a revoked grant")
		return nil
	})
	wantSays(t, err, "your access")
}

func TestRecorderFailureEndsTheSession(t *testing.T) {
	disk := &gatetest.Disk{}
	f := gatetest.New(t, gatetest.Options{Faults: disk.Faults()})
	s := granted(t, f, f.SignIn(t, gatetest.Alice))
	r := run(s)
	up := <-r.up
	t.Cleanup(func() { disk.Full(false) })
	disk.Full(true)
	if err := up.Recorder().Write(audit.Query{N: 1, SQL: "select 1"}); err == nil {
		t.Fatal("a statement was recorded on a full disk")
	}
	if err := r.cut(t); !errors.Is(err, session.ErrRecorder) {
		t.Fatalf("ended with %v", err)
	}
	disk.Full(false)
	for f.Settle(t.Context()) != nil { // rows wait in the outbox until there is space
	}
}

// More time is asked for and approved like the first; live sessions go on by themselves.
func TestExtendedWithoutConnectingAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := gatetest.New(t, gatetest.Options{Dir: dir})
		alice, bob := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob)
		s := granted(t, f, alice)
		r := run(s)
		up := <-r.up
		first := s.Ends()
		<-up.Warnings()
		more, err := f.Ask(t.Context(), alice, here, session.NewRequest{Extends: s.Grant().ID, Duration: 20 * time.Minute})
		if err != nil || more.State != session.RequestPending || more.Input.Reason != "INC-42 stuck order" {
			t.Fatalf("%+v, %v", more, err)
		}
		if _, err := f.Decide(t.Context(), alice, more.ID, yes); err == nil {
			t.Fatal("alice lengthened her own grant")
		}
		_, err = f.Ask(t.Context(), f.SignIn(t, gatetest.Eve), here, session.NewRequest{Extends: s.Grant().ID})
		if !errors.Is(err, session.ErrNotFound) {
			t.Fatalf("eve asked for more of alice's grant: %v", err)
		}
		approved := time.Now()
		if _, err := f.Decide(t.Context(), bob, more.ID, yes); err != nil {
			t.Fatal(err)
		}
		want := approved.Add(20 * time.Minute)
		if !s.Ends().Equal(want) || !want.After(first) {
			t.Errorf("ends at %s, want %s", s.Ends(), want)
		}
		if line := <-up.Warnings(); !strings.HasPrefix(line, "extended until ") {
			t.Errorf("told %q", line)
		}
		reload(t, f, gatetest.Rules) // a longer life than one rule's term is no reason to cut
		if err := <-r.ended; !errors.Is(err, session.ErrExpired) || !time.Now().Equal(want) {
			t.Errorf("ended with %v at %s, want %s", err, time.Now(), want)
		}
		if n := f.Count(t, audit.GrantExtended); n != 1 {
			t.Errorf("%d extensions in the log", n)
		}
		f.Close(t)
	})
}

// Class: live connections outlive the grant. Whoever sets the gate's clock back keeps
// nothing open by it, neither what runs nor what begins then.
func TestClockSetBackLengthensNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Int64
		f := gatetest.New(t, gatetest.Options{Dir: dir, Config: func(c *session.Config) {
			c.Clock = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
		}})
		alice := f.SignIn(t, gatetest.Alice)
		r, err := f.Ask(t.Context(), alice, here, session.NewRequest{Target: "orders", Role: "owner", Duration: 10 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		ends := time.Now().Add(10 * time.Minute)
		proof := certificate(t, f, alice)
		open := func() running {
			s, err := f.Open(t.Context(), askWith("owner", proof, ""), nil)
			if err != nil {
				t.Fatal(err)
			}
			live := run(s)
			<-live.up
			return live
		}
		first := open()
		<-time.After(time.Minute)
		back.Store(int64(time.Hour))
		second := open()
		for _, live := range []running{first, second} {
			select {
			case err := <-live.ended:
				if !errors.Is(err, session.ErrExpired) || !time.Now().Equal(ends) {
					t.Errorf("ended with %v at %s, want %s", err, time.Now(), ends)
				}
			case <-time.After(2 * time.Hour):
				t.Fatal("it lives on")
			}
		}
		synctest.Wait()
		if gr, err := f.Grant(t.Context(), alice, r.Grant); err != nil || gr.State != session.GrantExpired {
			t.Errorf("the grant is %s, %v", gr.State, err)
		}
		again, err := f.Ask(t.Context(), alice, here, session.NewRequest{Target: "orders", Role: "owner", Duration: 10 * time.Minute})
		if err != nil || again.Grant == r.Grant {
			t.Errorf("a grant that ended serves: %v", err)
		}
		f.Close(t)
	})
}

// Whoever sets it forward ends a grant, and what it let in is not left behind.
func TestClockSetForwardEndsWhatTheGrantLetIn(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var forward atomic.Int64
		f := gatetest.New(t, gatetest.Options{Dir: dir, Config: func(c *session.Config) {
			c.Clock = func() time.Time { return time.Now().Add(time.Duration(forward.Load())) }
		}})
		alice := f.SignIn(t, gatetest.Alice)
		s, err := f.Open(t.Context(), askWith("owner", certificate(t, f, alice), ""), nil)
		if err != nil {
			t.Fatal(err)
		}
		live := run(s)
		<-live.up
		forward.Store(int64(2 * time.Hour))
		set := time.Now()
		select {
		case err := <-live.ended:
			if !errors.Is(err, session.ErrExpired) || time.Since(set) > time.Minute {
				t.Errorf("ended with %v after %s", err, time.Since(set))
			}
		case <-time.After(3 * time.Hour):
			t.Fatal("it lives on under a grant that has expired")
		}
		f.Close(t)
	})
}

// Nor does a start, which goes by the clock anew: what has yet to begin by it is ended.
func TestClockSetBackBeforeAStartLengthensNothing(t *testing.T) {
	dir := t.TempDir()
	f := gatetest.New(t, gatetest.Options{Dir: dir})
	alice := f.SignIn(t, gatetest.Alice)
	r, err := f.Ask(t.Context(), alice, here, session.NewRequest{Target: "orders", Role: "owner", Duration: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	f.Crash(t)
	back := 30 * time.Minute
	for _, want := range []session.GrantState{session.GrantRevoked, session.GrantActive} {
		f = gatetest.New(t, gatetest.Options{Dir: dir, Config: func(c *session.Config) {
			c.Clock = func() time.Time { return time.Now().Add(-back) }
		}})
		if gr, err := f.Grant(t.Context(), alice, r.Grant); err != nil || gr.State != want {
			t.Errorf("%s before, the grant is %s, want %s: %v", back, gr.State, want, err)
		}
		if r, err = f.Ask(t.Context(), alice, here, session.NewRequest{Target: "orders", Role: "owner"}); err != nil {
			t.Fatal(err)
		}
		f.Close(t)
		back = 0
	}
}

// Class: one client ends everybody's sessions. Whatever a protocol panics over, its
// session ends, with its record and a line in the log.
func TestPanicEndsItsSessionAndIsRecorded(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	s := granted(t, f, f.SignIn(t, gatetest.Alice))
	err := s.Run(t.Context(), func(_ context.Context, up *session.Upstream) error {
		if err := up.Recorder().Write(audit.Query{N: 1, SQL: "select 1"}); err != nil {
			return err
		}
		panic("nobody thought of that")
	})
	var panicked *contain.Error
	if !errors.As(err, &panicked) {
		t.Fatalf("the session ends by %v", err)
	}
	if n := f.Count(t, audit.SessionEnded); n != 1 {
		t.Errorf("%d ends in the log", n)
	}
	f.Close(t)
	f.Verify(t)
}
