package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// flow is one call of Relay on a loop. But for done all of it is the loop's until
// done is closed.
type flow struct {
	loop           *loop
	client, target side
	up, down       Observer
	cancel         context.CancelCauseFunc
	ends           <-chan struct{} // closed when the cut is due
	why            func() error    // of ends
	done           chan struct{}

	given
	words   [][]byte // wait for a boundary
	cutting bool     // nothing new goes to the client
	left    bool     // the client has ended
	ended   bool     // the target has ended, or what it said is the end
	refused bool     // the target takes nothing more
	parting bool     // the last words are under way
	over    bool     // the loop has let go
}

// side is one of the two connections.
type side struct {
	flow     *flow
	peer     *side
	conn     net.Conn // the socket's *Conn, or TLS on top of it
	sock     *socket
	held     []byte // shown, and to be shown again
	deaf     bool   // nothing more is read
	number   int32
	use      int32 // of the number
	interest uint32
}

// stuckWait is how long one turn of a loop may take before a cut does without it.
const stuckWait = time.Second

// newFlow takes both connections for a loop of the client's server; nil where that
// has none, or where they are something else than a socket, or TLS on top of one.
func newFlow(client, target net.Conn, up, down Observer, cancel context.CancelCauseFunc) (*flow, error) {
	near, far := loopable(client), loopable(target)
	if near == nil || far == nil || near.loops == nil {
		return nil, nil //nolint:nilnil // goroutines relay
	}
	l := near.loops.pick()
	if l == nil {
		return nil, nil //nolint:nilnil // as above
	}
	f := &flow{loop: l, up: up, down: down, cancel: cancel, done: make(chan struct{})}
	f.client = side{flow: f, peer: &f.target, conn: client}
	f.target = side{flow: f, peer: &f.client, conn: target}
	var err error
	if f.client.sock, err = near.leave(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClient, err)
	}
	if f.target.sock, err = far.leave(); err != nil {
		f.client.sock.release()
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	return f, nil
}

// loopable finds the socket: what lies between may keep bytes that raise no event,
// so that only TLS is known well enough.
func loopable(c net.Conn) *Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if base, ok := c.(*Conn); ok && base.raw != nil {
		return base
	}
	return nil
}

// run waits, in the session's own goroutine, and hands over what the loop must know.
func (f *flow) run(ctx context.Context) error {
	f.ends, f.why = ctx.Done(), func() error { return context.Cause(ctx) }
	f.loop.post(f.begin)
	var lines <-chan string
	speaker, ok := f.down.(Speaker)
	if ok {
		lines = speaker.Lines()
	}
	ends := f.ends
	var stuck <-chan time.Time
	var rounds uint64
	for {
		select {
		case <-f.done:
			return f.result(ctx, f.client.conn)
		case line, ok := <-lines:
			if !ok {
				lines = nil
				continue
			}
			word := speaker.Dress(line)
			f.loop.post(func() { f.say(word) })
		case <-ends:
			ends = nil
			f.loop.post(func() { f.cut(); f.settle() })
			rounds, stuck = f.loop.rounds.Load(), time.After(stuckWait)
		case <-stuck:
			// A record that the disk does not take holds up the loop. The cut does not wait
			// for it; what is shut here, the loop finds ended.
			was := rounds
			if rounds = f.loop.rounds.Load(); rounds == was {
				f.client.sock.sever()
				f.target.sock.sever()
			}
			stuck = time.After(stuckWait)
		}
	}
}

// begin is the first turn of both sides: what start-up left inside TLS raises no event.
func (f *flow) begin() {
	f.loop.add(&f.client)
	f.loop.add(&f.target)
	f.client.turn()
	f.target.turn()
}

// say takes the gate's own words for the client.
func (f *flow) say(word []byte) {
	f.words = append(f.words, word)
	f.speak()
	f.client.send()
	f.settle()
}

// speak collects the words that wait, at a boundary.
func (f *flow) speak() {
	if f.over || f.cutting || f.ended || f.parting || f.tail != 0 {
		return
	}
	for _, word := range f.words {
		f.write(&f.client, word)
	}
	f.words = nil
}

// cut begins the end: nothing new goes to the client. Who calls it settles.
func (f *flow) cut() {
	if f.cutting || f.over {
		return
	}
	f.cutting, f.client.deaf = true, true
	f.later(func() {
		f.broken = f.broken || len(f.client.sock.out) > 0
		f.end()
	})
}

// later has do run after CutWait, where the flow still is.
func (f *flow) later(do func()) {
	f.loop.after(func() {
		if !f.over {
			do()
			f.settle()
		}
	})
}

// fail ends the session because of err: what the client waits for is completed first.
func (f *flow) fail(err error) {
	f.cancel(err)
	f.cut()
}

// settle ends the flow where nothing is left to be done, or waits for what is.
func (f *flow) settle() {
	if f.over {
		return
	}
	if !f.broken && len(f.client.sock.out) == 0 && (f.ended || f.cutting && (f.tail == 0 || f.target.deaf)) {
		f.part()
	}
	if f.broken || f.parting && len(f.client.sock.out) == 0 {
		f.end()
		return
	}
	err := errors.Join(f.client.update(), f.target.update())
	if err != nil {
		f.broken = true
		f.cancel(err)
		f.end()
	}
}

