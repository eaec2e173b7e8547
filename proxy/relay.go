package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/contain"
)

// CutWait is how long a client may take to let a message that it stands in the
// middle of, or the last words, pass at the cut. After that it is reset.
const CutWait = 200 * time.Millisecond

// MaxHold is the most that an observer may hold back, in bytes.
const MaxHold = 16 << 10

// ErrClient and ErrTarget say whose connection failed.
var (
	ErrClient = errors.New("the client's connection failed")
	ErrTarget = errors.New("the target's connection failed")
)

// ErrReset is joined to Relay's error where the client stood in the middle of a
// message or did not drain: it was reset, and there is nobody left to tell.
var ErrReset = errors.New("the client was reset")

// A Verdict is what an observer says of the bytes that it was shown.
type Verdict int

// The verdicts.
const (
	// Pass lets all bytes go on.
	Pass Verdict = iota
	// Hold lets all but the last Tail bytes go on. The next call shows those again,
	// with what follows them.
	Hold
	// EndAtBoundary lets all but the last Tail bytes go on, and then ends the
	// direction as if its source had ended.
	EndAtBoundary
)

// An Observer knows one direction's framing and writes the record.
type Observer interface {
	// Observe is called with every run of bytes of its direction, in order, before
	// they go on. It must not block longer than the record takes, nor keep p. An
	// error ends the relay, and the run does not go on.
	Observe(p []byte) (Verdict, error)
	// Tail is how many of the bytes shown so far belong to a message that is not
	// complete yet: zero at a message boundary. Held bytes count.
	Tail() int
}

// observe keeps a panic over what one client or target sent to its session: one thread
// relays many.
func observe(o Observer, p []byte) (v Verdict, err error) {
	defer contain.Panic(&err)
	return o.Observe(p)
}

// A Speaker is a down observer with words of the gate's own for the client. Relay
// writes them between two messages.
type Speaker interface {
	// Lines is where the words come from.
	Lines() <-chan string
	// Dress makes a message of the protocol from a line.
	Dress(line string) []byte
	// Last makes the last words from why the relay ends, an error that Relay returns.
	// Nil: there are none. It is called once at most, by whatever relays, and returns soon.
	Last(why error) []byte
}

// An Ender is a down observer of a protocol in which a target does not just leave.
type Ender interface {
	// Ended is asked when the target's stream has ended before the client's. An error says
	// that the target had no reason to: it broke.
	Ended() error
}

// ended is how the target's stream ended: nil where it may have.
func ended(down Observer, clientFirst bool) error {
	if e, ok := down.(Ender); ok && !clientFirst {
		if err := e.Ended(); err != nil {
			return fmt.Errorf("%w: %w", ErrTarget, err)
		}
	}
	return nil
}

// Relay forwards both ways until one side ends or ctx is done, and returns why: nil
// after an orderly end, the cause of ctx, or what failed. Each observer is called
// with every run of bytes of its direction, in order, before they go on.
//
// When ctx ends nothing new is sent to the client. A message that it has a part of
// is completed within CutWait; then the client stands at a message boundary, gets the
// Speaker's last words, and sees the end of the stream where there are any. Otherwise,
// and where it does not take them, the client is reset and the error is ErrReset too.
// The end of the client's stream is passed on to the target, and what the target still
// sends is delivered. Both connections are the caller's to close.
//
// client and target should be a *Conn, or TLS on top of one: then an idle relay
// keeps no buffer, and on Linux a loop of the client's Server forwards the bytes.
func Relay(ctx context.Context, client, target net.Conn, up, down Observer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f, err := newFlow(client, target, up, down, cancel)
	if err != nil {
		return err
	}
	if f != nil {
		return f.run(ctx)
	}
	r := &relay{client: client, target: target, up: up, down: down, cancel: cancel, ends: ctx.Done()}
	begun := make(chan struct{})
	context.AfterFunc(ctx, func() { r.begin(); close(begun) })
	over := make(chan struct{})
	left := atomic.Int32{}
	left.Store(2)
	for _, run := range []func(){r.runUp, r.runDown} {
		go func() {
			run()
			if left.Add(-1) == 0 {
				close(over)
			}
		}()
	}
	r.speak(over)
	<-begun // the deadlines that it sets must not meet the caller's last words
	return r.result(ctx)
}

// relay is one call of Relay.
type relay struct {
	client, target net.Conn
	up, down       Observer
	cancel         context.CancelCauseFunc
	ends           <-chan struct{} // closed when the cut is due

	cutting atomic.Bool
	left    atomic.Bool // the client has ended its stream

	// writing is held by whoever writes to the client; it guards what the client has.
	writing sync.Mutex
	given

	mu      sync.Mutex
	pending [][]byte // words that wait for a boundary
}

// errClosed is the cause of an orderly end.
var errClosed = errors.New("closed")

// begin starts the cut. It is called once, when the relay's context ends.
func (r *relay) begin() {
	r.cutting.Store(true)
	now := time.Now()
	past := now.Add(-time.Hour)
	_ = r.client.SetWriteDeadline(now.Add(CutWait)) // a deadline fails only on a closed connection
	_ = r.client.SetReadDeadline(past)
	_ = r.target.SetWriteDeadline(past)
	until := now.Add(CutWait)
	if r.writing.TryLock() {
		if r.tail == 0 {
			until = past // nothing is owed to the client
		}
		r.writing.Unlock()
	}
	_ = r.target.SetReadDeadline(until)
}

// speak hands the gate's own words over until the relay is over.
func (r *relay) speak(over <-chan struct{}) {
	var lines <-chan string
	speaker, ok := r.down.(Speaker)
	if ok {
		lines = speaker.Lines()
	}
	for {
		select {
		case <-over:
			return
		case line, ok := <-lines:
			if !ok {
				lines = nil
				continue
			}
			r.mu.Lock()
			r.pending = append(r.pending, speaker.Dress(line))
			r.mu.Unlock()
			r.say()
		}
	}
}

