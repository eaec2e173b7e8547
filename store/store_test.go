package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
	"github.com/sallyport/sallyport/store"
)

// plain encodes events for tests of the store alone; the log's encoder is tested with the log.
type plain struct{}

func (plain) Encode(e audit.Event, counter uint64) (audit.Pending, error) {
	return audit.Pending{Counter: counter, Leaf: []byte(e.Type), Body: []byte("body")}, nil
}

func open(t testing.TB, path string) *store.DB {
	t.Helper()
	db, err := store.Open(path, plain{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func fresh(t testing.TB) *store.DB { return open(t, filepath.Join(t.TempDir(), "state.db")) }

var alice = identity.User{Issuer: "https://idp.test", Subject: "alice", Email: "alice@example.com", Kind: identity.Person}

func request(id string) session.Request {
	return session.Request{
		ID: id, State: session.RequestPending, User: alice, Created: time.Now(), TimesOut: time.Now().Add(time.Hour),
		Input: policy.Input{User: alice, Target: "orders", Role: "reader"},
	}
}

func grantOf(r session.Request) session.Grant {
	return session.Grant{
		ID: "grant-" + r.ID, State: session.GrantActive, User: r.User, Request: r.ID, Starts: time.Now(), Ends: time.Now().Add(time.Hour),
		Key: session.Key{User: r.User.ID(), Target: r.Input.Target, Role: r.Input.Role},
	}
}

func recordOf(g session.Grant) session.Record {
	return session.Record{ID: "session-" + g.ID, Live: true, Grant: g.ID, Key: g.Key, User: g.User, Started: time.Now()}
}

func update(t *testing.T, db *store.DB, fn func(session.Tx) error) error {
	t.Helper()
	_, err := db.Update(t.Context(), fn)
	return err
}

func TestOutcomeIsFinal(t *testing.T) {
	outcomes := []session.RequestState{session.RequestApproved, session.RequestDenied, session.RequestWithdrawn, session.RequestTimedOut}
	for _, first := range outcomes {
		for _, second := range append(outcomes, session.RequestPending) {
			t.Run(fmt.Sprintf("%s then %s", first, second), func(t *testing.T) {
				db := fresh(t)
				r := request("r")
				if err := update(t, db, func(tx session.Tx) error { return tx.SaveRequest(r) }); err != nil {
					t.Fatal(err)
				}
				r.State = first
				if err := update(t, db, func(tx session.Tx) error { return tx.SaveRequest(r) }); err != nil {
					t.Fatalf("first outcome: %v", err)
				}
				r.State = second
				err := update(t, db, func(tx session.Tx) error { return tx.SaveRequest(r) })
				if !errors.Is(err, store.ErrTransition) {
					t.Fatalf("a second outcome gave %v, want ErrTransition", err)
				}
			})
		}
	}
}

func TestTransitionsRefused(t *testing.T) {
	approved := request("r")
	approved.State = session.RequestApproved
	bob := identity.User{Issuer: alice.Issuer, Subject: "bob"}
	trials := []struct {
		name string
		do   func(session.Tx) error
		say  string
	}{
		{"a request begins approved", func(tx session.Tx) error { return tx.SaveRequest(approved) }, "a request begins pending"},
		{"a grant of a pending request", func(tx session.Tx) error {
			r := request("r2")
			return errors.Join(tx.SaveRequest(r), tx.SaveGrant(grantOf(r)))
		}, "from an approved request"},
		{"a grant for somebody else", func(tx session.Tx) error {
			g := grantOf(approved)
			g.Key.User = bob.ID()
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g))
		}, "for what its request asked"},
		{"a grant for another role", func(tx session.Tx) error {
			g := grantOf(approved)
			g.Key.Role = "writer"
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g))
		}, "for what its request asked"},
		{"a session under an ended grant", func(tx session.Tx) error {
			g := grantOf(approved)
			ended := g
			ended.State = session.GrantRevoked
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g), tx.SaveGrant(ended), tx.SaveSession(recordOf(g)))
		}, "under its own active grant"},
		{"a session of another role than the grant's", func(tx session.Tx) error {
			g := grantOf(approved)
			s := recordOf(g)
			s.Key.Role = "writer"
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g), tx.SaveSession(s))
		}, "under its own active grant"},
		{"an ended grant lives again", func(tx session.Tx) error {
			g := grantOf(approved)
			ended := g
			ended.State = session.GrantExpired
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g), tx.SaveGrant(ended), tx.SaveGrant(g))
		}, "the grant has ended"},
		{"what was asked changes", func(tx session.Tx) error {
			other := request("r")
			other.Input.Role = "writer"
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(other))
		}, "what was asked does not change"},
		{"a grant begins ended", func(tx session.Tx) error {
			g := grantOf(approved)
			g.State = session.GrantExpired
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g))
		}, "a grant begins active"},
		{"what was granted changes", func(tx session.Tx) error {
			asked := request("r2")
			asked.Input.Role = "writer"
			other := asked
			other.State = session.RequestApproved
			g := grantOf(approved)
			changed := g
			changed.Request, changed.Key.Role = other.ID, "writer"
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveRequest(asked), tx.SaveRequest(other), tx.SaveGrant(g), tx.SaveGrant(changed))
		}, "what was granted does not change"},
		{"a session begins ended", func(tx session.Tx) error {
			g := grantOf(approved)
			s := recordOf(g)
			s.Live = false
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g), tx.SaveSession(s))
		}, "a session begins live"},
		{"an ended session lives again", func(tx session.Tx) error {
			g := grantOf(approved)
			s := recordOf(g)
			ended := s
			ended.Live = false
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g), tx.SaveSession(s), tx.SaveSession(ended), tx.SaveSession(s))
		}, "the session has ended"},
		{"what a session is for changes", func(tx session.Tx) error {
			g := grantOf(approved)
			s := recordOf(g)
			other := s
			other.Key.Role = "writer"
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g), tx.SaveSession(s), tx.SaveSession(other))
		}, "what a session is for does not change"},
		{"a review begins done", func(tx session.Tx) error {
			g := grantOf(approved)
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g), tx.SaveReview(session.Review{ID: g.ID, State: session.ReviewDone, Key: g.Key}))
		}, "a review begins open"},
		{"a review is done twice", func(tx session.Tx) error {
			g := grantOf(approved)
			v := session.Review{ID: g.ID, State: session.ReviewOpen, Key: g.Key}
			done := v
			done.State = session.ReviewDone
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g), tx.SaveReview(v), tx.SaveReview(done), tx.SaveReview(done))
		}, "the review is done"},
		{"what is reviewed changes", func(tx session.Tx) error {
			g := grantOf(approved)
			v := session.Review{ID: g.ID, State: session.ReviewOpen, Key: g.Key}
			other := v
			other.Key.User = bob.ID()
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(g), tx.SaveReview(v), tx.SaveReview(other))
		}, "what is reviewed does not change"},
		{"a sign-in changes hands", func(tx session.Tx) error {
			return errors.Join(tx.SaveSignIn(identity.SignIn{ID: "s", User: alice}), tx.SaveSignIn(identity.SignIn{ID: "s", User: bob}))
		}, "a sign-in is one account's"},
		{"a token lasts longer", func(tx session.Tx) error {
			k := identity.TokenRecord{ID: "t", Hash: [32]byte{1}, Expires: time.Now()}
			longer := k
			longer.Expires = k.Expires.Add(time.Hour)
			return errors.Join(tx.SaveToken(k), tx.SaveToken(longer))
		}, "a token does not change"},
		{"an ended sign-in stands again", func(tx session.Tx) error {
			s := identity.SignIn{ID: "s", User: alice}
			ended := s
			ended.Ended = time.Now()
			return errors.Join(tx.SaveSignIn(s), tx.SaveSignIn(ended), tx.SaveSignIn(s))
		}, "the sign-in has ended"},
	}
	for _, trial := range trials {
		t.Run(trial.name, func(t *testing.T) {
			db := fresh(t)
			err := update(t, db, trial.do)
			if !errors.Is(err, store.ErrTransition) || !strings.Contains(err.Error(), trial.say) {
				t.Fatalf("got %v, want ErrTransition with %q", err, trial.say)
			}
			if err := db.View(t.Context(), func(tx session.Tx) error {
				rows, err := tx.Requests(session.Filter{})
				if len(rows) > 0 {
					t.Errorf("a refused update left %d requests behind", len(rows))
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// What is unique is so in the database too.
func TestOneOfEach(t *testing.T) {
	approved := request("r")
	approved.State = session.RequestApproved
	for name, do := range map[string]func(session.Tx) error{
		"UNIQUE constraint failed: grants.request": func(tx session.Tx) error {
			more := grantOf(approved)
			more.ID = "another"
			return errors.Join(tx.SaveRequest(request("r")), tx.SaveRequest(approved), tx.SaveGrant(grantOf(approved)), tx.SaveGrant(more))
		},
		"UNIQUE constraint failed: tokens.hash": func(tx session.Tx) error {
			return errors.Join(tx.SaveToken(identity.TokenRecord{ID: "t", Hash: [32]byte{1}}), tx.SaveToken(identity.TokenRecord{ID: "u", Hash: [32]byte{1}}))
		},
		"UNIQUE constraint failed: sign_ins.cookie": func(tx session.Tx) error {
			return errors.Join(tx.SaveSignIn(identity.SignIn{ID: "s", User: alice, Cookie: [32]byte{1}}), tx.SaveSignIn(identity.SignIn{ID: "t", User: alice, Cookie: [32]byte{1}}))
		},
	} {
		if err := update(t, fresh(t), do); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q", err, name)
		}
	}
}

// Nobody who has the file open beside the gate deletes what was, by mistake.
func TestWhatWasIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	r := request("r")
	approved := r
	approved.State = session.RequestApproved
	g := grantOf(approved)
	if err := update(t, open(t, path), func(tx session.Tx) error {
		return errors.Join(tx.SaveRequest(r), tx.SaveRequest(approved), tx.SaveGrant(g), tx.SaveSession(recordOf(g)),
			tx.SaveReview(session.Review{ID: g.ID, State: session.ReviewOpen, Key: g.Key}))
	}); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // the end of the test
	for _, table := range []string{"reviews", "sessions", "grants", "requests"} {
		if _, err := db.ExecContext(t.Context(), "DELETE FROM "+table); err == nil || !strings.Contains(err.Error(), table+" are kept") {
			t.Errorf("%s: %v", table, err)
		}
	}
}

// An older gate does not serve from what a newer one has written.
func TestNewerStoreIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "PRAGMA user_version = 1000"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(path, plain{}); err == nil || !strings.Contains(err.Error(), "run the newer sallyport") {
		t.Errorf("got %v", err)
	}
}

// A state change and its entry are one transaction: an error leaves neither, and
// gives no counter away.
func TestOutboxIsPartOfTheChange(t *testing.T) {
	db := fresh(t)
	broken := errors.New("changed my mind")
	err := update(t, db, func(tx session.Tx) error {
		return errors.Join(tx.SaveRequest(request("r")), tx.Log(audit.Event{Type: "request.created"}), broken)
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	counter, err := db.Update(t.Context(), func(tx session.Tx) error {
		return errors.Join(tx.SaveRequest(request("r")), tx.Log(audit.Event{Type: "request.created"}), tx.Log(audit.Event{Type: "request.approved"}))
	})
	if err != nil || counter != 2 {
		t.Fatalf("counter %d, %v; want 2", counter, err)
	}
	rows, err := db.Outbox(t.Context(), 0, 10)
	if err != nil || len(rows) != 2 || rows[0].Counter != 1 || rows[1].Counter != 2 || string(rows[1].Leaf) != "request.approved" {
		t.Fatalf("outbox %v, %v", rows, err)
	}
	if err := db.Logged(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if rows, err = db.Outbox(t.Context(), 0, 10); err != nil || len(rows) != 1 {
		t.Fatalf("outbox after logging: %v, %v", rows, err)
	}
	if given, err := db.Counter(t.Context()); err != nil || given != 2 {
		t.Fatalf("counter %d, %v", given, err)
	}
}

// Updates that share a commit must not share a fate: one that fails takes nothing
// of the others with it, and counters stay gapless.
func TestUpdatesShareACommitOnly(t *testing.T) {
	db := fresh(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			err := update(t, db, func(tx session.Tx) error {
				if err := errors.Join(tx.SaveRequest(request(fmt.Sprint("r", i))), tx.Log(audit.Event{Type: fmt.Sprint(i)})); err != nil {
					return err
				}
				switch {
				case i%3 == 0:
					return errors.New("no")
				case i%7 == 0:
					panic("also no")
				}
				return nil
			})
			if fails := i%3 == 0 || i%7 == 0; fails != (err != nil) {
				t.Errorf("update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	rows, err := db.Outbox(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for i := range 200 {
		if i%3 != 0 && i%7 != 0 {
			kept++
		}
	}
	if len(rows) != kept {
		t.Fatalf("%d rows in the outbox, want %d", len(rows), kept)
	}
	for i, row := range rows {
		if row.Counter != uint64(i+1) {
			t.Fatalf("row %d has counter %d: a gap", i, row.Counter)
		}
	}
}

func TestClosedAndReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := store.Open(path, plain{})
	if err != nil {
		t.Fatal(err)
	}
	want := request("r")
	want.Input.Reason = "INC-42 ünïcödé"
	if err := update(t, db, func(tx session.Tx) error { return tx.SaveRequest(want) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Update(t.Context(), func(session.Tx) error { return nil }); err == nil {
		t.Fatal("a closed store took an update")
	}
	db = open(t, path)
	if err := db.View(t.Context(), func(tx session.Tx) error {
		got, err := tx.Request("r")
		if err == nil && (got.Input.Reason != want.Input.Reason || !got.TimesOut.Equal(want.TimesOut) || got.User.ID() != alice.ID()) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		_, missing := tx.Request("nobody's")
		if !errors.Is(missing, session.ErrNotFound) {
			t.Errorf("missing request: %v", missing)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestStoreReadableByOthersIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(path, plain{})
	if err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("got %v, want the command that mends it", err)
	}
}

func TestViewCannotLog(t *testing.T) {
	db := fresh(t)
	err := db.View(t.Context(), func(tx session.Tx) error { return tx.Log(audit.Event{Type: "x"}) })
	if err == nil {
		t.Fatal("a view logged")
	}
	if err := db.View(t.Context(), func(tx session.Tx) error { return tx.SaveRequest(request("r")) }); err == nil {
		t.Fatal("a view saved")
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			db := fresh(b)
			var next sync.Mutex
			n := 0
			b.SetParallelism(writers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					next.Lock()
					n++
					id := fmt.Sprint("r", n)
					next.Unlock()
					if _, err := db.Update(context.Background(), func(tx session.Tx) error {
						return errors.Join(tx.SaveRequest(request(id)), tx.Log(audit.Event{Type: "request.created"}))
					}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// A listing that is read in pages has every row once, those of one instant too.
func TestPagesLoseNothingOfOneInstant(t *testing.T) {
	db := fresh(t)
	instant := time.Now()
	if _, err := db.Update(t.Context(), func(tx session.Tx) error {
		for i := range 25 {
			r := request(fmt.Sprintf("r%02d", 24-i))
			r.Created = instant.Add(time.Duration(i/10) * time.Nanosecond)
			if err := tx.SaveRequest(r); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 3, 7, 25} {
		seen := map[string]bool{}
		var at session.Cursor
		for pages := 0; ; pages++ {
			var rows []session.Request
			err := db.View(t.Context(), func(tx session.Tx) (err error) {
				rows, err = tx.Requests(session.Filter{Before: at, Limit: size})
				return err
			})
			if err != nil || pages > 25 {
				t.Fatalf("page %d of %d: %v", pages, size, err)
			}
			if len(rows) == 0 {
				break
			}
			for _, r := range rows {
				if seen[r.ID] {
					t.Errorf("pages of %d: %s comes twice", size, r.ID)
				}
				seen[r.ID] = true
			}
			last := rows[len(rows)-1]
			at = session.Cursor{Created: last.Created, ID: last.ID}
		}
		if len(seen) != 25 {
			t.Errorf("pages of %d show %d rows of 25", size, len(seen))
		}
	}
	// A time alone is older than that time.
	if err := db.View(t.Context(), func(tx session.Tx) error {
		rows, err := tx.Requests(session.Filter{Before: session.Cursor{Created: instant.Add(time.Nanosecond)}})
		if err == nil && len(rows) != 10 {
			err = fmt.Errorf("%d rows", len(rows))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
