package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/internal/demorun"
)

const (
	heldCrowd   = 10_000
	silentCrowd = 10_000 // in ten seconds
	pageCrowd   = 500
	perSignIn   = 20  // websockets that one sign-in may have
	perSource   = 100 // held connections that one address may have
	served      = 20 * time.Second
)

// A crowd stood before a gate at work.
type crowd struct {
	name    string
	people  int
	took    time.Duration // until all stood there
	longest time.Duration // that somebody with a token waited for a session meanwhile
	memory  float64       // MiB that the gate took more
	left    time.Duration // until the gate had nothing of them any more
}

// crowds puts one after another before one gate.
func (s *soak) crowds(ctx context.Context) error {
	d, err := demorun.Start(ctx, s.binary, s.dir)
	if err != nil {
		return err
	}
	c := &crew{Demo: d, s: s, grants: map[string]*granted{}}
	if err = c.enter(ctx); err == nil {
		for _, one := range []struct {
			name   string
			people int
			gather func(context.Context, *crowd) (leave func(), err error)
		}{
			{"connections held for a sign-in", heldCrowd, c.gatherHeld},
			{"connections that say nothing, 1,000 a second", silentCrowd, c.gatherSilent},
			{"live pages, and a change of which all are told", pageCrowd, c.gatherPages},
		} {
			if err = c.stand(ctx, &crowd{name: one.name, people: one.people}, one.gather); err != nil {
				err = fmt.Errorf("%s: %w", one.name, err)
				break
			}
		}
	}
	return errors.Join(err, d.Stop())
}

// enter has somebody sign in, and a grant that outlasts the crowds.
func (c *crew) enter(ctx context.Context) error {
	var err error
	if c.alice, err = c.Person("alice@example.com"); err != nil {
		return err
	}
	for {
		g, err := c.grant(ctx, "orders", "reader", "30m", "bob@example.com")
		if err != nil {
			return err
		}
		if time.Until(g.Ends) > 20*time.Minute {
			c.grants["orders"+"reader"] = g
			return nil
		}
		pause(ctx, time.Until(g.Ends.Add(time.Second))) // it runs since the churn
	}
}

// stand gathers a crowd and tries meanwhile whether others are served.
func (c *crew) stand(ctx context.Context, w *crowd, gather func(context.Context, *crowd) (func(), error)) error {
	before, err := c.s.measure(c.PID())
	if err != nil {
		return err
	}
	trying, cancel := context.WithCancel(ctx)
	var busy sync.WaitGroup
	var failed error
	busy.Go(func() {
		for trying.Err() == nil {
			began := time.Now()
			if err := c.query(ctx); err != nil {
				failed = fmt.Errorf("somebody with a token: %w", err)
				return
			}
			w.longest = max(w.longest, time.Since(began))
			pause(trying, 200*time.Millisecond)
		}
	})
	began := time.Now()
	leave, err := gather(ctx, w)
	w.took = time.Since(began)
	now, measured := c.s.measure(c.PID())
	w.memory = now[0] - before[0]
	cancel()
	busy.Wait()
	leave()
	if err := errors.Join(err, failed, measured); err != nil {
		return err
	}
	for began = time.Now(); now[1] > before[1]+20; pause(ctx, 200*time.Millisecond) {
		if now, err = c.s.measure(c.PID()); err != nil {
			return err
		}
		if w.left = time.Since(began); w.left > 2*time.Minute || ctx.Err() != nil {
			return fmt.Errorf("%.0f file descriptors are left of it", now[1]-before[1])
		}
	}
	c.s.crowded = append(c.s.crowded, *w)
	c.s.say(fmt.Sprintf("%d %s: there after %v, gone after %v", w.people, w.name, w.took.Round(time.Second), w.left.Round(time.Second)))
	if w.longest > served {
		return fmt.Errorf("somebody with a token waited %v", w.longest)
	}
	return nil
}

// from dials as one of many addresses of this machine, so many at each.
func (c *crew) from(ctx context.Context, i, each int) (net.Conn, error) {
	_, port, err := net.SplitHostPort(c.Postgres)
	if err != nil {
		return nil, err
	}
	at := i / each
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(1+at/250), byte(1+at%250))}}
	return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
}

// all is what a crowd has open.
type all struct {
	mu    sync.Mutex
	conns []io.Closer
	err   error
}

func (a *all) add(conn io.Closer, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.err = err
		return
	}
	a.conns = append(a.conns, conn)
}

func (a *all) leave() {
	for _, conn := range a.conns {
		_ = conn.Close() // the gate may have closed it
	}
}

func (c *crew) gatherHeld(ctx context.Context, w *crowd) (func(), error) {
	a := &all{}
	next := make(chan int)
	var workers sync.WaitGroup
	for range 64 {
		workers.Go(func() {
			for i := range next {
				a.add(c.held(ctx, i))
			}
		})
	}
	for i := range w.people {
		next <- i
	}
	close(next)
	workers.Wait()
	return a.leave, a.err
}

// held connects without a proof, and returns once it is shown its link.
func (c *crew) held(ctx context.Context, i int) (io.Closer, error) {
	conn, err := c.from(ctx, i, perSource)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest
		return conn, err
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return conn, err
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: c.Roots, ServerName: "localhost", MinVersion: tls.VersionTLS12})
	wire := pgproto3.NewFrontend(secure, secure)
	wire.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "reader", "database": "orders"}})
	if err := wire.Flush(); err != nil {
		return conn, err
	}
	for {
		message, err := wire.Receive()
		if err != nil {
			return conn, err
		}
		switch m := message.(type) {
		case *pgproto3.NoticeResponse:
			if strings.Contains(m.Message, "/h/") {
				return conn, nil
			}
		case *pgproto3.ErrorResponse:
			return conn, errors.New(m.Message)
		}
	}
}

func (c *crew) gatherSilent(ctx context.Context, w *crowd) (func(), error) {
	a := &all{}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < w.people; <-tick.C {
		for range 10 {
			a.add(c.from(ctx, i, w.people/10))
			i++
		}
	}
	return a.leave, a.err
}

// gatherPages opens the pages, and has a request made and taken back of which each is told.
func (c *crew) gatherPages(ctx context.Context, w *crowd) (func(), error) {
	a := &all{}
	told := make(chan error, w.people)
	var reading sync.WaitGroup
	leave := func() { a.leave(); reading.Wait() }
	for range w.people / perSignIn {
		alice, err := c.Person("alice@example.com")
		if err != nil {
			return leave, err
		}
		alice.HTTP.CloseIdleConnections() // they are none of the crowd
		dialer := websocket.Dialer{NetDialContext: demorun.Dial, TLSClientConfig: &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12}, Jar: alice.HTTP.Jar}
		for range perSignIn {
			conn, _, err := dialer.DialContext(ctx, "wss"+strings.TrimPrefix(c.Web, "https")+"/live", http.Header{"Origin": {c.Web}}) //nolint:bodyclose // websocket.Dialer: it does not need to be closed
			if err != nil {
				return leave, err
			}
			a.add(conn, nil)
			reading.Go(func() {
				_, _, err := conn.ReadMessage()
				told <- err
				for err == nil {
					_, _, err = conn.ReadMessage()
				}
			})
		}
	}
	if err := c.refused(ctx); err != nil {
		return leave, err
	}
	late := time.NewTimer(served)
	defer late.Stop()
	for i := range w.people {
		select {
		case err := <-told:
			if err != nil {
				return leave, err
			}
		case <-late.C:
			return leave, fmt.Errorf("%d of %d pages were told within %v", i, w.people, served)
		}
	}
	return leave, nil
}
