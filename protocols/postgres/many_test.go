//go:build !race

package postgres

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/session"
)

// extend lengthens a grant again and again, until stop is closed.
func (r *rig) extend(who person, grant string, by time.Duration, stop <-chan struct{}) error {
	tick := time.NewTicker(by / 3)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		if _, err := r.Ask(context.Background(), who.signIn, loopback, session.NewRequest{Extends: grant, Duration: by}); err != nil {
			return err
		}
	}
}

// open makes sessions of the role, several at a time.
func (r *rig) open(t testing.TB, who person, n int, settings string) []net.Conn {
	t.Helper()
	conns, err := openAll(r.dsn(&who, settings), n)
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	if err != nil {
		t.Fatalf("%.500v\n%.2000s", err, r.log)
	}
	return conns
}

// undisturbed lets this process, and what it starts, run before all others of the
// machine, where it may: what is measured is the gate, not its neighbours.
func undisturbed(t testing.TB) {
	t.Helper()
	set := func(nice int) {
		// Where the kernel groups processes by their terminal session, the group has one too.
		_ = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(nice)), 0)
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks { // Linux has it per thread
			if id, err := strconv.Atoi(task.Name()); err == nil {
				_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, nice)
			}
		}
	}
	before, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	set(-15)
	t.Cleanup(func() { set(20 - before) }) // the system call counts the other way round
}

// sessions are as many as a run of all tests has time for; make thousand asks for more,
// and make five-thousand for more than a real PostgreSQL has room for here.
var (
	sessions = flag.Int("sessions", 100, "live sessions that are cut at the same time")
	onSmall  = flag.Bool("small", false, "at a small server of the test's own, not at a real PostgreSQL")
)

// The hardest case is all of one grant: sessions that end in the same instant, on one
// target.
func TestManyLiveSessionsAreCutInTime(t *testing.T) {
	const lasts, silent = 10 * time.Second, time.Second
	many := *sessions
	late := 250 * time.Millisecond * time.Duration(max(1, many/1000)) // each thousand is a machine's work
	undisturbed(t)
	var r *rig
	var there *world // nil: clients are here
	backends := func() int { return r.backends(t, "writer", "") }
	if *onSmall {
		w, at := newWorld(t)
		there, r = w, newRig(t, rigOptions{pg: at})
		backends = func() int {
			w.says(t, struct{}{})
			return w.hears(t).Live
		}
	} else {
		r = newRig(t, rigOptions{pg: pgtest.New(t, many+60)})
	}
	alice := r.person(t, gatetest.Alice)
	begun := time.Now()
	conns := r.open(t, alice, 1, fmt.Sprintf("user=writer dbname=local options='-c sallyport.duration=%s'", lasts))
	// However long this machine takes to open them, the end comes soon after.
	opening, extended := make(chan struct{}), make(chan error, 1)
	go func() { extended <- r.extend(alice, r.live(t, alice.signIn).Grant, lasts, opening) }()
	if there != nil {
		there.says(t, worldOpens{r.dsn(&alice, "user=writer dbname=local"), many - 1})
		there.hears(t)
	} else {
		conns = append(conns, r.open(t, alice, many-1, "user=writer dbname=local")...)
	}
	close(opening)
	if err := <-extended; err != nil {
		t.Fatal(err)
	}
	opened := time.Now()
	ends := r.live(t, alice.signIn).Ends
	endings := useAll(conns)
	if there != nil {
		endings = append(endings, there.hears(t).Endings...)
	}
	t.Logf("opened in %v", opened.Sub(begun).Round(time.Millisecond))
	t.Logf("open for %v before the end", ends.Sub(opened).Round(time.Millisecond))
	var delays []time.Duration
	streamed := 0
	for i, e := range endings {
		if !strings.HasPrefix(e.Fatal, "sallyport: your access to local ended at ") || e.Err != "" {
			t.Errorf("session %d: told %v, last row %v after, %q, %s", i, e.Told.Sub(ends), e.Row.Sub(ends), e.Fatal, e.Err)
			continue
		}
		if e.Row.After(ends.Add(silent)) {
			t.Errorf("session %d: the last row came %v after the end", i, e.Row.Sub(ends))
		}
		if !e.Row.IsZero() {
			streamed++
		}
		delays = append(delays, e.Told.Sub(ends))
	}
	if streamed < many/10 {
		t.Errorf("only %d sessions had rows", streamed)
	}
	if slices.Sort(delays); len(delays) == many {
		t.Logf("told after the end: first %v, median %v, 99%% %v, last %v", delays[0], delays[many/2], delays[many*99/100], delays[many-1])
		if delays[0] < 0 || delays[many-1] > late {
			t.Errorf("the first is cut %v, the last %v after the end of the grant", delays[0], delays[many-1])
		}
	}
	for begun := time.Now(); ; {
		left, err := r.Sessions(t.Context(), alice.signIn, session.Filter{State: "live"})
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d sessions or more have not ended\n%.2000s", len(left), r.log)
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Logf("all had ended %v after the end", time.Since(ends).Round(time.Millisecond))
	if n := backends(); n != 0 {
		t.Errorf("%d backends are left", n)
	}
	if n := r.Count(t, audit.SessionAlarm); n != 0 {
		t.Errorf("%d alarms", n)
	}
}
