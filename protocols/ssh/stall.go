package ssh

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/session"
)

// Limits on what one connection may leave in the gate's memory. x/crypto/ssh lets each
// side of a channel send 2 MiB that are not carried on yet, and has no call to make it
// less. So what is bounded is how many channels may be in that state: both together 64
// MiB, and what comes in within stallAfter.
const (
	maxStalled = 16
	maxUnbegun = 16 // session channels that are open, and for nothing yet
	stallAfter = time.Second
)

// errStalled says that too many channels of a connection are not read from.
var errStalled = &session.Failed{
	Say: "too many channels of one connection are not read from; connect again", Err: errors.New("more than 16 channels are stalled"),
}

// stalls counts a connection's writes that wait for a reader.
type stalls struct {
	n    atomic.Int64
	over func(error) // ends the session
}

// A stallWriter is one side of a channel that is written to.
type stallWriter struct {
	io.Writer
	by *stalls
}

func (w stallWriter) Write(p []byte) (int, error) {
	counted := make(chan struct{})
	timer := time.AfterFunc(stallAfter, func() {
		defer close(counted)
		if w.by.n.Add(1) > maxStalled {
			w.by.over(errStalled)
		}
	})
	n, err := w.Writer.Write(p)
	if !timer.Stop() {
		<-counted
		w.by.n.Add(-1)
	}
	return n, err
}
