package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/session"
)

// conn is one SSH connection of a client: of its own socket, or the inner one that
// `ssh -J` carries through another conn.
//
// x/crypto/ssh calls back while it shakes hands, one call at a time and all from
// inside hello, in this order:
//
//	ready        once, before anything is tried: keeps what sends banners
//	none         the client's first try: admits an inner connection whose outer proved
//	             somebody, and tells a +token client to send its password
//	offered      a key is offered, which proves nothing
//	verified     the client has signed with that key
//	interactive  browser proof
//	question     why, of whom a certificate has proved and the policy wants to hear it
//	password     grant token
//
// none, verified, interactive, question and password may ask the gate, where the connection is
// held. It is asked once: its answer is sess, or why, and after why nothing is tried
// again.
type conn struct {
	h    *handler
	gate *session.Gate
	log  *slog.Logger
	net  net.Conn

	outer *conn          // carries this one by `ssh -J`; nil: a socket of its own
	proof identity.Proof // what an outer connection has shown; zero: nothing yet
	host  string         // the target that the outer connection was asked for
	stays bool           // unhurried has been called, of an inner connection

	mu      sync.Mutex // guards what follows, and the deadline of an outer connection
	staying int        // inner connections that stay

	pre ssh.ServerPreAuthConn
	// round makes a round of keyboard-interactive while that is under way, else nil.
	round  ssh.KeyboardInteractiveChallenge
	name   name
	said   said // why, by an answered question
	sess   *session.Session
	why    error  // the gate said no
	hinted string // the last hint that was given

	relayed bool // the relay ran, and has said what there was to say
}

// errHungUp says that the client went while it was held.
var errHungUp = fmt.Errorf("the client hung up: %w", context.Canceled)

// serve is the conversation, one line per step.
func (c *conn) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client, err := c.hello(ctx, cancel)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing is left to say
	if c.sess == nil {
		return c.jump(ctx, client)
	}
	err = c.sess.Run(ctx, func(ctx context.Context, up *session.Upstream) error {
		target, err := c.login(ctx, up)
		if err != nil {
			return err
		}
		return c.relay(ctx, client, target, up)
	})
	c.refuse(client, err)
	return err
}

// link is one SSH connection with what the other side asks for on it.
type link struct {
	ssh.Conn
	channels <-chan ssh.NewChannel
	requests <-chan *ssh.Request
	socket   *socket // nil for the client's
}

// socket knows that its other side has gone before any channel over it ends by that.
type socket struct {
	net.Conn
	gone atomic.Bool
}

// Read implements net.Conn.
func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil {
		s.gone.Store(true)
	}
	return n, err
}

// unhurried takes the handshake's deadline away: from here the gate's own limits hold. What
// carries the connection stays as long as it does.
func (c *conn) unhurried() {
	_ = c.net.SetDeadline(time.Time{}) // fails only on a closed connection; so below
	if c.outer == nil || c.stays {
		return
	}
	c.stays = true
	c.outer.mu.Lock()
	defer c.outer.mu.Unlock()
	c.outer.staying++
	_ = c.outer.net.SetDeadline(time.Time{})
}

// left is called when an inner connection is over. An outer one that proves nobody and has
// none left must have another, or goes, as when it began.
func (c *conn) left(inner *conn, grace time.Duration) {
	if !inner.stays {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.staying--; c.staying == 0 && c.proof.SSH == nil {
		_ = c.net.SetDeadline(time.Now().Add(grace)) // as above
	}
}

// watched is a connection that tells when its other side has gone. x/crypto/ssh
// reads ahead during the handshake too, so that holds while a client is held.
type watched struct {
	net.Conn
	gone func()
	once sync.Once
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.once.Do(w.gone)
	}
	return n, err
}

// carried is an SSH channel as the socket of an inner connection. A deadline closes
// it: there is no other that x/crypto/ssh would need.
type carried struct {
	ssh.Channel
	outer net.Conn

	mu    sync.Mutex
	timer *time.Timer
}

func (c *carried) LocalAddr() net.Addr  { return c.outer.LocalAddr() }
func (c *carried) RemoteAddr() net.Addr { return c.outer.RemoteAddr() }

func (c *carried) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	if !t.IsZero() {
		c.timer = time.AfterFunc(time.Until(t), func() { _ = c.Channel.Close() }) // an error says that it is closed
	}
	return nil
}

func (c *carried) SetReadDeadline(t time.Time) error  { return c.SetDeadline(t) }
func (c *carried) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

// Close closes the channel; that the other side has closed it first is no error.
func (c *carried) Close() error {
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if err := c.Channel.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return nil //nolint:nilerr // io.EOF: closed by the other side
	}
	return nil
}
