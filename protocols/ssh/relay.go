package ssh

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/contain"
	"github.com/sallyport/sallyport/session"
)

// maxChannels bounds the channels of one connection, both ways together.
const maxChannels = 64

// relay carries what one session opens, both ways: x/crypto/ssh speaks each side's
// transport, so keys are exchanged anew on each side by itself, and the windows of
// the two sides hold each other back.
type relay struct {
	c              *conn
	up             *session.Upstream
	client, target link
	rules          rules
	options        TargetOptions
	rec            *record
	fail           context.CancelCauseFunc // ends the session
	busy           crew                    // every goroutine of the relay
	slots          chan struct{}           // taken by open channels
	n              atomic.Int64            // numbers channels
	unbegun        atomic.Int64            // session channels that are for nothing yet
	stalls         *stalls
	ended          chan struct{} // closed when the end begins
	why            string        // of the end, for the client; set before ended is closed

	choosing sync.Mutex // held while the target chooses a port to listen at; before mu

	mu     sync.Mutex
	pairs  map[*pair]struct{} // session channels, to be told of the end
	remote map[string]bool    // places where the target listens for this client
	agent  bool               // the client's agent was asked for, and the scope has it
	x11    bool
	alone  bool // no-more-sessions@openssh.com
}

// crew are the goroutines of a relay. One that panics ends its session and no other.
type crew struct {
	sync.WaitGroup
	fail context.CancelCauseFunc
}

// Go starts f, as WaitGroup.Go does.
func (c *crew) Go(f func()) {
	c.WaitGroup.Go(func() {
		if err := contained(f); err != nil {
			c.fail(err)
		}
	})
}

func contained(f func()) (err error) {
	defer contain.Panic(&err)
	f()
	return nil
}

// errTargetGone says that the target ended the connection.
var errTargetGone = &session.Failed{Say: "the target closed the connection", Err: errors.New("the target closed the SSH connection")}

// relay runs until one side has gone or ctx ends, says why, and returns it.
func (c *conn) relay(ctx context.Context, client, target link, up *session.Upstream) error {
	defer target.Close() //nolint:errcheck // closed twice on the usual way
	t, err := up.Target()
	if err != nil {
		return err
	}
	options, err := optionsOf(t)
	if err != nil {
		return &session.Failed{Say: "the target " + t.Name + " is not set up for SSH in the policy; ask its authors", Err: err}
	}
	c.relayed = true
	outer := ctx
	ctx, fail := context.WithCancelCause(outer)
	defer fail(nil)
	r := &relay{
		c: c, up: up, client: client, target: target, rules: rules{up.Scope()}, options: options, rec: &record{to: up.Recorder(), content: options.Files == "content"}, fail: fail, busy: crew{fail: fail},
		slots: make(chan struct{}, maxChannels), stalls: &stalls{over: fail}, pairs: map[*pair]struct{}{}, remote: map[string]bool{}, ended: make(chan struct{}),
	}
	r.busy.Go(r.both)
	r.warnings(ctx)
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, audit.ErrRecorder):
		<-outer.Done() // the session ends by it too, and has the words
		cause = context.Cause(outer)
	case errors.Is(cause, errHungUp):
		cause = nil
	}
	r.end(cause)
	r.busy.Wait()
	return cause
}

// end says the last words on every session channel, has the target's processes hang
// up, and closes both sides. The client's is closed after lastWords at most, whatever
// anybody does; the target's when what ran has ended, or after lastProcess.
func (r *relay) end(cause error) {
	defer r.target.Close() //nolint:errcheck // it may have gone; so below
	if cause == nil {
		r.why = "the session is over"
		close(r.ended)
		_ = r.client.Close()
		return
	}
	say := r.c.gate.Message(cause)
	r.why = say
	close(r.ended)
	_ = r.rec.note("%s", say) // a recorder that fails here ends the session by itself
	// Waited for twice, so no timers: what has fired once would not fire again.
	words, stop := context.WithTimeout(context.Background(), lastWords)
	defer stop()
	process, stop := context.WithTimeout(context.Background(), lastProcess)
	defer stop()
	pairs := r.all()
	for _, p := range pairs {
		p.ending.Store(true)
		p.cutting.Store(true) // before the target's processes end by it, which would else be all that is said
	}
	var telling, hanging sync.WaitGroup
	var living atomic.Int64
	for _, p := range pairs {
		telling.Add(1)
		hanging.Add(1)
		r.busy.Go(func() { defer telling.Done(); p.cut(say) })
		r.busy.Go(func() {
			defer hanging.Done()
			if p.hangUp(process.Done()) {
				living.Add(1)
			}
		})
	}
	r.within(words.Done(), telling.Wait)
	if len(pairs) > 0 {
		// Closing under bytes that the client is still sending would reset the
		// connection, and our words with it.
		r.within(words.Done(), func() { _ = r.client.Wait() }) // why it ended says nothing new
	}
	_ = r.client.Close()
	hanging.Wait()
	if n := living.Load(); n > 0 {
		r.up.Alarm(context.Background(), fmt.Sprintf("%d of this session's programs took no SIGHUP, and may run on at the target", n))
	}
}

