package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// How long the end of a backend may take.
const (
	cancelWait    = 3 * time.Second        // one cancel request
	slotWait      = 2 * time.Minute        // until others of the target have been cancelled, or have ended
	leaveWait     = 400 * time.Millisecond // for a busy backend that was told to leave
	idleWait      = 3 * time.Second        // for an idle one, which does as soon as it gets a processor
	terminateWait = 5 * time.Second        // for pg_terminate_backend and its outcome
)

// relay lets the client in and forwards both ways until the session ends. When it
// returns the client has been told and the backend is gone, or an alarm says that
// it could not be ended.
func (c *conn) relay(ctx context.Context, srv *server, upstream *session.Upstream) error {
	defer srv.conn.Close() //nolint:errcheck // nothing is left to be said on it
	cancel := func(ctx context.Context) { c.cancelQuery(ctx, upstream, srv) }
	pid, secret, drop := c.h.keys.issue(c.version, cancel)
	defer drop()
	hello := append(c.ok(nil), srv.status...)
	hello = encode(hello, &pgproto3.BackendKeyData{ProcessID: pid, SecretKey: secret})
	hello = encode(hello, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := c.write(hello, writeWait); err != nil {
		return err
	}
	srv.status = nil

	t := &traffic{rec: upstream.Recorder()}
	out, in := &up{t: t}, &down{t: t, lines: upstream.Warnings(), last: c.last}
	var cancelled sync.WaitGroup
	cancelled.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer cancelled.Done()
		srv.pace.telling.add(1)
		if t.busy() {
			srv.pace.telling.wait()
			cancel(context.WithoutCancel(ctx))
		}
	})
	err := why(proxy.Relay(ctx, c.net, srv.conn, out, in))
	c.told = true
	c.lingers = err != nil && !gone(err)
	if !stop() {
		srv.pace.telling.add(-1)
	} else {
		cancelled.Done()
	}
	if err != nil && context.Cause(ctx) == nil && t.busy() {
		cancel(ctx)
	}
	cancelled.Wait()
	// Whatever stands between here and the target may end the connection of a backend that
	// works on: one that has not answered everything is not taken for ended by that.
	if busy := t.busy(); err != nil || busy {
		c.endBackend(context.WithoutCancel(ctx), upstream, srv, busy)
	}
	return err
}

// last are the last words to a client whose session ends because of err.
func (c *conn) last(err error) []byte {
	if err = why(err); gone(err) {
		return nil
	}
	return c.fatal(nil, err)
}

// why says whose end it was, in words for users.
func why(err error) error {
	switch {
	case errors.Is(err, proxy.ErrClient):
		return fmt.Errorf("%w: %w", errHungUp, err)
	case errors.Is(err, proxy.ErrTarget):
		return &session.Failed{Say: "the connection to the target broke; connect again", Err: err}
	}
	return err
}

// cancelQuery asks the target to cancel the session's query, by the key that only the
// gate knows, and as securely as the session itself.
func (c *conn) cancelQuery(ctx context.Context, up *session.Upstream, srv *server) {
	if srv.secret == nil {
		return
	}
	wait, cancel := context.WithTimeout(ctx, slotWait)
	defer cancel()
	if err := srv.pace.cancels.take(wait); err != nil {
		c.log.Warn("cancel not sent to the target", "err", err)
		return
	}
	defer srv.pace.cancels.give()
	ctx, cancel = context.WithTimeout(ctx, cancelWait)
	defer cancel()
	conn, err := dial(ctx, up, nil)
	if err != nil {
		c.log.Warn("cancel not sent to the target", "err", err)
		return
	}
	defer conn.Close() //nolint:errcheck // nothing is kept on it
	m := binary.BigEndian.AppendUint32(nil, uint32(12+len(srv.secret)))
	m = binary.BigEndian.AppendUint32(m, codeCancel)
	m = binary.BigEndian.AppendUint32(m, srv.pid)
	m = append(m, srv.secret...)
	_ = conn.SetDeadline(time.Now().Add(cancelWait))
	if _, err := conn.Write(m); err != nil {
		c.log.Warn("cancel not sent to the target", "err", err)
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1024)) // the target closes once it has acted
}

