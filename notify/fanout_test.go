package notify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/session"
)

// trial is a sink whose answers the test gives.
type trial struct {
	what  string
	mu    sync.Mutex
	tries []time.Time
	ids   []string
	say   func(ctx context.Context, d *delivery) error
}

func (s *trial) name() string              { return s.what }
func (s *trial) wants(session.Notice) bool { return true }

func (s *trial) send(ctx context.Context, d *delivery) error {
	s.mu.Lock()
	s.tries, s.ids = append(s.tries, time.Now()), append(s.ids, d.id)
	s.mu.Unlock()
	return s.say(ctx, d)
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := &trial{what: "down", say: func(context.Context, *delivery) error { return errors.New("nobody there") }}
		var got reports
		f := start([]sink{down}, firstPause, got.add, quiet)
		defer f.Close()
		begin := time.Now()
		f.Notify(t.Context(), notice("bob@example.com"))
		<-time.After(time.Hour)
		synctest.Wait()
		var after []time.Duration
		for _, at := range down.tries {
			after = append(after, at.Sub(begin)/time.Second)
		}
		if want := []time.Duration{0, 7, 35, 147, 595}; !slices.Equal(after, want) {
			t.Errorf("tried after %d seconds, want %d", after, want)
		}
		if len(slices.Compact(down.ids)) != 1 {
			t.Errorf("tries of one notice have ids %q", down.ids)
		}
		if all := got.all(); len(all) != 1 || all[0].sink != "down" || all[0].err.Error() != "nobody there" || all[0].at.Sub(begin) != 595*time.Second {
			t.Errorf("reported %+v", all)
		}
	})
}

func TestWhatIsHopelessIsReportedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trial{what: "mail", say: func(context.Context, *delivery) error { return final{errors.New("no such mailbox")} }}
		var got reports
		f := start([]sink{s}, firstPause, got.add, quiet)
		defer f.Close()
		f.Notify(t.Context(), notice())
		synctest.Wait()
		if len(s.tries) != 1 || len(got.all()) != 1 {
			t.Errorf("%d tries, reports %+v", len(s.tries), got.all())
		}
	})
}

func TestDeadReceiverHoldsUpNoOtherNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var arrived []string
		choosy := &trial{what: "choosy", say: func(_ context.Context, d *delivery) error {
			if d.notice.Request.ID == "7" {
				return errors.New("not this one")
			}
			arrived = append(arrived, d.notice.Request.ID)
			return nil
		}}
		hung := &trial{what: "hung", say: func(ctx context.Context, _ *delivery) error { <-ctx.Done(); return ctx.Err() }}
		f := start([]sink{hung, choosy}, firstPause, nil, quiet)
		defer f.Close()
		f.Notify(t.Context(), notice())
		second := notice()
		second.Request.ID = "8"
		f.Notify(t.Context(), second)
		synctest.Wait()
		if !slices.Equal(arrived, []string{"8"}) {
			t.Errorf("arrived: %q", arrived)
		}
	})
}

// The caller holds a lock that the report needs, as the gate may.
func TestFullQueueReportsAndNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		s := &trial{what: "slow", say: func(context.Context, *delivery) error { <-open; return nil }}
		var gate sync.Mutex
		var lost []error
		f := start([]sink{s}, firstPause, func(_ string, _ session.Notice, err error) {
			gate.Lock()
			defer gate.Unlock()
			lost = append(lost, err)
		}, quiet)
		defer f.Close()
		f.Notify(t.Context(), notice())
		synctest.Wait() // the worker has it in hand
		gate.Lock()
		for range MaxQueue + 3 {
			f.Notify(t.Context(), notice())
		}
		gate.Unlock()
		close(open)
		synctest.Wait()
		if len(s.tries) != MaxQueue+1 || len(lost) != 3 || !errors.Is(lost[0], errFull) {
			t.Errorf("%d tries, lost %v", len(s.tries), lost)
		}
	})
}

func TestCloseWaitsBrieflyAndReportsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &trial{what: "hung", say: func(ctx context.Context, d *delivery) error {
			if d.notice.Request.ID == "early" {
				return errors.New("refused")
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		var got reports
		f := start([]sink{s}, firstPause, got.add, quiet)
		early := notice()
		early.Request.ID = "early"
		f.Notify(t.Context(), early)
		synctest.Wait()
		f.Notify(t.Context(), notice())
		f.Notify(t.Context(), notice())
		begin := time.Now()
		f.Close()
		if took := time.Since(begin); took != closeGrace {
			t.Errorf("Close took %v", took)
		}
		f.Notify(t.Context(), notice())
		all := got.all()
		if len(all) != 3 {
			t.Fatalf("reported %+v", all)
		}
		for _, r := range all {
			if !errors.Is(r.err, errStopped) {
				t.Errorf("%s: %v", r.n.Request.ID, r.err)
			}
			if r.n.Request.ID == "early" && !strings.Contains(r.err.Error(), "before that: refused") {
				t.Errorf("the first cause is lost: %v", r.err)
			}
		}
	})
}

func TestNobodyIsToldWhereNothingIsConfigured(t *testing.T) {
	f, err := New(Config{}, nil, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	f.Notify(t.Context(), notice("bob@example.com"))
	f.Close()
}
