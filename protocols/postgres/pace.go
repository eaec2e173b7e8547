package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sallyport/sallyport/proxy"
)

// A grant may end for a thousand sessions in one instant. Each cancel then makes a
// process at the target, and each backend that leaves works for some milliseconds;
// all of that waits until the clients of the moment have been told, and is paced. It
// also bounds the second connections that the gate needs where a backend does not leave.
const (
	cancelsOnce = 4
	endingsOnce = 4
	tellWait    = proxy.CutWait + 50*time.Millisecond // a client that is not told by then is reset
)

// slots lets so many in as it has capacity.
type slots chan struct{}

var errNoSlot = errors.New("too many are under way")

func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errors.Join(errNoSlot, ctx.Err())
	}
}

func (s slots) give() { <-s }

// telling counts the clients that are about to be told of their session's end.
type telling struct {
	mu   sync.Mutex
	n    int           // below zero for a moment where one is told before it is counted
	none chan struct{} // closed when n is zero again; nil where nobody waits
}

func (t *telling) add(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n += n; t.n <= 0 && t.none != nil {
		close(t.none)
		t.none = nil
	}
}

// wait returns when nobody is left to be told, or after tellWait.
func (t *telling) wait() {
	t.mu.Lock()
	if t.n <= 0 {
		t.mu.Unlock()
		return
	}
	if t.none == nil {
		t.none = make(chan struct{})
	}
	none := t.none
	t.mu.Unlock()
	timer := time.NewTimer(tellWait)
	defer timer.Stop()
	select {
	case <-none:
	case <-timer.C:
	}
}

// pace is what one target is spared.
type pace struct {
	cancels, endings slots
	telling          *telling
}

// paces are the targets', by name.
type paces struct {
	telling telling
	mu      sync.Mutex
	all     map[string]*pace
}

// of returns the pace of a target. A policy has few targets, so none is forgotten.
func (p *paces) of(target string) *pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.all[target]
	if one == nil {
		one = &pace{make(slots, cancelsOnce), make(slots, endingsOnce), &p.telling}
		if p.all == nil {
			p.all = map[string]*pace{}
		}
		p.all[target] = one
	}
	return one
}
