package session_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

var (
	here  = netip.MustParseAddr("192.0.2.7")
	there = netip.MustParseAddr("198.51.100.23")
)

// A client is one connection inside Gate.Open, as a protocol would make it.
type client struct {
	t      testing.TB
	f      *gatetest.Fixture
	hangUp context.CancelFunc
	done   chan struct{}
	sess   *session.Session
	err    error

	mu    sync.Mutex
	lines []string
	more  chan struct{}
}

func ask(role string) session.Ask {
	return session.Ask{
		Target: "orders", Role: role, Proof: identity.Proof{Kind: identity.ByBrowser},
		Client: session.Client{Protocol: "postgres", Address: netip.AddrPortFrom(here, 50000), Program: "psql"},
	}
}

// connect asks in the background and holds, like a client at its connection.
func connect(t testing.TB, f *gatetest.Fixture, a session.Ask) *client {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{t: t, f: f, hangUp: cancel, done: make(chan struct{}), more: make(chan struct{}, 1)}
	go func() {
		defer close(c.done)
		c.sess, c.err = f.Open(ctx, a, c.notice)
	}()
	t.Cleanup(func() { cancel(); <-c.done })
	return c
}

func (c *client) notice(line string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, line)
	select {
	case c.more <- struct{}{}:
	default:
	}
	return nil
}

func (c *client) find(part string) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.lines {
		if strings.Contains(line, part) {
			return line, true
		}
	}
	return "", false
}

// wait returns the line that contains part, once it has been shown.
func (c *client) wait(part string) string {
	c.t.Helper()
	for {
		if line, ok := c.find(part); ok {
			return line
		}
		select {
		case <-c.more:
		case <-c.done:
			if line, ok := c.find(part); ok {
				return line
			}
			c.t.Fatalf("the client ended (%v) before it was told %q; it was told %q", c.err, part, c.lines)
		}
	}
}

// link is the identifier in the link that the client was shown.
func (c *client) link() string {
	c.t.Helper()
	line := c.wait("/h/")
	return line[strings.LastIndex(line, "/")+1:]
}

func (c *client) phrase() string {
	c.t.Helper()
	line := c.wait("your phrase is")
	return strings.TrimSpace(strings.Split(strings.TrimPrefix(line, "your phrase is"), "  - ")[0])
}

// confirm does what the person at the link does.
func (c *client) confirm(by identity.SignIn, reason string) session.HeldView {
	c.t.Helper()
	v, err := c.f.Confirm(context.Background(), c.link(), by, here, session.Confirmation{Phrase: c.phrase(), Reason: reason})
	if err != nil {
		c.t.Fatalf("confirm: %v", err)
	}
	return v
}

// end waits for Open and returns what it returned.
func (c *client) end() (*session.Session, error) {
	c.t.Helper()
	<-c.done
	return c.sess, c.err
}

// session waits for Open, which must have let the client through.
func (c *client) session() *session.Session {
	c.t.Helper()
	s, err := c.end()
	if err != nil {
		c.t.Fatalf("not let through: %v", err)
	}
	return s
}

// refused waits for Open, which must have refused with these words.
func (c *client) refused(words string) {
	c.t.Helper()
	s, err := c.end()
	if err == nil {
		c.t.Fatalf("let through as session %s, want a refusal: %s", s.ID(), words)
	}
	wantSays(c.t, err, words)
}

func wantSays(t testing.TB, err error, words string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", words)
	}
	say, ok := session.Message(err)
	if !ok || !strings.Contains(say, words) {
		t.Fatalf("said %q (%v), want %q", say, err, words)
	}
}

// running lives a session until it is cut; its end is sent.
type running struct {
	ended chan error
	up    chan *session.Upstream
}

func run(s *session.Session) running {
	r := running{ended: make(chan error, 1), up: make(chan *session.Upstream, 1)}
	go func() {
		r.ended <- s.Run(context.Background(), func(ctx context.Context, up *session.Upstream) error {
			r.up <- up
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	return r
}

// cut waits for what ends a session that was told to end.
func (r running) cut(t testing.TB) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the session goes on")
		return nil
	}
}

// granted brings somebody to a live session of the role reader, approved by Bob.
func granted(t testing.TB, f *gatetest.Fixture, by identity.SignIn) *session.Session {
	t.Helper()
	c := connect(t, f, ask("reader"))
	v := c.confirm(by, "INC-42 stuck order")
	bob := f.SignIn(t, gatetest.Bob)
	if _, err := f.Decide(context.Background(), bob, v.Request, session.Verdict{Yes: true}); err != nil {
		t.Fatalf("approve: %v", err)
	}
	return c.session()
}

// certificate makes the proof that `sallyport login` gives.
func certificate(t testing.TB, f *gatetest.Fixture, by identity.SignIn) identity.Proof {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := f.CA.Issue(&key.PublicKey, by.User, by.ID, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Proof{Kind: identity.ByCertificate, Certificate: cert}
}

func askWith(role string, proof identity.Proof, reason string) session.Ask {
	a := ask(role)
	a.Proof, a.Reason = proof, reason
	return a
}
