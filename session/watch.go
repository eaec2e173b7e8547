package session

import (
	"context"
	"sync"
)

// A Change says that something may look different now. It carries no state: whoever
// hears of it reads the state again, with its own rights.
type Change struct {
	Kind string // hold, request, grant, session, sign-in
	ID   string
	User string // identity.User.ID whom it concerns
}

// hub tells waiters about changes. Signals are edge-less: a channel of capacity one
// says "look again", however many changes there were.
type hub struct {
	mu   sync.Mutex
	one  map[string]map[chan struct{}]struct{} // by kind and ID
	all  map[chan Change]struct{}
	gone bool
}

func newHub() *hub {
	return &hub{one: map[string]map[chan struct{}]struct{}{}, all: map[chan Change]struct{}{}}
}

// watch returns a channel that is signalled after each change of one thing.
func (h *hub) watch(kind, id string) (signal <-chan struct{}, stop func()) {
	key := kind + " " + id
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.one[key] == nil {
		h.one[key] = map[chan struct{}]struct{}{}
	}
	h.one[key][c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.one[key], c)
		if len(h.one[key]) == 0 {
			delete(h.one, key)
		}
	}
}

// tell signals a change. It never blocks: a watcher of everything that does not
// read loses changes, and pages read the whole state again anyway.
func (h *hub) tell(changes ...Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, change := range changes {
		for c := range h.one[change.Kind+" "+change.ID] {
			select {
			case c <- struct{}{}:
			default:
			}
		}
		for c := range h.all {
			select {
			case c <- change:
			default:
			}
		}
	}
}

// Watch returns changes as they happen, until ctx is done; then the channel is
// closed. A reader that falls behind by more than 256 changes misses some.
func (g *Gate) Watch(ctx context.Context) <-chan Change {
	c := make(chan Change, 256)
	g.hub.mu.Lock()
	defer g.hub.mu.Unlock()
	if g.hub.gone {
		close(c)
		return c
	}
	g.hub.all[c] = struct{}{}
	context.AfterFunc(ctx, func() { g.hub.drop(c) })
	return c
}

func (h *hub) drop(c chan Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.all[c]; ok {
		delete(h.all, c)
		close(c)
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone = true
	for c := range h.all {
		delete(h.all, c)
		close(c)
	}
}
