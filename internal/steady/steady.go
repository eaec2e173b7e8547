// Package steady is a wall clock that never goes back.
package steady

import (
	"sync"
	"time"
)

// A Clock follows the wall clock forward. Where that is set back, it goes on by the
// machine's own count of time (the monotonic reading), so that nothing which ends at a
// wall clock's time lasts longer for it.
type Clock struct {
	wall func() time.Time

	mu sync.Mutex
	at time.Time // what was said last
	by time.Time // when, with the monotonic reading
}

// New makes a clock that follows wall.
func New(wall func() time.Time) *Clock { return &Clock{wall: wall} }

// Now is never before what it was.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	by, at := time.Now(), c.wall().Round(0)
	if !c.by.IsZero() {
		if went := c.at.Add(by.Sub(c.by)); went.After(at) {
			at = went
		}
	}
	c.at, c.by = at, by
	return at
}
