package session

import (
	"context"

	"github.com/sallyport/sallyport/identity"
)

// The kinds of Notice.
const (
	NoticeWaiting   = "request.waiting"
	NoticeApproved  = "request.approved"
	NoticeDenied    = "request.denied"
	NoticeTimedOut  = "request.timed-out"
	NoticeWithdrawn = "request.withdrawn"

	NoticeGlassBroken   = "glass.broken"
	NoticeReviewOverdue = "review.overdue"
	NoticeReviewDone    = "review.done"
)

// A Notice tells people about a Request: those who can decide that one waits, or the
// requester how it ended; those who review it that it broke the glass.
type Notice struct {
	Kind    string          // one of the constants above
	Request Request         // as it stood when the notice was made
	To      []identity.User // whom it concerns: those who can decide, or the requester
	Say     string          // one sentence
	URL     string          // the page that shows the request; opening it never decides
}

// A Notifier carries notices to people. Notify only queues and returns at once,
// whatever the state of networks and queues, so that no receiver holds up the gate. It
// may be called by several goroutines. A notice is not a state change: the gate's work
// does not depend on its arrival.
type Notifier interface {
	Notify(ctx context.Context, n Notice)
}
