package ssh

import (
	"time"

	"golang.org/x/crypto/ssh"
)

// prefix tells the gate's words from the target's.
const prefix = "sallyport: "

// lastWords bounds how long a client is waited for that does not take its last
// words: the cut must not depend on it.
const lastWords = 225 * time.Millisecond

// lastProcess bounds how long a target is waited for that does not say that what ran
// there has ended. The client is gone by then.
const lastProcess = time.Second

// no ends the sign-in with the sentence for err. Closing is the only way to keep a
// client from trying again by itself, which would ask people a second time.
func (c *conn) no(err error) error {
	if c.why != nil {
		return c.why
	}
	c.why = err
	_ = c.notice(c.gate.Message(err)) // whoever has gone needs no words
	_ = c.net.Close()                 // as above
	return err
}

// hint says something beside a failed try, once however many keys it is true of; the
// client may try another way.
func (c *conn) hint(err error, say string) error {
	if c.hinted == say {
		return err
	}
	c.hinted = say
	return &ssh.BannerError{Err: err, Message: prefix + say + "\r\n"}
}

// refuse says why a session did not come to be, or ended before the relay could say
// it, on the first channel that the client opens: stderr, exit-status 255.
func (c *conn) refuse(client link, err error) {
	if err == nil || c.relayed {
		return
	}
	say := c.gate.Message(err)
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	for {
		select {
		case request, ok := <-client.requests:
			if !ok {
				return
			}
			_ = request.Reply(false, nil) // as below
		case channel, ok := <-client.channels:
			if !ok {
				return
			}
			if channel.ChannelType() != "session" {
				_ = channel.Reject(ssh.Prohibited, prefix+say) // a client that has gone needs no words
				continue
			}
			tell(channel, say)
			return
		case <-timer.C:
			return
		}
	}
}

// tell answers a session channel with nothing but a sentence.
func tell(channel ssh.NewChannel, say string) {
	ch, requests, err := channel.Accept()
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r := range requests {
			// A shell or command is acknowledged: else clients print their own guess.
			_ = r.Reply(r.Type == "shell" || r.Type == "exec" || r.Type == "subsystem" || r.Type == "pty-req", nil)
			if r.Type == "shell" || r.Type == "exec" || r.Type == "subsystem" {
				lastWord(ch, say)
			}
		}
	}()
	select {
	case <-done: // the client closed it
	case <-time.After(time.Second):
		lastWord(ch, say)
	}
}

// lastWord ends a client's session channel with our sentence. Errors mean that the
// client has gone.
func lastWord(ch ssh.Channel, say string) {
	_, _ = ch.Stderr().Write([]byte("\r\n" + prefix + say + "\r\n"))
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{255}))
	_ = ch.CloseWrite()
	_ = ch.Close()
}
