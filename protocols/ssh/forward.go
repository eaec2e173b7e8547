package ssh

import (
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Kinds of channels that forward (RFC 4254, section 7; OpenSSH PROTOCOL, 2.4).
const (
	channelDirect         = "direct-tcpip"
	channelDirectLocal    = "direct-streamlocal@openssh.com"
	channelForwarded      = "forwarded-tcpip"
	channelForwardedLocal = "forwarded-streamlocal@openssh.com"
	channelAgentBack      = "auth-agent@openssh.com"
	channelX11Back        = "x11"
)

// direct is the payload of direct-tcpip and forwarded-tcpip.
type direct struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// directLocal is the payload of direct-streamlocal@openssh.com.
type directLocal struct {
	Path     string
	Reserved string
	Port     uint32
}

// forwardedLocal is the payload of forwarded-streamlocal@openssh.com.
type forwardedLocal struct {
	Path     string
	Reserved string
}

// listening is the payload of tcpip-forward and its cancel.
type listening struct {
	Host string
	Port uint32
}

// listeningLocal is the payload of streamlocal-forward@openssh.com and its cancel.
type listeningLocal struct{ Path string }

// isHost and isPath tell a host from a socket's path, which is whole: no word is both, so
// that what the scope and the record say of a place is of one place.
func isHost(name string) bool { return !strings.Contains(name, "/") }
func isPath(name string) bool { return strings.HasPrefix(name, "/") }

func (r *relay) direct(channel ssh.NewChannel) {
	var to direct
	if err := ssh.Unmarshal(channel.ExtraData(), &to); err != nil || to.Port == 0 || to.Port > 65535 || !isHost(to.Host) {
		_ = channel.Reject(ssh.ConnectionFailed, prefix+"this asks for no connection") // a client that has gone needs no answer
		return
	}
	// Marshalled anew: what goes on is what was checked.
	r.forward(channel, place(to.Host, to.Port), ssh.Marshal(to))
}

func (r *relay) directLocal(channel ssh.NewChannel) {
	var to directLocal
	if err := ssh.Unmarshal(channel.ExtraData(), &to); err != nil || !isPath(to.Path) {
		_ = channel.Reject(ssh.ConnectionFailed, prefix+"this asks for no socket; name one by its whole path") // as above
		return
	}
	r.forward(channel, to.Path, ssh.Marshal(to))
}

func (r *relay) forward(channel ssh.NewChannel, to string, payload []byte) {
	if !r.rules.forwards(to) {
		r.refuse(channel, "the grant allows no forward to "+to)
		return
	}
	r.join(channel, r.target, "forward", to, payload)
}

// refuse rejects a channel, and writes it down.
func (r *relay) refuse(channel ssh.NewChannel, say string) {
	if err := r.rec.note("refused: %s", say); err != nil {
		r.fail(err)
	}
	_ = channel.Reject(ssh.Prohibited, prefix+say) // as above
}

// back opens towards the client what the target begins: only what this client has
// asked for, and the scope still has.
func (r *relay) back(channel ssh.NewChannel) {
	what := r.wanted(channel)
	if what == "" && channel.ChannelType() == channelForwarded {
		// It may have overtaken the port that the target has just chosen.
		r.choosing.Lock()
		what = r.wanted(channel)
		r.choosing.Unlock()
	}
	if what == "" {
		r.refuse(channel, "the target opens a "+channel.ChannelType()+" channel that nobody asked for")
		return
	}
	r.join(channel, r.client, "back", what, channel.ExtraData())
}

// wanted says what of a client's a channel from the target is for; "": nothing.
func (r *relay) wanted(channel ssh.NewChannel) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch channel.ChannelType() {
	case channelForwarded:
		var from direct
		if err := ssh.Unmarshal(channel.ExtraData(), &from); err == nil && isHost(from.Host) && r.remote[place(from.Host, from.Port)] {
			return place(from.Host, from.Port) + " from " + place(from.OriginHost, from.OriginPort)
		}
	case channelForwardedLocal:
		var from forwardedLocal
		if err := ssh.Unmarshal(channel.ExtraData(), &from); err == nil && isPath(from.Path) && r.remote[from.Path] {
			return from.Path
		}
	case channelAgentBack:
		if r.agent {
			return "the client's agent"
		}
	case channelX11Back:
		if r.x11 {
			return "the client's display"
		}
	}
	return ""
}

