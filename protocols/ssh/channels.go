package ssh

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/internal/sftp"
)

// pair is a session channel: the client's and the target's. Until the client has
// said what it is for (shell, exec, subsystem) no byte goes either way.
type pair struct {
	r      *relay
	n      int64
	since  time.Time
	client ssh.Channel
	target ssh.Channel
	stream string // its name in the record: "channel 1"

	variables int // that asked has set

	starting sync.Mutex    // held while the channel becomes a shell, command or subsystem
	started  chan struct{} // closed by asked, once kind, watch and tty are set
	kind     string
	watch    observer // what the bytes are looked at by
	bytes    atomic.Int64
	cutting  atomic.Bool // cut has the client's side, from its first moment on
	ending   atomic.Bool // the target's side is hangUp's

	// mu makes what the client receives and what is recorded one order. It is held
	// while a slow client is written to.
	mu    sync.Mutex
	tty   *tty   // nil: no terminal; set before started is closed
	ended bool   // the client is sent nothing more
	owed  string // a warning that waits for the end of an escape sequence

	// Of the goroutine that reads the target's requests, until over is closed.
	how    []byte // payload of exit
	exit   string // exit-status or exit-signal
	word   string // the same for the record
	exited chan struct{}
	over   chan struct{}
}

// An observer looks at what goes through a channel, before it goes on, and writes
// the record. An error ends the channel. up and down are called by one goroutine
// each; close is called after both.
type observer interface {
	up(p []byte) error
	down(p []byte) error
	close() error
}

// session carries one session channel (RFC 4254, section 6).
func (r *relay) session(channel ssh.NewChannel) {
	r.mu.Lock()
	alone := r.alone
	r.mu.Unlock()
	if alone {
		_ = channel.Reject(ssh.Prohibited, prefix+"the client said that no more sessions follow") // it may have gone
		return
	}
	begun := sync.OnceFunc(func() { r.unbegun.Add(-1) })
	defer begun()
	if r.unbegun.Add(1) > maxUnbegun {
		_ = channel.Reject(ssh.ResourceShortage, prefix+"too many channels of one connection are open for nothing") // as above
		return
	}
	target, fromTarget, err := r.target.OpenChannel("session", nil)
	if err != nil {
		_ = channel.Reject(ssh.ConnectionFailed, prefix+"the target opens no session") // as above
		return
	}
	client, fromClient, err := r.accept(channel)
	if err != nil {
		_ = target.Close() // it may have gone
		ssh.DiscardRequests(fromTarget)
		return
	}
	n := r.n.Add(1)
	p := &pair{
		r: r, n: n, since: time.Now(), client: client, target: target, stream: fmt.Sprintf("channel %d", n),
		started: make(chan struct{}), exited: make(chan struct{}), over: make(chan struct{}),
	}
	r.mu.Lock()
	r.pairs[p] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.pairs, p)
		r.mu.Unlock()
	}()
	p.run(fromClient, fromTarget, begun)
}

func (p *pair) run(fromClient, fromTarget <-chan *ssh.Request, begun func()) {
	gone := make(chan struct{}) // the client closed the channel
	all := crew{fail: p.r.fail}
	all.Go(func() { p.requests(fromClient, fromTarget, gone) })
	defer all.Wait()
	select {
	case <-p.started:
	case <-gone:
	case <-p.over:
	}
	// A channel may be closed, or over, before it is known here that it was for something.
	p.starting.Lock()
	began := p.begun()
	p.starting.Unlock()
	if !began {
		_ = p.client.Close() // it may have closed it itself
		p.leave()
		return
	}
	begun()
	all.Go(func() { p.input(); p.left(gone) })
	output := crew{fail: p.r.fail}
	output.Go(func() { p.output(p.target, stallWriter{p.client, p.r.stalls}, "") })
	output.Go(func() { p.output(p.target.Stderr(), stallWriter{p.client.Stderr(), p.r.stalls}, " stderr") })
	output.Wait()
	p.finish(gone)
}

