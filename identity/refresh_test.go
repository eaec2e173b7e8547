package identity

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// gate is the other side of a Refresher: sign-ins in memory, by the contract of Standing.
type gate struct {
	mu      sync.Mutex
	signIns map[string]SignIn
	saved   int
	failing error
}

func (g *gate) StandingSignIns(context.Context) ([]SignIn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []SignIn
	for _, s := range g.signIns {
		if s.Ended.IsZero() {
			list = append(list, s)
		}
	}
	return list, nil
}

func (g *gate) Refreshed(_ context.Context, s SignIn) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failing != nil {
		return g.failing
	}
	g.signIns[s.ID] = s
	g.saved++
	return nil
}

func (g *gate) SignOut(_ context.Context, id, why string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.signIns[id]
	s.Ended, s.EndedBy = time.Now(), why
	g.signIns[id] = s
	return nil
}

func (g *gate) get(id string) SignIn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.signIns[id]
}

// issuer answers as a rotating issuer does: each token works once.
type issuer struct {
	mu     sync.Mutex
	asked  int
	token  Token
	answer func(u User) (User, error)
	hang   bool
	fixed  bool // its tokens do not rotate
}

func (i *issuer) Refresh(ctx context.Context, u User, token Token) (User, Token, error) {
	i.mu.Lock()
	hang := i.hang
	i.mu.Unlock()
	if hang {
		<-ctx.Done()
		return User{}, "", errors.Join(ErrUnreachable, ctx.Err())
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	if token != i.token {
		return User{}, "", errors.New("invalid_grant")
	}
	u, err := i.answer(u)
	if i.fixed {
		return u, "", err
	}
	i.token += "+"
	return u, i.token, err
}

func (i *issuer) StandsAlone(name string) bool { return name == "https://alone.example.com" }

func standing(t *testing.T, i *issuer) (*gate, func()) {
	t.Helper()
	sealer, err := NewSealer([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	i.token = "first"
	now := time.Now()
	g := &gate{signIns: map[string]SignIn{
		"a": {ID: "a", User: alice, Created: now, Checked: now, Expires: now.Add(12 * time.Hour), Refresh: sealer.Seal("first", "a")},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	r := &Refresher{Standing: g, Issuers: i, Sealer: sealer, Logger: slog.New(slog.DiscardHandler)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	return g, func() { cancel(); <-done }
}

func same(u User) (User, error) { return u, nil }

func TestStandingIsReadInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{answer: func(u User) (User, error) { u.Groups = []string{"new"}; return u, nil }}
		g, stop := standing(t, i)
		defer stop()
		for range 60 {
			time.Sleep(time.Minute)
			synctest.Wait()
			if s := g.get("a"); !s.Ended.IsZero() || time.Since(s.Checked) >= StandingLimit {
				t.Fatalf("at %s: checked %s ago, ended by %q", time.Now(), time.Since(s.Checked), s.EndedBy)
			}
		}
		if !g.get("a").User.In("new") {
			t.Error("the new groups were not saved")
		}
		if i.asked > 7 {
			t.Errorf("the issuer was asked %d times in an hour", i.asked)
		}
	})
}

func TestRefusedRefreshEndsTheSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := standing(t, &issuer{answer: func(User) (User, error) { return User{}, errors.New("disabled") }})
		defer stop()
		time.Sleep(StandingDue + time.Minute)
		synctest.Wait()
		if s := g.get("a"); s.EndedBy != "the identity provider no longer vouches for this sign-in" {
			t.Errorf("ended by %q", s.EndedBy)
		}
	})
}

func TestRefreshAboutAnotherAccountEndsTheSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := standing(t, &issuer{answer: func(u User) (User, error) { u.Subject = "mallory"; return u, nil }})
		defer stop()
		time.Sleep(StandingDue + time.Minute)
		synctest.Wait()
		if s := g.get("a"); s.Ended.IsZero() || s.User.Subject != "alice" {
			t.Errorf("sign-in of %q ended by %q", s.User.Subject, s.EndedBy)
		}
	})
}

func TestUnreachableIssuerFailsClosedAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.Join(ErrUnreachable, errors.New("connection refused"))
		// It spends the token and then fails: the new token must not be lost.
		g, stop := standing(t, &issuer{answer: func(User) (User, error) { return User{}, down }})
		defer stop()
		time.Sleep(StandingLimit - time.Minute)
		synctest.Wait()
		if s := g.get("a"); !s.Ended.IsZero() {
			t.Fatalf("ended after 14 minutes by %q", s.EndedBy)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := g.get("a"); s.EndedBy != "the identity provider has not answered for 15m0s" {
			t.Errorf("after 16 minutes: ended by %q", s.EndedBy)
		}
	})
}

func TestIssuerThatComesBackKeepsTheSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{hang: true, answer: same}
		g, stop := standing(t, i)
		defer stop()
		time.Sleep(13 * time.Minute)
		i.mu.Lock()
		i.hang = false
		i.mu.Unlock()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := g.get("a"); !s.Ended.IsZero() || time.Since(s.Checked) > StandingDue+time.Minute {
			t.Errorf("checked %s ago, ended by %q", time.Since(s.Checked), s.EndedBy)
		}
	})
}

func TestSilentIssuerFailsClosedAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{hang: true}
		g, stop := standing(t, i)
		defer stop()
		one := g.get("a")
		g.mu.Lock()
		for range 200 { // many, so that asking each in turn would outlast the limit
			s := one
			s.ID = NewID()
			g.signIns[s.ID] = s
		}
		g.mu.Unlock()
		time.Sleep(StandingLimit + 3*time.Minute)
		synctest.Wait()
		g.mu.Lock()
		defer g.mu.Unlock()
		for s := range maps.Values(g.signIns) {
			if s.Ended.IsZero() {
				t.Fatalf("a sign-in stands %s after it was checked", time.Since(s.Checked))
			}
		}
	})
}

func TestSignInWithoutRefreshTokenMustBeDeclared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := standing(t, &issuer{answer: same})
		defer stop()
		now := time.Now()
		other := alice
		other.Issuer = "https://alone.example.com"
		g.mu.Lock()
		g.signIns["undeclared"] = SignIn{ID: "undeclared", User: alice, Checked: now, Expires: now.Add(time.Hour)}
		g.signIns["declared"] = SignIn{ID: "declared", User: other, Checked: now, Expires: now.Add(time.Hour)}
		g.mu.Unlock()
		time.Sleep(StandingLimit)
		synctest.Wait()
		if s := g.get("undeclared"); s.EndedBy != "the identity provider gave no refresh token for this sign-in" {
			t.Errorf("undeclared: ended by %q", s.EndedBy)
		}
		if s := g.get("declared"); !s.Ended.IsZero() {
			t.Errorf("declared: ended by %q", s.EndedBy)
		}
	})
}

func TestMovedRefreshTokenEndsTheSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := standing(t, &issuer{answer: same})
		defer stop()
		g.mu.Lock()
		moved := g.signIns["a"]
		moved.ID = "b"
		g.signIns["b"] = moved // a's token in b's row
		g.mu.Unlock()
		time.Sleep(StandingDue + time.Minute)
		synctest.Wait()
		if s := g.get("b"); s.Ended.IsZero() {
			t.Error("a refresh token of another sign-in was used")
		}
	})
}

func TestUnsavedRefreshFailsClosedAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, stop := standing(t, &issuer{fixed: true, answer: same})
		defer stop()
		g.mu.Lock()
		g.failing = errors.New("disk full")
		g.mu.Unlock()
		time.Sleep(StandingLimit + 2*time.Minute)
		synctest.Wait()
		if s := g.get("a"); s.EndedBy != "what the identity provider said could not be saved" {
			t.Errorf("ended by %q", s.EndedBy)
		}
	})
}

