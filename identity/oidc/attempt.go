package oidc

import (
	"container/list"
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/netsource"
)

const (
	// attemptLife is how long a person may take at the provider.
	attemptLife = 10 * time.Minute
	// maxAttempts bounds the memory that sign-ins begun by anybody take (about 10
	// MiB). Beyond it the oldest gives way: refusing new ones would let a flood
	// lock everybody out for ten minutes.
	maxAttempts = 16384
	// maxPerSource is how many of them one network has. Beyond it its own oldest gives
	// way, so that nobody pushes other people's out. An office behind one address has
	// room.
	maxPerSource = 512
)

// An attempt is what is remembered of a sign-in between its two halves.
type attempt struct {
	issuer   string
	binding  [32]byte // SHA-256 of the browser's cookie
	nonce    string
	verifier string
	returnTo string
	fresh    bool
	began    time.Time
	source   netip.Addr // the browser's network; zero: not known, and not bounded by itself

	key        [32]byte
	order, own *list.Element // where it is in attempts
}

// attempts is keyed by the SHA-256 of the state. It needs no sweeper: order is
// sorted by time, so expired ones leave at its front with each new one.
type attempts struct {
	mu       sync.Mutex
	byState  map[[32]byte]*attempt
	order    *list.List                // of *attempt, as they began
	bySource map[netip.Addr]*list.List // the same, of one network each
}

func newAttempts() *attempts {
	return &attempts{byState: map[[32]byte]*attempt{}, order: list.New(), bySource: map[netip.Addr]*list.List{}}
}

func (a *attempts) put(state string, at attempt) {
	at.key, at.source = sha256.Sum256([]byte(state)), netsource.Of(at.source)
	a.mu.Lock()
	defer a.mu.Unlock()
	if own := a.bySource[at.source]; own != nil && at.source.IsValid() && own.Len() >= maxPerSource {
		a.drop(own.Front().Value.(*attempt))
	}
	for a.order.Len() > 0 {
		oldest := a.order.Front().Value.(*attempt)
		if at.began.Sub(oldest.began) < attemptLife && a.order.Len() < maxAttempts {
			break
		}
		a.drop(oldest)
	}
	if a.bySource[at.source] == nil {
		a.bySource[at.source] = list.New()
	}
	a.byState[at.key] = &at
	at.order, at.own = a.order.PushBack(&at), a.bySource[at.source].PushBack(&at)
}

// drop forgets an attempt; mu is held.
func (a *attempts) drop(at *attempt) {
	delete(a.byState, at.key)
	a.order.Remove(at.order)
	own := a.bySource[at.source]
	if own.Remove(at.own); own.Len() == 0 {
		delete(a.bySource, at.source)
	}
}

// take removes the attempt, whatever becomes of it: a state serves once.
func (a *attempts) take(state, binding string, now time.Time) (attempt, error) {
	key := sha256.Sum256([]byte(state))
	a.mu.Lock()
	at, found := a.byState[key]
	if found {
		a.drop(at)
	}
	a.mu.Unlock()
	if !found {
		return attempt{}, fail("this sign-in was used already, or was not begun here; begin again", nil)
	}
	if now.Sub(at.began) >= attemptLife {
		return attempt{}, fail("this sign-in took longer than 10 minutes; begin again", nil)
	}
	shown := sha256.Sum256([]byte(binding))
	if subtle.ConstantTimeCompare(shown[:], at.binding[:]) != 1 {
		return attempt{}, fail("this sign-in was begun in another browser; begin again in this one", nil)
	}
	return *at, nil
}
