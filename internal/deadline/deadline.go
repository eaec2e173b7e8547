// Package deadline keeps things that end, and says when they do.
package deadline

import (
	"container/heap"
	"sync"
	"time"
)

// A Queue keeps ends and calls back when they come, in the order of its kinds.
type Queue struct {
	now    func() time.Time
	passed func(kind string, ids []string)
	kinds  []string

	mu    sync.Mutex
	items items
	kick  chan struct{}
	quit  chan struct{}
	once  sync.Once
}

type item struct {
	at       time.Time
	kind, id string
}

type items []item

func (h items) Len() int           { return len(h) }
func (h items) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h items) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *items) Push(x any)        { *h = append(*h, x.(item)) }
func (h *items) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// New makes a queue by a clock that never goes back. passed is called from Run alone, with all of a kind that is due;
// of several kinds in the order of kinds.
func New(now func() time.Time, passed func(kind string, ids []string), kinds ...string) *Queue {
	return &Queue{now: now, passed: passed, kinds: kinds, kick: make(chan struct{}, 1), quit: make(chan struct{})}
}

// Add arms an end. Adding a thing again with another end is fine: it is called back for
// both, and whoever is called looks again before acting.
func (q *Queue) Add(kind, id string, at time.Time) {
	q.mu.Lock()
	heap.Push(&q.items, item{at: at, kind: kind, id: id})
	q.mu.Unlock()
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// longSleep bounds one sleep, so that a wall clock that was set is noticed.
const longSleep = time.Minute

// Run calls back until Close.
func (q *Queue) Run() {
	timer := time.NewTimer(longSleep)
	defer timer.Stop()
	for {
		passed, next := q.take(q.now())
		for _, kind := range q.kinds {
			if len(passed[kind]) > 0 {
				q.passed(kind, passed[kind])
			}
		}
		timer.Reset(min(next, longSleep))
		select {
		case <-timer.C:
		case <-q.kick:
		case <-q.quit:
			return
		}
	}
}

// take removes what is due, by kind, and says how long until the next.
func (q *Queue) take(now time.Time) (passed map[string][]string, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	passed = map[string][]string{}
	for len(q.items) > 0 && !q.items[0].at.After(now) {
		over := heap.Pop(&q.items).(item)
		passed[over.kind] = append(passed[over.kind], over.id)
	}
	if len(q.items) == 0 {
		return passed, longSleep
	}
	return passed, q.items[0].at.Sub(now)
}

// Close ends Run.
func (q *Queue) Close() { q.once.Do(func() { close(q.quit) }) }
