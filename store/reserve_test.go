package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/smalldisk"
	"github.com/sallyport/sallyport/session"
	"github.com/sallyport/sallyport/store"
)

// Class: disk full locks everyone out, and a revoke that was not on disk is undone by
// the next start.
func TestRestrictionsFindRoomOnAFullDisk(t *testing.T) {
	disk := smalldisk.Mount(t, t.TempDir(), 20)
	path := filepath.Join(disk.Dir, "state.db")
	db, err := store.Open(path, plain{})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			db.Close() //nolint:errcheck // the test has failed
		}
	}()
	r := request("r")
	g := grantOf(r)
	for _, fn := range []func(session.Tx) error{
		func(tx session.Tx) error { return tx.SaveRequest(r) },
		func(tx session.Tx) error { r.State = session.RequestApproved; return tx.SaveRequest(r) },
		func(tx session.Tx) error { return tx.SaveGrant(g) },
	} {
		if err := update(t, db, fn); err != nil {
			t.Fatal(err)
		}
	}
	disk.Fill(t)
	for i := 0; ; i++ { // until SQLite needs room that is not there
		if err := update(t, db, func(tx session.Tx) error { return tx.SaveRequest(request(fmt.Sprintf("fill-%d", i))) }); err != nil {
			if !errors.Is(err, audit.ErrFull) {
				t.Fatalf("a full disk is told as %v", err)
			}
			break
		}
	}
	revoke := func(tx session.Tx) error {
		gone := g
		gone.State, gone.Ended = session.GrantRevoked, time.Now()
		if err := tx.SaveGrant(gone); err != nil {
			return err
		}
		return tx.Log(audit.Event{Type: audit.GrantRevoked, Grant: g.ID})
	}
	if counter, err := db.Restrict(t.Context(), revoke); err != nil || counter == 0 {
		t.Fatalf("revoke on a full disk: %d, %v", counter, err)
	}
	if _, err := os.Stat(path + "-reserve"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the reserve was not needed (%v): this test sees nothing", err)
	}
	// What the reserve gave is for restrictions alone.
	if err := update(t, db, func(tx session.Tx) error { return tx.SaveRequest(request("late")) }); !errors.Is(err, audit.ErrFull) {
		t.Errorf("a new request took of the reserve: %v", err)
	}
	disk.Free(t)
	waitFor(t, func() bool {
		return update(t, db, func(tx session.Tx) error { return tx.SaveRequest(request("after")) }) == nil
	})
	if info, err := os.Stat(path + "-reserve"); err != nil || info.Size() < 1<<20 {
		t.Errorf("with room again there is no reserve: %v, %v", info, err)
	}
	closed = true
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, path)
	err = db.View(t.Context(), func(tx session.Tx) error {
		got, err := tx.Grant(g.ID)
		if err == nil && got.State != session.GrantRevoked {
			t.Errorf("after a restart the grant is %s", got.State)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("not within 10 seconds")
		}
	}
}

func TestNoRoomForTheReserveIsSaid(t *testing.T) {
	_, err := store.Open(filepath.Join(smalldisk.Mount(t, t.TempDir(), 4).Dir, "state.db"), plain{})
	if err == nil || !strings.Contains(err.Error(), "keep 8 MiB in reserve") || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
