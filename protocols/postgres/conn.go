package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// conn is one client connection. Its own goroutine uses it; while Open waits, the
// watcher reads from net and nobody else does.
type conn struct {
	h    *handler
	gate *session.Gate
	log  *slog.Logger
	base *proxy.Conn
	net  net.Conn // base, or TLS on top of it

	version  uint32 // as negotiated; 0: nobody would understand a message yet
	admitted bool   // AuthenticationOk has gone out
	told     bool   // the last words were said, or there is nobody to tell
	lingers  bool   // the write side has ended, and the client may still send
}

// errDone ends a conversation that was complete without a session.
var errDone = errors.New("done")

// serve is the conversation, one line per step. Its error is said by refuse.
func (c *conn) serve(ctx context.Context) error {
	hello, err := c.hello(ctx)
	if err != nil {
		return err
	}
	sess, err := c.open(ctx, &hello.ask)
	if err != nil {
		return err
	}
	return sess.Run(ctx, func(ctx context.Context, up *session.Upstream) error {
		srv, err := c.login(ctx, up, hello.params)
		if err != nil {
			return err
		}
		return c.relay(ctx, srv, up)
	})
}

// open asks the gate, and watches the client meanwhile: one that hangs up, or that
// talks before it is let in, ends the wait.
func (c *conn) open(ctx context.Context, ask *session.Ask) (*session.Session, error) {
	if err := c.net.SetDeadline(time.Time{}); err != nil { // from here the gate's own limits hold
		return nil, fmt.Errorf("clear the handshake's deadline: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan error, 1)
	go func() {
		err := c.watch()
		if err != nil {
			cancel(err)
		}
		watched <- err
	}()
	sess, err := c.gate.Open(ctx, *ask, c.notice)
	_ = c.net.SetReadDeadline(time.Now().Add(-time.Hour)) // fails only on a closed connection
	if gone := <-watched; gone != nil {
		return nil, gone
	}
	if err != nil {
		return nil, err
	}
	if err := c.net.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("clear the watcher's deadline: %w", err)
	}
	return sess, nil
}

// errHungUp says that the client went while it was held.
var errHungUp = fmt.Errorf("the client hung up: %w", context.Canceled)

// watch waits for a client that is held to go. It returns nil at the read deadline.
func (c *conn) watch() error {
	var b [1]byte
	n, err := c.net.Read(b[:])
	switch {
	case n > 0 && b[0] == msgTerminate:
		return errHungUp
	case n > 0:
		return &session.Invalid{Field: "protocol", Hint: "your client sends before it is let in; connect again and wait for the gate"}
	case errors.Is(err, os.ErrDeadlineExceeded): // keepalive's end is a time-out too, and the client's
		return nil
	}
	return errHungUp
}

// peer is the client's TLS state; nil without TLS.
func (c *conn) peer() *tls.ConnectionState {
	t, ok := c.net.(*tls.Conn)
	if !ok {
		return nil
	}
	state := t.ConnectionState()
	return &state
}

// writeWait bounds a write outside the relay: what we say then fits into any
// client's buffers.
const writeWait = 10 * time.Second

func (c *conn) write(p []byte, wait time.Duration) error {
	_ = c.net.SetWriteDeadline(time.Now().Add(wait)) // fails only on a closed connection, as Write does
	if _, err := c.net.Write(p); err != nil {
		return fmt.Errorf("write to the client: %w", err)
	}
	_ = c.net.SetWriteDeadline(time.Time{})
	return nil
}