// finish passes the end on in its order: all output, end of output, how it ended,
// close.
func (p *pair) finish(gone <-chan struct{}) {
	if p.r.target.socket.gone.Load() {
		<-p.over
		if p.exit == "" {
			<-gone // the relay's last words are said on this channel, and close it
		}
	}
	p.mu.Lock()
	if !p.cutting.Load() {
		_ = p.client.CloseWrite() // the client may have gone; so below
	}
	p.mu.Unlock()
	<-p.over
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cutting.Load() {
		if p.exit != "" {
			_, _ = p.client.SendRequest(p.exit, false, p.how)
		}
		p.ended = true
		_ = p.client.Close()
	}
	if p.tty != nil && p.word != "" {
		p.r.over(p.r.rec.terminal(p.stream, "x", []byte(p.word)))
	}
	p.r.over(errors.Join(p.watch.close(), p.r.rec.done(p.n, p.word, p.bytes.Load(), p.since)))
}

// left waits until the client has closed the channel, and closes the target's side. That
// is behind all input: who closes a channel at once has sent what it sent, to sshd as here.
func (p *pair) left(gone <-chan struct{}) {
	<-gone
	p.leave()
}

// leave closes the target's side, which may have gone. At the end of the session hangUp
// does, because what runs behind a closed channel cannot be reached any more.
func (p *pair) leave() {
	if !p.ending.Load() {
		_ = p.target.Close()
	}
}

// requests follows what both sides say of the channel, until both have closed it. The
// client's are answered in their order, by a goroutine that is there meanwhile: an idle
// channel is little memory. gone is closed when the client has closed the channel.
func (p *pair) requests(fromClient, fromTarget <-chan *ssh.Request, gone chan<- struct{}) {
	answering := crew{fail: p.r.fail}
	defer answering.Wait()
	exited := sync.OnceFunc(func() { close(p.exited) })
	next, answered := fromClient, make(chan struct{}, 1)
	for fromClient != nil || fromTarget != nil {
		select {
		case request, ok := <-next:
			next = nil // until this one is answered
			if !ok {
				fromClient = nil
				close(gone)
				if p.begun() && !p.ending.Load() {
					// Nobody reads what it says any more, which an sshd knows by the close that
					// it gets from here only behind all input (PROTOCOL, 2.1).
					_, _ = p.target.SendRequest("eow@openssh.com", false, nil) // it may have gone
				}
				continue
			}
			answering.Go(func() {
				defer func() { answered <- struct{}{} }()
				p.asked(request)
			})
		case <-answered:
			next = fromClient
		case request, ok := <-fromTarget:
			if !ok {
				fromTarget = nil
				exited()
				close(p.over)
				continue
			}
			if p.told(request); p.exit != "" {
				exited()
			}
		}
	}
}

// told is given what the target says of the channel. How it ended is kept until all
// output has gone out.
func (p *pair) told(request *ssh.Request) {
	switch request.Type {
	case "exit-status":
		var code struct{ Status uint32 }
		if err := ssh.Unmarshal(request.Payload, &code); err == nil {
			p.exit, p.how, p.word = request.Type, ssh.Marshal(code), fmt.Sprintf("%d", code.Status)
		}
	case "exit-signal":
		var signal struct {
			Name   string
			Core   bool
			Say    string
			Locale string
		}
		if err := ssh.Unmarshal(request.Payload, &signal); err == nil {
			p.exit, p.how, p.word = request.Type, ssh.Marshal(signal), "signal "+signal.Name
		}
	case "eow@openssh.com", "xon-xoff":
		_, _ = p.client.SendRequest(request.Type, false, request.Payload) // the client may have gone
	}
	_ = request.Reply(false, nil) // wanted of keepalive@openssh.com only, for which any answer will do
}

// input carries what the client sends to the target.
func (p *pair) input() {
	from, to := &flow{from: p.client}, stallWriter{p.target, p.r.stalls}
	for {
		data, err := from.read()
		if p.cutting.Load() {
			return // what is sent behind the cut does not go on
		}
		if len(data) > 0 {
			p.bytes.Add(int64(len(data)))
			if seen := p.watch.up(data); seen != nil {
				p.broken(seen)
				return
			}
			if _, err := to.Write(data); err != nil {
				return // the target's end of it says why
			}
		}
		if err != nil {
			_ = p.target.CloseWrite() // the target may have gone
			return
		}
	}
}

