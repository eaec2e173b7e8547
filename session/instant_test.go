package session_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// Yes, no and the time-out come at one instant, and in the one before it: each request
// has one outcome, and the log tells it once.
func TestAnswersAtTheInstantOfTheTimeOut(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := gatetest.New(t, gatetest.Options{Dir: dir})
		alice, bob, carol := f.SignIn(t, gatetest.Alice), f.SignIn(t, gatetest.Bob), f.SignIn(t, gatetest.Carol)
		const requests = 40 // of one person at once; each is for another length
		var all []session.Request
		for i := range requests {
			r, err := f.Ask(t.Context(), alice, here, session.NewRequest{
				Target: "orders", Role: []string{"reader", "writer"}[i%2], Reason: "INC-42", Duration: time.Duration(i+1) * time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		var answers sync.WaitGroup
		for i, r := range all {
			answer := func(do func() error) {
				answers.Go(func() {
					time.Sleep(time.Until(r.TimesOut.Add(-time.Duration(i%4/2) * time.Nanosecond)))
					_ = do() // most are too late, and are told so
				})
			}
			answer(func() error { _, err := f.Decide(t.Context(), bob, r.ID, yes); return err })
			answer(func() error { _, err := f.Decide(t.Context(), carol, r.ID, session.Verdict{}); return err })
		}
		answers.Wait()
		time.Sleep(time.Second)
		outcomes := map[session.RequestState]int{}
		for _, r := range all {
			now, err := f.Request(t.Context(), alice, r.ID)
			if err != nil || now.State == session.RequestPending {
				t.Errorf("%s: %v, %v", r.ID, now.State, err)
			}
			outcomes[now.State]++
		}
		told := map[session.RequestState]int{
			session.RequestApproved: f.Count(t, audit.RequestApproved), session.RequestDenied: f.Count(t, audit.RequestDenied), session.RequestTimedOut: f.Count(t, audit.RequestTimedOut),
		}
		for state, n := range told {
			if outcomes[state] != n {
				t.Errorf("%d requests are %s, and the log tells of %d", outcomes[state], state, n)
			}
		}
		if outcomes[session.RequestTimedOut] < requests/2 || f.Count(t, audit.GrantActive) != outcomes[session.RequestApproved] {
			t.Errorf("outcomes %v", outcomes)
		}
		f.Close(t)
	})
}