// within runs wait, and returns at the latest when until is done.
func (r *relay) within(until <-chan struct{}, wait func()) {
	done := make(chan struct{})
	r.busy.Go(func() { wait(); close(done) })
	select {
	case <-done:
	case <-until:
	}
}

// isOver reports that the end has begun: nothing new is opened.
func (r *relay) isOver() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

func (r *relay) all() []*pair {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*pair, 0, len(r.pairs))
	for p := range r.pairs {
		list = append(list, p)
	}
	return list
}

// warnings shows what the gate has to say meanwhile, on terminals only: a program's
// stderr is read by programs. It returns when ctx ends.
func (r *relay) warnings(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case line := <-r.up.Warnings():
			if err := r.rec.note("%s", line); err != nil {
				r.fail(err)
				continue // ctx ends by it
			}
			for _, p := range r.all() {
				r.busy.Go(func() { p.warn(line) })
			}
		}
	}
}

// both follows the two sides until both have gone: what one of them opens gets goroutines
// of its own, and its global requests (RFC 4254, section 4) are answered in their order by
// one that is there meanwhile, so that neither side waits for the other, and an idle
// session is little memory.
func (r *relay) both() {
	client, target := r.client, r.target
	clientAnswered, targetAnswered := make(chan struct{}, 1), make(chan struct{}, 1)
	for client.channels != nil || target.channels != nil {
		select {
		case channel, ok := <-client.channels:
			if !ok {
				client.channels = nil
				r.fail(errHungUp)
				continue
			}
			r.opens(channel)
		case channel, ok := <-target.channels:
			if !ok {
				target.channels = nil
				r.fail(errTargetGone)
				continue
			}
			r.opensBack(channel)
		case request, ok := <-client.requests:
			client.requests = nil // until this one is answered
			if ok {
				r.busy.Go(func() { r.request(request); clientAnswered <- struct{}{} })
			}
		case <-clientAnswered:
			client.requests = r.client.requests
		case request, ok := <-target.requests:
			target.requests = nil // as above
			if ok {
				// None goes on: hostkeys-00@openssh.com would have the client learn the
				// target's keys for the gate's name.
				r.busy.Go(func() { _ = request.Reply(false, nil); targetAnswered <- struct{}{} }) // it may have gone
			}
		case <-targetAnswered:
			target.requests = r.target.requests
		}
	}
}

// opens opens what the client asks for.
func (r *relay) opens(channel ssh.NewChannel) {
	if r.isOver() {
		_ = channel.Reject(ssh.Prohibited, prefix+r.why) // a side that has gone needs no answer
		return
	}
	if !r.take() {
		_ = channel.Reject(ssh.ResourceShortage, prefix+"too many channels on one connection") // a side that has gone needs no answer
		return
	}
	r.busy.Go(func() {
		defer r.give()
		switch channel.ChannelType() {
		case "session":
			r.session(channel)
		case channelDirect:
			r.direct(channel)
		case channelDirectLocal:
			r.directLocal(channel)
		default:
			_ = channel.Reject(ssh.UnknownChannelType, prefix+"this kind of channel does not pass the gate") // as above
		}
	})
}

// request answers a global request of the client.
func (r *relay) request(request *ssh.Request) {
	ok, payload := false, []byte(nil)
	kind := request.Type
	if r.isOver() {
		kind = "" // nothing is asked of the target any more
	}
	switch kind {
	case "tcpip-forward":
		ok, payload = r.listen(request.Type, request.Payload)
	case "streamlocal-forward@openssh.com":
		ok = r.listenLocal(request.Type, request.Payload)
	case "cancel-tcpip-forward", "cancel-streamlocal-forward@openssh.com":
		ok = r.unlisten(request.Type, request.Payload)
	case "no-more-sessions@openssh.com":
		r.mu.Lock()
		r.alone, ok = true, true
		r.mu.Unlock()
	}
	// keepalive@openssh.com is answered like all others: any answer will do.
	_ = request.Reply(ok, payload) // a client that has gone needs no answer
}

// opensBack opens towards the client what it has asked the target for, and nothing else.
func (r *relay) opensBack(channel ssh.NewChannel) {
	if r.isOver() {
		_ = channel.Reject(ssh.Prohibited, prefix+r.why) // as below
		return
	}
	if !r.take() {
		_ = channel.Reject(ssh.ResourceShortage, "too many channels") // a side that has gone needs no answer
		return
	}
	r.busy.Go(func() {
		defer r.give()
		r.back(channel)
	})
}

func (r *relay) take() bool {
	select {
	case r.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (r *relay) give() { <-r.slots }
