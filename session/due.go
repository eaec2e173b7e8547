package session

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// due keeps the ends of pending requests, active grants and pipelines' sign-ins, and writes them down
// when they come. It does not cut sessions: each does that by its own timer, which
// no full disk and no other session can delay.
type due struct {
	passed func(kind string, ids []string)

	mu    sync.Mutex
	items dueHeap
	kick  chan struct{}
	quit  chan struct{}
	once  sync.Once
}

type dueItem struct {
	at       time.Time
	kind, id string
}

type dueHeap []dueItem

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(dueItem)) }
func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func newDue(passed func(string, []string)) *due {
	return &due{passed: passed, kick: make(chan struct{}, 1), quit: make(chan struct{})}
}

// add arms an end. Adding a thing again with a later end is fine: what is due is
// looked at again before it is acted on.
func (d *due) add(kind, id string, at time.Time) {
	d.mu.Lock()
	heap.Push(&d.items, dueItem{at: at, kind: kind, id: id})
	d.mu.Unlock()
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// longSleep bounds one sleep, so that a wall clock that was set is noticed.
const longSleep = time.Minute

func (d *due) run() {
	timer := time.NewTimer(longSleep)
	defer timer.Stop()
	for {
		passed, next := d.take(time.Now())
		for _, kind := range dueKinds {
			if len(passed[kind]) > 0 {
				d.passed(kind, passed[kind])
			}
		}
		timer.Reset(min(next, longSleep))
		select {
		case <-timer.C:
		case <-d.kick:
		case <-d.quit:
			return
		}
	}
}

// dueKinds are what ends, in the order in which it is written down.
var dueKinds = []string{"request", "grant", "sign-in"}

// take removes what is due, by kind, and says how long until the next.
func (d *due) take(now time.Time) (passed map[string][]string, next time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	passed = map[string][]string{}
	for len(d.items) > 0 && !d.items[0].at.After(now) {
		item := heap.Pop(&d.items).(dueItem)
		passed[item.kind] = append(passed[item.kind], item.id)
	}
	if len(d.items) == 0 {
		return passed, longSleep
	}
	return passed, d.items[0].at.Sub(now)
}

func (d *due) close() { d.once.Do(func() { close(d.quit) }) }

// passed writes down requests and grants whose end has come. It looks again inside
// the transaction: somebody may have decided at the same moment.
func (g *Gate) passed(kind string, ids []string) {
	var changes []Change
	err := g.restrict(context.Background(), func(t Tx) error {
		changes = changes[:0]
		for _, id := range ids {
			change, err := g.pass(t, kind, id, time.Now())
			if err != nil {
				return err
			}
			changes = append(changes, change...)
		}
		return nil
	})
	if err != nil {
		return
	}
	g.hub.tell(changes...)
	for _, change := range changes {
		if change.Kind == "request" {
			g.call(change.ID)
		}
	}
}

func (g *Gate) pass(t Tx, kind, id string, now time.Time) ([]Change, error) {
	switch kind {
	case "sign-in":
		return g.passWorkload(t, id, now)
	case "request":
		r, err := t.Request(id)
		if err != nil || r.State != RequestPending || now.Before(r.TimesOut) {
			return nil, err
		}
		r.State, r.Decided = RequestTimedOut, now
		r.Outcome = "nobody answered by " + clock(r.TimesOut)
		return []Change{{"request", r.ID, r.User.ID()}}, g.saveRequest(t, r, audit.RequestTimedOut, "gate", nil)
	}
	gr, err := t.Grant(id)
	if err != nil || gr.State != GrantActive {
		return nil, err
	}
	if now.Before(gr.Ends) { // it was lengthened meanwhile
		g.due.add("grant", gr.ID, gr.Ends)
		return nil, nil
	}
	gr.State, gr.Ended, gr.EndedBy = GrantExpired, now, "gate"
	return []Change{{"grant", gr.ID, gr.Key.User}}, saveGrant(t, gr, audit.GrantExpired, "gate", nil)
}