// say writes the words that wait. Whoever it finds writing looks for words afterwards.
func (r *relay) say() {
	for r.waiting() && r.writing.TryLock() {
		said := r.flush()
		r.writing.Unlock()
		if !said {
			return
		}
	}
}

// flush writes the words that wait, at a boundary; false: it may not. The caller holds
// writing.
func (r *relay) flush() bool {
	if r.tail != 0 || r.broken || r.cutting.Load() {
		return false
	}
	r.mu.Lock()
	words := r.pending
	r.pending = nil
	r.mu.Unlock()
	for _, word := range words {
		if _, err := r.client.Write(word); err != nil {
			r.broken = true
			r.cancel(fmt.Errorf("%w: write: %w", ErrClient, err))
			return false
		}
	}
	return true
}

func (r *relay) waiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pending) > 0
}

// runUp forwards what the client says.
func (r *relay) runUp() {
	in := newReader(r.client)
	defer in.release()
	for {
		p, err := in.read()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.cancel(fmt.Errorf("%w: read: %w", ErrClient, err))
				return
			}
			r.endUp()
			return
		}
		verdict, err := observe(r.up, p)
		if err != nil {
			r.cancel(err)
			return
		}
		held := 0
		if verdict != Pass {
			held = min(r.up.Tail(), len(p))
		}
		if verdict == EndAtBoundary { // before the target knows
			r.left.Store(true)
		}
		if _, err := r.target.Write(p[:len(p)-held]); err != nil {
			if !r.cutting.Load() { // the target has closed: what it still said is delivered
				_ = r.target.SetReadDeadline(time.Now().Add(CutWait))
			}
			return
		}
		if verdict == EndAtBoundary {
			r.endUp()
			return
		}
		if err := in.keep(held); err != nil {
			r.cancel(err)
			return
		}
	}
}

// endUp tells the target that the client has nothing more to say.
func (r *relay) endUp() {
	r.left.Store(true)
	if err := closeWrite(r.target); err != nil {
		r.cancel(fmt.Errorf("%w: close: %w", ErrTarget, err))
	}
}

// runDown forwards what the target says, and ends the relay.
func (r *relay) runDown() {
	in := newReader(r.target)
	defer in.release()
	for {
		p, err := in.read()
		switch {
		case errors.Is(err, io.EOF):
			if err = ended(r.down, r.left.Load()); err == nil {
				err = errClosed
			}
			r.cancel(err)
			return
		case err != nil:
			r.cancel(fmt.Errorf("%w: read: %w", ErrTarget, err))
			return
		}
		held, goOn := r.deliver(p)
		if !goOn {
			return
		}
		r.say()
		if err := in.keep(held); err != nil {
			r.cancel(err)
			return
		}
	}
}

// deliver shows p to the observer and writes it to the client: all of it, or at the
// cut no more than completes the message that the client has a part of.
func (r *relay) deliver(p []byte) (held int, goOn bool) {
	r.writing.Lock()
	defer r.writing.Unlock()
	select {
	case <-r.ends: // before begin has had the time to say so
		r.cutting.Store(true)
	default:
	}
	cutting := r.cutting.Load()
	if cutting && r.tail == 0 {
		return 0, false // read before the cut, and too late for it
	}
	held, end, err := r.show(r.down, p, cutting)
	if err != nil {
		r.cancel(err)
		return 0, false
	}
	if n := len(p) - held; n > 0 {
		if _, err := r.client.Write(p[:n]); err != nil {
			r.broken = true
			r.cancel(fmt.Errorf("%w: write: %w", ErrClient, err))
			return 0, false
		}
	}
	if end {
		r.cancel(errClosed)
		return 0, false
	}
	return held, !r.cutting.Load() || r.tail > 0
}

// given is what the client has got.
type given struct {
	tail   int  // bytes of an incomplete message that it has
	broken bool // a write failed: it may have a part of anything
}

// show shows p to the observer of what the target says and decides how many of its
// last bytes do not go on yet: at the cut, no more goes on than completes the message
// that the client has a part of. The rest counts as given. end: nothing goes on after it.
func (g *given) show(o Observer, p []byte, cutting bool) (held int, end bool, err error) {
	verdict, err := observe(o, p)
	if err != nil {
		return 0, false, err
	}
	tail := o.Tail()
	if verdict != Pass || cutting {
		held = min(tail, len(p))
	}
	if cutting && g.tail > 0 && tail > len(p) {
		held = 0 // all of p belongs to the message that the client waits for the end of
	}
	if len(p) > held {
		g.tail = tail - held
	}
	return held, verdict == EndAtBoundary, nil
}

// result says why the relay ended, and resets a client that cannot be told.
func (r *relay) result(ctx context.Context) error {
	if words := r.last(r.down, context.Cause(ctx)); words != nil {
		_ = r.client.SetWriteDeadline(time.Now().Add(CutWait))
		_, err := r.client.Write(words)
		r.broken = err != nil
		_ = CloseWrite(r.client) // the client may have gone, which is as well
	}
	return r.given.result(ctx, r.client)
}

// last makes the last words for a client that can be told.
func (g *given) last(down Observer, why error) []byte {
	speaker, ok := down.(Speaker)
	if !ok || g.broken || g.tail > 0 || why == nil || errors.Is(why, errClosed) {
		return nil
	}
	return speaker.Last(why)
}

func (g *given) result(ctx context.Context, client net.Conn) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, errClosed) {
		cause = nil
	}
	if g.broken || g.tail > 0 {
		_ = Reset(client)
		return errors.Join(cause, ErrReset)
	}
	return cause
}
