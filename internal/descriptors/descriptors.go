// Package descriptors knows how many file descriptors the process has left, so that what is
// new is turned away while the log, the store and the recordings still have some.
package descriptors

import (
	"errors"
	"math"
)

// maxSpare is the most that is kept for what is there already.
const maxSpare = 64

// ErrFew says that there are too few left for what was asked.
var ErrFew = errors.New("too few file descriptors are left")

// Left is how many descriptors the process may still open, at the most, and how many of
// them a new connection must leave: an eighth of the process's limit, or 64.
func Left() (left, spare int) {
	limit, open := state()
	return max(limit-open, 0), min(limit/8, maxSpare)
}

// unlimited is the state where it is not known: what opens a file meets the limit itself.
func unlimited() (limit, open int) { return math.MaxInt32, 0 }
