package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/internal/demorun"
)

// A crew is the people of one life of the gate.
type crew struct {
	*demorun.Demo
	s     *soak
	alice *demorun.Person

	mu     sync.Mutex
	grants map[string]*granted // by target and role
	ended  time.Time           // when the last of them ended that another has replaced
}

type granted struct {
	ID    string
	Ends  time.Time
	token string
}

// A request as the API tells it.
type request struct{ ID, Grant string }

// work keeps everybody busy until ctx ends.
func (s *soak) work(ctx context.Context, d *demorun.Demo) error {
	c := &crew{Demo: d, s: s, grants: map[string]*granted{}}
	var err error
	if c.alice, err = d.Person("alice@example.com"); err != nil {
		return err
	}
	var wg sync.WaitGroup
	loop := func(what string, do func(context.Context) error) {
		wg.Go(func() {
			for ctx.Err() == nil {
				switch err := do(ctx); {
				case err == nil:
					s.count(what)
				case isCut(err) && c.ending():
					s.count("sessions that ran into their grant's end")
				default:
					s.failed(ctx, what, err)
					pause(ctx, time.Second)
				}
			}
		})
	}
	for range 4 {
		loop(postgresSessions, c.query)
	}
	for range 2 {
		loop(sshSessions, c.command)
		loop("HTTP requests", c.request)
	}
	loop("websockets", c.websocket)
	loop("held connections that hung up", c.hangUp)
	if s.kills == nil { // such a life is too short for an end, and to say anything
		loop("rounds of a denied, a withdrawn and an approved request", func(ctx context.Context) error {
			if err := c.refused(ctx); err != nil {
				return err
			}
			return c.untilTheEnd(ctx) // after the others, for they ask for the same
		})
		wg.Go(func() { s.sample(ctx, d.PID()) })
	}
	wg.Wait()
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// cuts are how a client without an eye for words meets its grant's end: what its library
// makes of the end, and of a token whose grant has ended.
var cuts = []string{
	"ended at", "grant has ended", // in words
	"exited with status 255", "unable to authenticate", "EOF", "closed", // ssh
	"401 Unauthorized", "403 Forbidden", "close 1008", // HTTP and websocket
}

func isCut(err error) bool {
	return slices.ContainsFunc(cuts, func(part string) bool { return strings.Contains(err.Error(), part) })
}

// ending reports whether one of the grants ended just now.
func (c *crew) ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := func(end time.Time) bool {
		since := time.Since(end)
		return since >= 0 && since < 5*time.Second
	}
	for _, g := range c.grants {
		if now(g.Ends) {
			return true
		}
	}
	return now(c.ended) // its successor was made while the caller waited for the lock
}

// token is one of the present grant, or of the next once that has ended: whoever asks
// while a grant runs is given it.
func (c *crew) token(ctx context.Context, target, role string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.grants[target+role]; g != nil {
		if time.Now().Before(g.Ends) {
			return g.token, nil
		}
		pause(ctx, time.Until(g.Ends.Add(time.Second)))
		c.ended = g.Ends
	}
	g, err := c.grant(ctx, target, role, "2m", "bob@example.com")
	if err != nil {
		return "", err
	}
	c.grants[target+role] = g
	return g.token, nil
}

// grant asks, gets the yes of these people, who sign in for it, and makes a token.
func (c *crew) grant(ctx context.Context, target, role, lasts string, from ...string) (*granted, error) {
	var r request
	body := map[string]string{"target": target, "role": role, "reason": "soak", "ticket": "OPS-1", "duration": lasts}
	if err := c.alice.Post(ctx, "/api/v1/requests", body, &r); err != nil {
		return nil, err
	}
	for _, email := range from {
		if r.Grant != "" {
			break // it runs since before a restart
		}
		approver, err := c.Person(email)
		if err != nil {
			return nil, err
		}
		if err := approver.Post(ctx, "/api/v1/requests/"+r.ID+"/approve", map[string]string{}, &r); err != nil {
			return nil, err
		}
	}
	g := &granted{}
	if err := c.alice.Get(ctx, "/api/v1/grants/"+r.Grant, g); err != nil {
		return nil, err
	}
	var made struct{ Token string }
	if err := c.alice.Post(ctx, "/api/v1/grants/"+r.Grant+"/token", map[string]string{}, &made); err != nil {
		return nil, err
	}
	g.token = made.Token
	c.s.count("grants")
	return g, nil
}

func (c *crew) connect(ctx context.Context, role, token string) (*pgconn.PgConn, error) {
	host, port, err := net.SplitHostPort(c.Postgres)
	if err != nil {
		return nil, err
	}
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=%s dbname=orders sslmode=verify-full sslrootcert=%s", host, port, role, c.CA))
	if err != nil {
		return nil, err
	}
	config.Password, config.LookupFunc = token, func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	return pgconn.ConnectConfig(ctx, config)
}

// query is a session of some statements and a COPY.
func (c *crew) query(ctx context.Context) error {
	token, err := c.token(ctx, "orders", "reader")
	if err != nil {
		return err
	}
	conn, err := c.connect(ctx, "reader+token", token)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it may be cut
	for range 20 {
		if _, err := conn.Exec(ctx, "SELECT count(*) FROM orders").ReadAll(); err != nil {
			return err
		}
	}
	_, err = conn.CopyTo(ctx, io.Discard, "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000)) TO STDOUT")
	return err
}

