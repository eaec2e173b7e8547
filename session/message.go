package session

import (
	"context"
	"errors"

	"github.com/sallyport/sallyport/identity"
)

// Message is the one sentence that a user is told about err, the same on every
// door; refuse.go of each protocol and the pages only dress it. ok is false for
// errors that are not meant for users: then say "internal error" with a reference
// (Gate.Message does).
func Message(err error) (say string, ok bool) {
	var denied *Denied
	var invalid *Invalid
	var held *Held
	var ended *Ended
	var failed *Failed
	switch {
	case errors.As(err, &ended):
		return ended.Say, true
	case errors.As(err, &denied):
		return denied.Error(), true
	case errors.As(err, &invalid):
		return invalid.Error(), true
	case errors.As(err, &held):
		return held.Error(), true
	case errors.As(err, &failed):
		return failed.Say, true
	case errors.Is(err, ErrNotFound):
		return "there is no such thing here, or it is not yours to see", true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "the connection ended", true
	}
	return "internal error", false
}

// Message is as the function of that name, and logs what users must not see under
// a reference that they can pass on.
func (g *Gate) Message(err error) string {
	say, ok := Message(err)
	var failed *Failed
	switch {
	case errors.As(err, &failed) && failed.Err != nil:
		g.c.Logger.Warn("something behind the gate failed", "say", failed.Say, "err", failed.Err)
	case !ok:
		ref := identity.NewReference()
		g.c.Logger.Error("internal error", "ref", ref, "err", err)
		return say + ", ref " + ref
	}
	return say
}
