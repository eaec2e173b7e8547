// Package leak finds goroutines of ours that a test leaves behind. Every goroutine here
// has an owner that waits for it; one that outlives its test has none.
package leak

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Patience is how long a goroutine may need to end once nobody needs it.
const Patience = 5 * time.Second

// Check fails the test if a goroutine that began after this call, and that runs code of
// this module, is still there when the test and its later cleanups are over. Call it
// first in a test. It is of no use beside t.Parallel, where other tests begin goroutines,
// nor inside synctest, which has its own check.
func Check(t testing.TB) {
	t.Helper()
	before := goroutines()
	t.Cleanup(func() {
		for _, stack := range left(before, Patience) {
			t.Errorf("left behind:\n%s", stack)
		}
	})
}

// left waits until nothing is left that is not in before, and returns what still is.
func left(before map[string]string, patience time.Duration) []string {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		var more []string
		for id, stack := range goroutines() {
			if _, old := before[id]; !old && ours(stack) {
				more = append(more, stack)
			}
		}
		if len(more) == 0 {
			return nil
		}
		select {
		case <-end:
			return more
		case <-tick.C:
		}
	}
}

// ours says whether a stack has a frame of this module, other than the test's own and
// the checker's.
func ours(stack string) bool {
	return strings.Contains(stack, "github.com/sallyport/sallyport/") && !strings.Contains(stack, "testing.tRunner(") && !strings.Contains(stack, "leak.goroutines(")
}

// goroutines gives every goroutine's stack by its number.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	all := map[string]string{}
	for _, stack := range bytes.Split(buf, []byte("\n\n")) {
		id, _, _ := strings.Cut(strings.TrimPrefix(string(stack), "goroutine "), " ")
		all[id] = string(stack)
	}
	return all
}