// endBackend sees the session's backend gone: at first it is told to leave, and by
// the end of its connection it is known to have left (PostgreSQL leaves that to the
// kernel at process exit). One that does not, because it catches the cancel, and one
// whose connection ended while it was at work, is terminated over a second connection
// of the same role.
func (c *conn) endBackend(ctx context.Context, up *session.Upstream, srv *server, busy bool) {
	if err := srv.end(ctx, up, busy); err != nil {
		c.log.Error("the backend was not seen to end", "pid", srv.backend.pid, "err", err)
		up.Alarm(ctx, fmt.Sprintf("the backend with pid %d was not seen to end: it may still be working at the target", srv.backend.pid))
	}
}

func (s *server) end(ctx context.Context, up *session.Upstream, busy bool) error {
	s.pace.telling.wait()
	wait, cancel := context.WithTimeout(ctx, slotWait)
	defer cancel()
	if err := s.pace.endings.take(wait); err != nil {
		return err
	}
	defer s.pace.endings.give()
	if leave(s.conn, busy) {
		return nil
	}
	return terminate(ctx, up, s)
}

// leave says goodbye and reports that the backend has left: that its connection ended,
// and, where it was busy, that it had answered before.
func leave(conn net.Conn, busy bool) bool {
	wait := idleWait
	if busy {
		wait = leaveWait
	}
	_ = conn.SetDeadline(time.Now().Add(wait)) // fails only on a closed connection, as what follows
	_, _ = conn.Write([]byte{msgTerminate, 0, 0, 0, 4})
	base := conn
	if t, ok := conn.(*tls.Conn); ok {
		_ = t.CloseWrite()
		base = t.NetConn()
	}
	if base, ok := base.(*proxy.Conn); ok {
		_ = base.CloseWrite()
	}
	buf := make([]byte, 8<<10)
	var end []byte // of what came
	for {
		n, err := conn.Read(buf)
		end = append(end, buf[:n]...)
		end = end[max(0, len(end)-readySize):]
		var timeout net.Error
		switch {
		case err == nil:
		case errors.As(err, &timeout) && timeout.Timeout():
			return false
		case errors.Is(err, io.EOF):
			return !busy || isReady(end)
		default:
			// A reset says that the connection is gone, which an idle backend notices; a busy
			// one may not have.
			return !busy
		}
	}
}

const readySize = 6 // bytes of a ReadyForQuery

// isReady reports that the last message of a target was a ReadyForQuery.
func isReady(end []byte) bool {
	return len(end) == readySize && bytes.Equal(end[:readySize-1], []byte{'Z', 0, 0, 0, 5})
}

// terminate ends the backend by pg_terminate_backend and waits until it is gone from
// pg_stat_activity. It is known by its process id and the time when it began: a server may
// have given the id to another since.
func terminate(ctx context.Context, up *session.Upstream, srv *server) error {
	ctx, cancel := context.WithTimeoutCause(ctx, terminateWait, errors.New("it is still there"))
	defer cancel()
	a, err := accountOf(up)
	if err != nil {
		return err
	}
	second, err := connect(ctx, up, a, nil)
	if err != nil {
		return fmt.Errorf("connect a second time: %w", err)
	}
	defer second.conn.Close() //nolint:errcheck // nothing is kept on it
	stop := context.AfterFunc(ctx, func() { _ = second.conn.SetDeadline(time.Now().Add(-time.Hour)) })
	defer stop()
	backend := fmt.Sprintf("from pg_catalog.pg_stat_activity where pid operator(pg_catalog.=) %d and %s operator(pg_catalog.=) %d", srv.backend.pid, sinceOf, srv.backend.since)
	if _, err := second.query("select pg_catalog.pg_terminate_backend(pid) " + backend); err != nil {
		return fmt.Errorf("pg_terminate_backend: %w", err)
	}
	for {
		rows, err := second.query("select " + backend)
		if err != nil {
			return fmt.Errorf("look for the backend: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		if _, err := second.query("select pg_catalog.pg_sleep(0.02)"); err != nil {
			return fmt.Errorf("wait for the backend: %w", err)
		}
	}
}
