package postgres

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"
)

// keys are the cancel keys of the sessions that live now. They are the gate's own:
// a client never learns the target's.
type keys struct {
	mu   sync.Mutex
	live map[uint32]*key
}

type key struct {
	secret []byte
	cancel func(context.Context)
	busy   bool           // a cancel is under way
	wait   sync.WaitGroup // the cancel under way
}

// issue makes a key for a session. Protocol 3.2 has room for a longer secret. drop
// takes it back and waits for a cancel that is under way.
func (k *keys) issue(version uint32, cancel func(context.Context)) (pid uint32, secret []byte, drop func()) {
	size := 4
	if version >= version32 {
		size = 32
	}
	secret = make([]byte, size)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	one := &key{secret: secret, cancel: cancel}
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		var b [4]byte
		_, _ = rand.Read(b[:])
		pid = binary.BigEndian.Uint32(b[:]) >> 1 // a pid is positive
		if _, taken := k.live[pid]; pid != 0 && !taken {
			break
		}
	}
	k.live[pid] = one
	return pid, secret, func() {
		k.mu.Lock()
		delete(k.live, pid)
		k.mu.Unlock()
		one.wait.Wait()
	}
}

// use cancels what the key stands for, and returns when the target has taken it. An
// unknown key is ignored, and so is a second cancel while the first is under way: it
// would make connections to the target for free.
func (k *keys) use(ctx context.Context, pid uint32, secret []byte) {
	k.mu.Lock()
	one := k.live[pid]
	if one == nil || one.busy || subtle.ConstantTimeCompare(one.secret, secret) != 1 {
		k.mu.Unlock()
		return
	}
	one.busy = true
	one.wait.Add(1)
	k.mu.Unlock()
	one.cancel(ctx)
	k.mu.Lock()
	one.busy = false
	k.mu.Unlock()
	one.wait.Done()
}

// cancelRequest serves a connection that only wants to cancel. Like PostgreSQL it
// says nothing, whatever comes of it.
func (c *conn) cancelRequest(ctx context.Context, body []byte) {
	c.told = true
	if len(body) < 8 || len(body) > 4+256 {
		return
	}
	c.h.keys.use(ctx, binary.BigEndian.Uint32(body), body[4:])
}
