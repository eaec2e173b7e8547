// Package hub tells those who wait that something changed.
package hub

import (
	"context"
	"sync"
)

// A Hub carries changes of type T. Signals are edge-less: a channel of capacity one says
// "look again", however many changes there were.
type Hub[T any] struct {
	key func(T) string

	mu   sync.Mutex
	one  map[string]map[chan struct{}]struct{} // by key
	all  map[chan T]struct{}
	gone bool
}

// New makes a hub. key names the thing that a change is of.
func New[T any](key func(T) string) *Hub[T] {
	return &Hub[T]{key: key, one: map[string]map[chan struct{}]struct{}{}, all: map[chan T]struct{}{}}
}

// Watch returns a channel that is signalled after each change of one thing.
func (h *Hub[T]) Watch(key string) (signal <-chan struct{}, stop func()) {
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

// Tell signals changes. It never blocks: a watcher of everything that does not read
// loses some.
func (h *Hub[T]) Tell(changes ...T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, change := range changes {
		for c := range h.one[h.key(change)] {
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

// All returns changes as they happen, until ctx is done or the hub closes; then the
// channel is closed. A reader that falls behind by more than 256 changes misses some.
func (h *Hub[T]) All(ctx context.Context) <-chan T {
	c := make(chan T, 256)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		close(c)
		return c
	}
	h.all[c] = struct{}{}
	context.AfterFunc(ctx, func() { h.drop(c) })
	return c
}

func (h *Hub[T]) drop(c chan T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.all[c]; ok {
		delete(h.all, c)
		close(c)
	}
}

// Close ends the channels of All.
func (h *Hub[T]) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone = true
	for c := range h.all {
		delete(h.all, c)
		close(c)
	}
}