// join opens the same channel on the other side, and carries it until both ends of
// both sides are over. What is said is written down before the other side hears of it.
func (r *relay) join(channel ssh.NewChannel, other link, kind, what string, payload []byte) {
	n, since := r.n.Add(1), time.Now()
	if err := r.rec.begun(n, kind, what); err != nil {
		r.fail(err)
		_ = channel.Reject(ssh.ConnectionFailed, prefix+"not recorded") // as above
		return
	}
	far, farRequests, err := other.OpenChannel(channel.ChannelType(), payload)
	if err != nil {
		r.over(r.rec.done(n, "failed", 0, since))
		reason, say := ssh.ConnectionFailed, "the other side did not answer"
		var rejected *ssh.OpenChannelError
		if errors.As(err, &rejected) {
			reason, say = rejected.Reason, rejected.Message
		}
		_ = channel.Reject(reason, say) // as above
		return
	}
	near, nearRequests, err := r.accept(channel)
	if err != nil {
		_ = far.Close() // it may have gone
		ssh.DiscardRequests(farRequests)
		r.over(r.rec.done(n, "failed", 0, since))
		return
	}
	var bytes atomic.Int64
	there, back := make(chan struct{}), make(chan struct{}) // closed when all of one way has gone on
	sides := crew{fail: r.fail}
	// A side that closes its channel ends its requests. What it sent before goes on, as
	// sshd has it, and then the other is closed.
	sides.Go(func() { ssh.DiscardRequests(nearRequests); <-there; _ = far.Close() })
	sides.Go(func() { ssh.DiscardRequests(farRequests); <-back; _ = near.Close() })
	carried := make(chan struct{})
	sides.Go(func() {
		select {
		case <-r.ended: // the target's side first: the client may stall
			_, _ = far.Close(), near.Close()
		case <-carried:
		}
	})
	ways := crew{fail: r.fail}
	ways.Go(func() { defer close(there); bytes.Add(r.carryOn(far, near)) })
	ways.Go(func() { defer close(back); bytes.Add(r.carryOn(near, far)) })
	ways.Wait()
	close(carried)
	_, _ = near.Close(), far.Close() // closed already, or gone
	sides.Wait()
	r.over(r.rec.done(n, "closed", bytes.Load(), since))
}

// accept opens the side that asked, when the other one has opened its own. The end may have
// begun meanwhile, and looks once for what is open.
func (r *relay) accept(channel ssh.NewChannel) (ssh.Channel, <-chan *ssh.Request, error) {
	if r.isOver() {
		_ = channel.Reject(ssh.Prohibited, prefix+r.why) // a side that has gone needs no answer
		return nil, nil, errCut
	}
	return channel.Accept()
}

// over ends the session where its record cannot be kept.
func (r *relay) over(err error) {
	if err != nil {
		r.fail(err)
	}
}

// carryOn copies one way until its end, which it passes on, and returns how many bytes
// were delivered. Once the other side has closed its channel nothing can be delivered to
// it. What still comes is dropped then, so that the sender goes on to take what that side
// sent before it closed.
func (r *relay) carryOn(to, from ssh.Channel) (n int64) {
	in, out := &flow{from: from}, stallWriter{to, r.stalls}
	for closed := false; ; {
		data, err := in.read()
		if !closed {
			written, failed := out.Write(data)
			n, closed = n+int64(written), failed != nil
		}
		if err != nil {
			_ = to.CloseWrite() // it may have gone
			return n
		}
	}
}

// listen asks the target to listen for the client (-R).
func (r *relay) listen(kind string, payload []byte) (bool, []byte) {
	var at listening
	if err := ssh.Unmarshal(payload, &at); err != nil || at.Port > 65535 || !isHost(at.Host) {
		return false, nil
	}
	if !r.mayListen(place(at.Host, at.Port)) {
		return false, nil
	}
	// Known before a connection is passed on, which the target may do at once.
	if at.Port == 0 {
		r.choosing.Lock()
		defer r.choosing.Unlock()
	} else {
		r.listens(place(at.Host, at.Port), true)
	}
	ok, reply, err := r.target.SendRequest(kind, true, ssh.Marshal(at))
	if err != nil || !ok {
		r.listens(place(at.Host, at.Port), false)
		return false, nil
	}
	var given struct{ Port uint32 }
	if at.Port == 0 && ssh.Unmarshal(reply, &given) == nil {
		r.listens(place(at.Host, given.Port), true)
	}
	return true, reply
}

func (r *relay) listenLocal(kind string, payload []byte) bool {
	var at listeningLocal
	if err := ssh.Unmarshal(payload, &at); err != nil || !isPath(at.Path) || !r.mayListen(at.Path) {
		return false
	}
	r.listens(at.Path, true)
	ok, _, err := r.target.SendRequest(kind, true, ssh.Marshal(at))
	if err != nil || !ok {
		r.listens(at.Path, false)
		return false
	}
	return true
}

// mayListen checks, and writes down, that the target shall listen at a place. A port
// that the target is to choose is allowed where no places are listed.
func (r *relay) mayListen(at string) bool {
	if !r.rules.listens(at) {
		r.over(r.rec.note("refused: the grant allows no listening at %s", at))
		return false
	}
	if err := r.rec.begun(r.n.Add(1), "listen", at); err != nil {
		r.fail(err)
		return false
	}
	return true
}

func (r *relay) listens(at string, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on {
		r.remote[at] = true
		return
	}
	delete(r.remote, at)
}

// unlisten cancels what this very client has asked for, and nobody else's.
func (r *relay) unlisten(kind string, payload []byte) bool {
	var tcp listening
	var local listeningLocal
	at, again := "", []byte(nil)
	switch {
	case kind == "cancel-tcpip-forward" && ssh.Unmarshal(payload, &tcp) == nil && isHost(tcp.Host):
		at, again = place(tcp.Host, tcp.Port), ssh.Marshal(tcp)
	case kind == "cancel-streamlocal-forward@openssh.com" && ssh.Unmarshal(payload, &local) == nil && isPath(local.Path):
		at, again = local.Path, ssh.Marshal(local)
	}
	r.mu.Lock()
	mine := r.remote[at]
	delete(r.remote, at)
	r.mu.Unlock()
	if !mine {
		return false
	}
	ok, _, err := r.target.SendRequest(kind, true, again)
	return ok && err == nil
}
