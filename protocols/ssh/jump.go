package ssh

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/proxy"
)

// maxCarried bounds inner connections of one outer connection.
const maxCarried = 16

// jump serves `ssh -J`: a connection that named no target. It opens nothing but
// inner connections, each of which is asked, held and recorded like one of its own.
func (c *conn) jump(ctx context.Context, client link) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if c.proof.SSH != nil {
		c.unhurried()
	}
	stop := context.AfterFunc(ctx, func() { _ = client.Close() }) // an error says that it is closed
	defer stop()
	var inner sync.WaitGroup
	defer inner.Wait()
	inner.Go(func() {
		for r := range client.requests {
			_ = r.Reply(false, nil) // a client that has gone needs no answer
		}
	})
	slots := make(chan struct{}, maxCarried)
	for channel := range client.channels {
		host, err := c.carries(channel)
		if err != nil {
			_ = channel.Reject(ssh.Prohibited, prefix+err.Error()) // as above
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = channel.Reject(ssh.ResourceShortage, prefix+"too many connections go through this one") // as above
			continue
		}
		inner.Go(func() {
			defer func() { <-slots }()
			c.carry(ctx, channel, host)
		})
	}
	cancel(errHungUp)
	return nil
}

// carries says which target a channel is for. Whether there is one of that name, and
// for whom, is the gate's word, so that asking here reveals nothing.
func (c *conn) carries(channel ssh.NewChannel) (host string, err error) {
	if channel.ChannelType() != channelDirect {
		return "", fmt.Errorf("name a target; type: ssh ROLE@TARGET@GATE")
	}
	var to direct
	if err := ssh.Unmarshal(channel.ExtraData(), &to); err != nil {
		return "", fmt.Errorf("this asks for no connection")
	}
	if !targetName(to.Host) {
		return "", fmt.Errorf("%q is no target's name", to.Host)
	}
	return to.Host, nil
}

func (c *conn) carry(ctx context.Context, channel ssh.NewChannel, host string) {
	ch, requests, err := channel.Accept()
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() { ssh.DiscardRequests(requests); close(done) }()
	inner := &conn{h: c.h, gate: c.gate, log: c.log.With("inner", host), net: &carried{Channel: ch, outer: c.net}, outer: c, host: host}
	err = inner.serve(ctx)
	c.left(inner, proxy.Handshake(ctx))
	c.log.Debug("inner connection over", "target", host, "err", err)
	_ = ch.Close() // closed already, or the outer connection has gone
	<-done
}

// targetName reports a target's name as the policy forms them.
func targetName(host string) bool {
	if host == "" || len(host) > 63 {
		return false
	}
	for _, r := range host {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-' {
			return false
		}
	}
	return true
}
