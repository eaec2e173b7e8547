package session

import "context"

// A Change says that something may look different now. It carries no state: whoever
// hears of it reads the state again, with its own rights.
type Change struct {
	Kind string // hold, request, grant, session, sign-in, review
	ID   string
	User string // identity.User.ID whom it concerns
}

func (c Change) key() string { return c.Kind + " " + c.ID }

// Watch returns changes as they happen, until ctx is done; then the channel is
// closed. A reader that falls behind by more than 256 changes misses some.
func (g *Gate) Watch(ctx context.Context) <-chan Change { return g.hub.All(ctx) }