// output carries one of the target's two streams to the client. What comes when the client
// has closed the channel is dropped: what it sent before may still be under way.
func (p *pair) output(stream io.Reader, to io.Writer, suffix string) {
	from := &flow{from: stream}
	for left := false; ; {
		data, err := from.read()
		if len(data) > 0 && !left {
			stop := p.pass(data, to, suffix)
			left = errors.Is(stop, errLeft)
			if stop != nil && !left {
				p.broken(stop)
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// Why a client is sent nothing more.
var (
	errCut  = errors.New("the session was cut")
	errLeft = errors.New("the client closed the channel")
)

// pass writes a piece of output down and sends it on, in one order for both streams.
func (p *pair) pass(data []byte, to io.Writer, suffix string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.cutting.Load() {
		return errCut
	}
	p.bytes.Add(int64(len(data)))
	if err := p.keep(data, suffix); err != nil {
		return err
	}
	if p.tty != nil {
		p.tty.see(data)
	}
	if _, err := to.Write(data); err != nil {
		return errLeft
	}
	if p.owed == "" {
		return nil
	}
	return p.say(p.owed)
}

func (p *pair) keep(data []byte, suffix string) error {
	if suffix == "" {
		return p.watch.down(data)
	}
	return p.r.rec.terminal(p.stream+suffix, "o", data)
}

// broken ends a channel that cannot go on: it was cut, or what goes through it cannot be
// recorded.
func (p *pair) broken(err error) {
	if errors.Is(err, sftp.ErrBad) {
		p.r.over(p.r.rec.note("%s: %v", p.stream, err))
		p.r.busy.Go(func() { p.cut(err.Error()) })
	}
	if p.r.rec.to.Err() != nil {
		p.r.fail(err)
	}
	p.leave()
}

// warn tells a terminal's user something, when the terminal can take it.
func (p *pair) warn(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.tty == nil {
		return
	}
	if err := p.say(line); err != nil {
		p.r.fail(err)
	}
}

// say writes a line to the terminal and into the record, or owes it where the terminal
// is in the middle of something. It is called with mu.
func (p *pair) say(line string) error {
	text := p.tty.words(prefix + line)
	if text == "" {
		p.owed = line
		return nil
	}
	p.owed = ""
	if err := p.r.rec.terminal(p.stream, "o", []byte(text)); err != nil {
		return err
	}
	_, _ = p.client.Write([]byte(text)) // the client may have gone
	return nil
}

// cut ends the client's side with our sentence and exit-status 255. Where the client
// does not take what it was sent before, the words cannot reach it, and it is closed
// without them.
func (p *pair) cut(say string) {
	p.cutting.Store(true)
	said := make(chan struct{})
	p.r.busy.Go(func() {
		defer close(said)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.ended {
			return
		}
		p.ended = true
		text := prefix + say + "\r\n"
		if p.tty != nil {
			text = p.tty.leave() + "\r\n" + text
		}
		p.r.over(p.r.rec.terminal(p.stream+" stderr", "o", []byte(text)))
		_, _ = p.client.Stderr().Write([]byte(text)) // the client may have gone; so below
	})
	timer := time.NewTimer(lastWords * 2 / 3)
	defer timer.Stop()
	select {
	case <-said:
	case <-timer.C:
	}
	_, _ = p.client.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{255}))
	_ = p.client.Close()
}

// hangUp has what runs at the target go, and closes the target's side. A signal, because
// sshd leaves commands without a terminal running when their connection ends. It reports
// what may live on: sshd refuses signals to root's own sessions and to forced commands,
// and a program can ignore them.
func (p *pair) hangUp(until <-chan struct{}) (lives bool) {
	defer p.target.Close() //nolint:errcheck // it may have gone
	if !p.settled(until) {
		return true // the target has heard of it, and does not say whether it runs
	}
	if !p.begun() || p.kind == channelSFTP {
		return false
	}
	refused := make(chan struct{})
	p.r.busy.Go(func() {
		if ok, err := p.target.SendRequest("signal", true, ssh.Marshal(signal{"HUP"})); err == nil && !ok {
			close(refused)
		}
	})
	select {
	case <-p.exited:
		return false
	case <-refused:
		return p.tty == nil // a terminal hangs up with its channel
	case <-until:
		return true
	}
}

// settled waits until it is known whether the channel is for something: what was sent to the
// target before the end has its answer, and start sends nothing more.
func (p *pair) settled(until <-chan struct{}) bool {
	known := make(chan struct{})
	p.r.busy.Go(func() {
		p.starting.Lock()
		defer p.starting.Unlock()
		close(known)
	})
	select {
	case <-known:
		return true
	case <-until:
		return false
	}
}
