package oidc

import (
	"crypto/sha256"
	"crypto/subtle"
	"sync"
	"time"
)

const (
	// attemptLife is how long a person may take at the provider.
	attemptLife = 10 * time.Minute
	// maxAttempts bounds the memory that sign-ins begun by anybody take (about 10
	// MiB). Beyond it the oldest gives way: refusing new ones would let a flood
	// lock everybody out for ten minutes.
	maxAttempts = 16384
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
}

// attempts is keyed by the SHA-256 of the state. It needs no sweeper: order is
// sorted by time, so expired ones leave at its front with each new one.
type attempts struct {
	mu      sync.Mutex
	byState map[[32]byte]attempt
	order   [][32]byte // states as they began; those already taken may still be in it
}

func newAttempts() *attempts { return &attempts{byState: map[[32]byte]attempt{}} }

func (a *attempts) put(state string, at attempt) {
	key := sha256.Sum256([]byte(state))
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.order) > 0 {
		old, waits := a.byState[a.order[0]]
		if waits && at.began.Sub(old.began) < attemptLife && len(a.order) < maxAttempts {
			break
		}
		delete(a.byState, a.order[0])
		a.order = a.order[1:]
	}
	a.byState[key] = at
	a.order = append(a.order, key)
}

// take removes the attempt, whatever becomes of it: a state serves once.
func (a *attempts) take(state, binding string, now time.Time) (attempt, error) {
	key := sha256.Sum256([]byte(state))
	a.mu.Lock()
	at, found := a.byState[key]
	delete(a.byState, key)
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
	return at, nil
}