// part says the last words, once nothing else is owed to the client.
func (f *flow) part() {
	if f.parting {
		return
	}
	f.parting, f.target.deaf = true, true
	if words := f.last(f.down, f.why()); words != nil {
		f.write(&f.client, words)
		_ = CloseWrite(f.client.conn) // it is only noted
		f.client.send()
	}
}

// end lets go of both sockets.
func (f *flow) end() {
	if f.over {
		return
	}
	f.over = true
	if f.ended && !f.broken {
		f.cancel(errClosed)
	}
	for _, s := range []*side{&f.client, &f.target} {
		f.loop.remove(s)
		s.sock.release()
		s.held = nil
	}
	close(f.done)
}

// update waits for what the side's state asks for. While the other side is full
// nothing is read.
func (s *side) update() error {
	var interest uint32
	if !s.deaf && len(s.peer.sock.out) == 0 {
		interest |= unix.EPOLLIN
	}
	if len(s.sock.out) > 0 {
		interest |= unix.EPOLLOUT
	}
	return s.watch(interest)
}

// drain goes on sending.
func (s *side) drain() {
	s.send()
	s.flow.settle()
}

// send sends what was collected for the side.
func (s *side) send() {
	f := s.flow
	if f.over {
		return
	}
	err := s.sock.flush()
	switch {
	case err == nil:
	case s == &f.client:
		f.broken = true
		f.cancel(fmt.Errorf("%w: write: %w", ErrClient, err))
	default: // the target has closed: what it still said is delivered
		s.sock.out = nil
		if f.client.deaf = true; !f.refused {
			f.refused = true
			f.later(f.giveUp)
		}
	}
}

// giveUp ends a flow whose target takes nothing and says nothing. What it said before
// takes as long as the client does.
func (f *flow) giveUp() {
	switch {
	case f.ended:
	case len(f.client.sock.out) > 0:
		f.later(f.giveUp)
	default:
		f.fail(fmt.Errorf("%w: read: %w", ErrTarget, os.ErrDeadlineExceeded))
	}
}

// turn reads once and forwards what came.
func (s *side) turn() {
	f, l := s.flow, s.flow.loop
	select {
	case <-f.ends: // before anybody has had the time to say so
		f.cut()
		defer f.settle()
	default:
	}
	if f.over || f.parting || s.deaf || len(s.peer.sock.out) > 0 {
		return
	}
	s.peer.sock.out = l.out
	s.sock.fill(l.in)
	s.pull()
	s.sock.feed = nil
	if sent := s.peer.sock.out; cap(sent) > cap(l.out) && cap(sent) <= 4*loopRead {
		l.out = sent[:0]
	}
	s.peer.send()
	s.peer.sock.out = slices.Clone(s.peer.sock.out) // the rest, if any
	if len(s.sock.out) > 0 {
		s.send() // TLS answers some messages by itself
	}
	f.settle()
}

// pull takes all that the read gave through the observer.
func (s *side) pull() {
	plain := s.flow.loop.plain
	for {
		held := copy(plain, s.held)
		n := held
		var err error
		for n < len(plain) && err == nil {
			var m int
			m, err = s.conn.Read(plain[n:])
			n += m
		}
		if n > held && !s.forward(plain[:n]) {
			return
		}
		if err != nil {
			if !errors.Is(err, errAgain) {
				s.stopped(err)
			}
			return
		}
	}
}

// forward shows p to the observer and collects what goes on. false: nothing more is
// to be read.
func (s *side) forward(p []byte) bool {
	f := s.flow
	var held int
	var end bool
	if s == &f.client {
		verdict, err := observe(f.up, p)
		if err != nil {
			f.fail(err)
			return false
		}
		if end = verdict == EndAtBoundary; verdict != Pass {
			held = min(f.up.Tail(), len(p))
		}
	} else {
		if f.cutting && f.tail == 0 {
			return false
		}
		var err error
		if held, end, err = f.show(f.down, p, f.cutting); err != nil {
			s.deaf = true
			f.fail(err)
			return false
		}
	}
	f.write(s.peer, p[:len(p)-held])
	if end {
		s.stopped(io.EOF)
		return false
	}
	if held > MaxHold {
		s.deaf = true
		f.fail(errHolds(held))
		return false
	}
	s.held = nil
	if held > 0 {
		s.held = slices.Clone(p[len(p)-held:])
	}
	if s == &f.target {
		f.speak()
	}
	return !f.cutting || f.tail > 0
}

// write collects p for the side.
func (f *flow) write(to *side, p []byte) {
	if len(p) == 0 {
		return
	}
	if _, err := to.conn.Write(p); err != nil { // TLS has ended; the socket only collects
		if to == &f.client {
			f.broken = true
			f.cancel(fmt.Errorf("%w: write: %w", ErrClient, err))
		} else {
			f.client.deaf = true
		}
	}
}

// stopped notes that the side says nothing more, and why.
func (s *side) stopped(err error) {
	f := s.flow
	s.deaf = true
	orderly := errors.Is(err, io.EOF)
	switch {
	case s == &f.target && orderly:
		if err := ended(f.down, f.left); err != nil {
			f.fail(err)
		} else {
			f.ended = true
		}
	case s == &f.target:
		f.fail(fmt.Errorf("%w: read: %w", ErrTarget, err))
	case orderly:
		f.left = true
		if err := closeWrite(f.target.conn); err != nil {
			f.fail(fmt.Errorf("%w: close: %w", ErrTarget, err))
		}
	default:
		f.fail(fmt.Errorf("%w: read: %w", ErrClient, err))
	}
}
