// Package tally counts by name what must not be kept one by one.
package tally

import "sync"

// A Tally counts at most so many names between two calls of Take; the zero Most counts
// none. It is safe for many goroutines.
type Tally struct {
	Most int

	mu     sync.Mutex
	counts map[string]int
}

// Add counts one more of a name, and says how many that makes since the last Take; 0
// where there is no room for another name.
func (t *Tally) Add(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts[name] == 0 && len(t.counts) >= t.Most {
		return 0
	}
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts[name]++
	return t.counts[name]
}

// Take gives what was counted beyond so many of a name, and begins anew.
func (t *Tally) Take(beyond int) map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := map[string]int{}
	for name, n := range t.counts {
		if n > beyond {
			taken[name] = n - beyond
		}
	}
	t.counts = nil
	return taken
}