// A sign-in that nobody has read in time opens nothing, whatever keeps the Refresher.
func TestUnreadSignInStandsNoMore(t *testing.T) {
	now := time.Now()
	s := SignIn{ID: NewID(), Checked: now, Expires: now.Add(12 * time.Hour), Refresh: []byte("sealed")}
	if !s.Stands(now.Add(StandingLimit - time.Second)) {
		t.Error("it fell before its time")
	}
	if s.Stands(now.Add(StandingLimit)) {
		t.Error("it stands though it was not read in time")
	}
	s.Refresh = nil // declared with standing = "sign-in"
	if !s.Stands(now.Add(time.Hour)) {
		t.Error("one that cannot be read again fell before its own end")
	}
}

// Where one pass cannot read all, the longest unread are not those who are left out.
func TestLongestUnreadIsReadFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sealer, err := NewSealer([32]byte{7})
		if err != nil {
			t.Fatal(err)
		}
		list := &listed{}
		for i := range 40 { // newest first, as the store gives them
			id := NewID()
			list.signIns = append(list.signIns, SignIn{
				ID: id, User: User{Issuer: "https://idp.test", Subject: id}, Checked: time.Now().Add(-StandingDue - 40*time.Second + time.Duration(i-40)*-time.Second),
				Expires: time.Now().Add(time.Hour), Refresh: sealer.Seal("t", id),
			})
		}
		order := &asked{}
		r := &Refresher{Standing: list, Issuers: order, Sealer: sealer, Logger: slog.New(slog.DiscardHandler)}
		r.pass(t.Context())
		first := list.signIns[0]
		for _, s := range list.signIns {
			if s.Checked.Before(first.Checked) {
				first = s
			}
		}
		for i, subject := range order.subjects {
			if subject == first.User.Subject && i >= refreshAtATime {
				t.Errorf("the longest unread was read as number %d", i+1)
			}
		}
		if len(order.subjects) != 40 {
			t.Errorf("%d were read", len(order.subjects))
		}
	})
}

// listed gives its sign-ins in their order.
type listed struct{ signIns []SignIn }

func (l *listed) StandingSignIns(context.Context) ([]SignIn, error) {
	return slices.Clone(l.signIns), nil
}
func (l *listed) Refreshed(context.Context, SignIn) error       { return nil }
func (l *listed) SignOut(context.Context, string, string) error { return nil }

// asked takes a second for each answer, and remembers whom it was asked about.
type asked struct {
	mu       sync.Mutex
	subjects []string
}

func (a *asked) Refresh(_ context.Context, u User, _ Token) (User, Token, error) {
	a.mu.Lock()
	a.subjects = append(a.subjects, u.Subject)
	a.mu.Unlock()
	<-time.After(time.Second)
	return u, "", nil
}

func (a *asked) StandsAlone(string) bool { return false }

// One issuer that is down is not asked about each of its sign-ins: that would outlast the
// limit of everybody behind it.
func TestIssuerThatIsDownIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sealer, err := NewSealer([32]byte{7})
		if err != nil {
			t.Fatal(err)
		}
		list := &listed{}
		for range 5 * refreshAtATime {
			id := NewID()
			list.signIns = append(list.signIns, SignIn{
				ID: id, User: alice, Checked: time.Now().Add(-StandingDue), Expires: time.Now().Add(time.Hour), Refresh: sealer.Seal("t", id),
			})
		}
		r := &Refresher{Standing: list, Issuers: &issuer{hang: true}, Sealer: sealer, Logger: slog.New(slog.DiscardHandler)}
		began := time.Now()
		r.pass(t.Context())
		if took := time.Since(began); took != refreshWait {
			t.Errorf("a pass took %s, want that of one question, %s", took, refreshWait)
		}
	})
}