// command is an SSH session.
func (c *crew) command(ctx context.Context) error {
	if c.SSH == "" {
		return errors.New("the demo has no web-1")
	}
	token, err := c.token(ctx, "web-1", "deploy")
	if err != nil {
		return err
	}
	base, err := demorun.Dial(ctx, "tcp", c.SSH)
	if err != nil {
		return err
	}
	defer base.Close() //nolint:errcheck // closed by the client too
	stop := context.AfterFunc(ctx, func() { _ = base.Close() })
	defer stop()
	conn, channels, requests, err := ssh.NewClientConn(base, c.SSH, &ssh.ClientConfig{
		User: "deploy+token@web-1", Auth: []ssh.AuthMethod{ssh.Password(token)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // on this machine
	})
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	client := ssh.NewClient(conn, channels, requests)
	defer client.Close() //nolint:errcheck // it may be cut
	one, err := client.NewSession()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	out, err := one.CombinedOutput("head -c 300000 /dev/zero | tr '\\0' x")
	if err == nil && len(out) != 300_000 {
		err = fmt.Errorf("%d bytes came", len(out))
	}
	return err
}

func (c *crew) client() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12}, DialContext: demorun.Dial, ForceAttemptHTTP2: true,
	}}
}

// request is a connection of some HTTP requests.
func (c *crew) request(ctx context.Context) error {
	token, err := c.token(ctx, "app", "user")
	if err != nil {
		return err
	}
	client := c.client()
	defer client.CloseIdleConnections()
	for range 10 {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.App+"/api/echo", bytes.NewReader(make([]byte, 10_000)))
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+token)
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		if err := errors.Join(err, answer.Body.Close()); err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("POST /api/echo: %s", answer.Status)
		}
	}
	return nil
}

// websocket listens for a while.
func (c *crew) websocket(ctx context.Context) error {
	token, err := c.token(ctx, "app", "user")
	if err != nil {
		return err
	}
	dialer := websocket.Dialer{NetDialContext: demorun.Dial, TLSClientConfig: &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12}}
	conn, answer, err := dialer.DialContext(ctx, "wss"+c.App[len("https"):]+"/clock", http.Header{"Authorization": {"Bearer " + token}, "Origin": {c.App}}) //nolint:bodyclose // websocket.Dialer: it does not need to be closed
	if err != nil {
		if answer != nil {
			err = fmt.Errorf("%w: %s", err, answer.Status)
		}
		return err
	}
	defer conn.Close() //nolint:errcheck // it may be cut
	for range 3 {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, _, err := conn.ReadMessage(); err != nil {
			return err
		}
	}
	return nil
}

// hangUp waits for an approval that nobody gives, and goes away.
func (c *crew) hangUp(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := c.connect(short, "reader", "")
	if err == nil {
		_ = conn.Close(ctx)
		return errors.New("it got in without a word")
	}
	if short.Err() != nil {
		return nil
	}
	return err
}

// untilTheEnd lets ten sessions run into the end of their grant, and ten into its revoke.
func (c *crew) untilTheEnd(ctx context.Context) error {
	for _, end := range []struct {
		lasts, words string
		by           func(*granted) error // nil: it ends by itself
	}{
		{"20s", "your access to orders ended at", nil},
		{"2m", "your access was revoked by carol@example.com: soak", c.revokes(ctx)},
	} {
		g, err := c.grant(ctx, "orders", "writer", end.lasts, "bob@example.com", "carol@example.com")
		if err != nil {
			return err
		}
		var at atomic.Pointer[time.Time]                           // of the cut
		if at.Store(&g.Ends); time.Until(g.Ends) < 5*time.Second { // of before a restart
			pause(ctx, time.Until(g.Ends.Add(time.Second)))
			return nil
		}
		var begun, over sync.WaitGroup
		for range 10 {
			begun.Add(1)
			over.Go(func() {
				conn, err := c.connect(ctx, "writer+token", g.token)
				begun.Done()
				if err != nil {
					c.s.failed(ctx, "a session that is to be cut", err)
					return
				}
				defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it is cut
				_, err = conn.Exec(ctx, "SELECT pg_sleep(600)").ReadAll()
				c.s.cut(ctx, *at.Load(), end.words, err)
			})
		}
		if begun.Wait(); end.by != nil {
			now := time.Now()
			at.Store(&now)
			if err := end.by(g); err != nil {
				c.s.failed(ctx, "revoke", err)
			}
		}
		over.Wait()
	}
	return nil
}

// revokes is how an approver takes a grant back.
func (c *crew) revokes(ctx context.Context) func(*granted) error {
	return func(g *granted) error {
		carol, err := c.Person("carol@example.com")
		if err != nil {
			return err
		}
		return carol.Post(ctx, "/api/v1/grants/"+g.ID+"/revoke", map[string]string{"why": "soak"}, nil)
	}
}

// refused asks twice: one is denied, one withdrawn.
func (c *crew) refused(ctx context.Context) error {
	carol, err := c.Person("carol@example.com")
	if err != nil {
		return err
	}
	for _, end := range []struct {
		by   *demorun.Person
		verb string
		body map[string]string
	}{{carol, "deny", map[string]string{"word": "soak"}}, {c.alice, "withdraw", map[string]string{}}} {
		var r request
		body := map[string]string{"target": "orders", "role": "writer", "reason": "soak", "ticket": "OPS-2", "duration": "9m"}
		if err := c.alice.Post(ctx, "/api/v1/requests", body, &r); err != nil {
			return err
		}
		if r.Grant != "" {
			return nil // it runs since before a restart
		}
		if err := end.by.Post(ctx, "/api/v1/requests/"+r.ID+"/"+end.verb, end.body, nil); err != nil {
			return err
		}
	}
	return nil
}
