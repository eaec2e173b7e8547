package proxy

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A loop forwards the bytes of many sessions on one thread. A turn reads once from a
// socket that has bytes, lets the observer look at them and write its record, and
// writes to the other side, all without waking anybody: with goroutines most of a
// proxy's time goes into that.
//
// A turn is bounded by one read, so that a session that moves much starves nobody.
// All that a read gave is taken out of crypto/tls in the same turn, because bytes that
// it keeps raise no event.
type loop struct {
	epoll, wake int
	done        chan struct{} // closed when the thread has ended
	rounds      atomic.Uint64 // goes up while the thread gets on

	mu     sync.Mutex // guards what follows
	posted []func()   // to be run by the thread
	woken  bool       // the thread knows of posted

	// The thread's own.
	events   []unix.EpollEvent
	sides    []*side // by the number in an event
	uses     []int32 // how many sides a number has had
	free     []int32 // numbers
	timed    []timed // oldest first
	in       []byte  // one read
	plain    []byte  // what was held back, and the deciphered read
	out      []byte  // what one turn sends
	stopping bool
}

// timed is what happens after CutWait.
type timed struct {
	at time.Time
	do func()
}

const (
	loopRead   = 64 << 10
	loopPlain  = MaxHold + loopRead + 32<<10
	loopEvents = 128
)

// loops are a server's, started at the first session.
type loops struct {
	mu      sync.Mutex
	all     []*loop
	next    int
	failed  error // why there are none
	stopped bool
}

// pick takes the loops by turns. Two on two processors are slower than one: the
// clients' and the target's own work wants some too.
func (s *loops) pick() *loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped || s.failed != nil {
		return nil
	}
	if n := max(1, runtime.NumCPU()/4); len(s.all) < n {
		l, err := newLoop()
		if err != nil {
			s.failed = err
			return nil
		}
		s.all = append(s.all, l)
		return l
	}
	s.next++
	return s.all[s.next%len(s.all)]
}

// stop ends the loops; no session may be left.
func (s *loops) stop() {
	s.mu.Lock()
	all := s.all
	s.all, s.stopped = nil, true
	s.mu.Unlock()
	for _, l := range all {
		l.post(func() { l.stopping = true })
		<-l.done
	}
}

func newLoop() (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{
		epoll: epoll, wake: wake, done: make(chan struct{}), events: make([]unix.EpollEvent, loopEvents),
		in: make([]byte, loopRead), plain: make([]byte, loopPlain), out: make([]byte, 0, 2*loopRead),
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		_, _ = unix.Close(epoll), unix.Close(wake)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go l.run()
	return l, nil
}

// post has the thread run f soon.
func (l *loop) post(f func()) {
	l.mu.Lock()
	l.posted = append(l.posted, f)
	wake := !l.woken
	l.woken = true
	l.mu.Unlock()
	if wake {
		_, _ = unix.Write(l.wake, binary.NativeEndian.AppendUint64(nil, 1)) // fails only where it is awake already
	}
}

func (l *loop) run() {
	runtime.LockOSThread()
	defer close(l.done)
	for !l.stopping {
		l.rounds.Add(1)
		for i := range l.wait() {
			l.event(l.events[i])
		}
		l.expire()
	}
	_, _ = unix.Close(l.epoll), unix.Close(l.wake)
}

// wait waits for events or for the first of the flows that wait for their end. It
// looks first: where there is much to do there is no need to tell Go's scheduler.
func (l *loop) wait() int {
	if n := rawWait(l.epoll, l.events); n > 0 {
		return n
	}
	timeout := -1
	if len(l.timed) > 0 {
		timeout = int(max(0, time.Until(l.timed[0].at))/time.Millisecond) + 1
	}
	n, err := unix.EpollWait(l.epoll, l.events, timeout)
	if err != nil { // EINTR
		return 0
	}
	return n
}

func (l *loop) event(e unix.EpollEvent) {
	if e.Fd < 0 {
		l.runPosted()
		return
	}
	s := l.sides[e.Fd]
	if s == nil || s.use != e.Pad {
		return // it ended in this round
	}
	if s.interest&unix.EPOLLOUT != 0 && e.Events&^unix.EPOLLIN != 0 {
		s.drain()
	}
	if s.interest&unix.EPOLLIN != 0 && e.Events&^unix.EPOLLOUT != 0 {
		s.turn()
	}
}

func (l *loop) runPosted() {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:]) // fails where it was read already
	l.mu.Lock()
	todo := l.posted
	l.posted, l.woken = nil, false
	l.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

// after has f run after CutWait.
func (l *loop) after(f func()) { l.timed = append(l.timed, timed{time.Now().Add(CutWait), f}) }

// expire runs what has waited long enough.
func (l *loop) expire() {
	if len(l.timed) == 0 {
		return
	}
	for now := time.Now(); len(l.timed) > 0 && !now.Before(l.timed[0].at); {
		do := l.timed[0].do
		l.timed[0].do = nil
		l.timed = l.timed[1:]
		do()
	}
}

// add gives a side its number.
func (l *loop) add(s *side) {
	if n := len(l.free); n > 0 {
		s.number = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		s.number = int32(len(l.sides))
		l.sides, l.uses = append(l.sides, nil), append(l.uses, 0)
	}
	l.uses[s.number]++
	l.sides[s.number], s.use = s, l.uses[s.number]
}

// remove makes its number free.
func (l *loop) remove(s *side) {
	_ = s.watch(0) // fails only for a socket that epoll has not taken
	l.sides[s.number] = nil
	l.free = append(l.free, s.number)
}

// watch changes what is waited for. A side of which nothing is wanted is taken out:
// epoll tells of errors and hang-ups unasked, again and again.
func (s *side) watch(interest uint32) error {
	if interest == s.interest {
		return nil
	}
	op := unix.EPOLL_CTL_MOD
	switch {
	case interest == 0:
		op = unix.EPOLL_CTL_DEL
	case s.interest == 0:
		op = unix.EPOLL_CTL_ADD
	}
	if err := unix.EpollCtl(s.flow.loop.epoll, op, s.sock.fd, &unix.EpollEvent{Events: interest, Fd: s.number, Pad: s.use}); err != nil {
		return fmt.Errorf("wait on a socket: %w", err)
	}
	s.interest = interest
	return nil
}
