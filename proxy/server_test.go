package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

type handlerFunc func(ctx context.Context, conn net.Conn) error

func (f handlerFunc) Serve(ctx context.Context, conn net.Conn) error { return f(ctx, conn) }

// echo answers until its client or the server ends.
func echo(ctx context.Context, conn net.Conn) error {
	_ = conn.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	_, err := io.Copy(conn, struct{ io.Reader }{conn})
	return err
}

func serve(t testing.TB, s *Server, h Handler) string {
	t.Helper()
	if err := s.Listen(t.Context(), Listener{Name: "echo", Address: "127.0.0.1:0", Handler: h}); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Error(err)
		}
	})
	return s.Addrs()[0].String()
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func TestAllAreBoundOrNone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := &Server{}
	err = s.Listen(t.Context(), Listener{Name: "a", Address: "127.0.0.1:0"}, Listener{Name: "b", Address: taken.Addr().String()})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "listen for b on "+taken.Addr().String()) {
		t.Fatal(err)
	}
	if n := len(s.Addrs()); n > 0 {
		t.Fatalf("%d listeners are left", n)
	}
}

// third makes one more connection and says why it is not served; the reset may come
// as early as in connect.
func third(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "again"); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 5))
	return err
}

func TestConnectionsOverACapAreClosed(t *testing.T) {
	for name, s := range map[string]*Server{"per source": {MaxPerSource: 2}, "in total": {MaxConnections: 2}} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, s, handlerFunc(echo))
			one, two := dial(t, addr), dial(t, addr)
			for _, c := range []net.Conn{one, two} {
				write(t, c, "hello")
				expect(t, c, "hello")
			}
			if err := third(addr); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("the third is not closed: %v", err)
			}
			_ = one.Close()
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for range 5000 { // the place is free once the handler has noticed
				if third(addr) == nil {
					return
				}
				<-tick.C
			}
			t.Fatal("the place is not given back")
		})
	}
}

// elsewhere is a connection from any address.
type elsewhere struct {
	net.Conn
	from *net.TCPAddr
}

func (e elsewhere) RemoteAddr() net.Addr { return e.from }

func TestOneIPv6NetworkIsOneSource(t *testing.T) {
	s := &Server{MaxPerSource: 2, conns: map[*Conn]struct{}{}, perSource: map[netip.Addr]int{}}
	admitted := func(from string) bool {
		near, far := net.Pipe()
		t.Cleanup(func() { _, _ = near.Close(), far.Close() })
		_, done, ok := s.admit(NewConn(elsewhere{near, &net.TCPAddr{IP: net.ParseIP(from), Port: 5000}}))
		if ok {
			t.Cleanup(done)
		}
		return ok
	}
	if !admitted("2001:db8:1:2::1") || !admitted("2001:db8:1:2::2") {
		t.Fatal("closed below the cap")
	}
	if admitted("2001:db8:1:2:3::3") {
		t.Error("a host with a /64 is as many sources as it likes")
	}
	if !admitted("2001:db8:1:3::1") {
		t.Error("another network is closed for this one's sake")
	}
}

func TestHandlersStartWithADeadline(t *testing.T) {
	ended := make(chan error, 1)
	addr := serve(t, &Server{Handshake: 50 * time.Millisecond}, handlerFunc(func(_ context.Context, c net.Conn) error {
		_, err := c.Read(make([]byte, 1))
		ended <- err
		return err
	}))
	dial(t, addr)
	var timeout net.Error
	select {
	case err := <-ended:
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("a silent client is waited for: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("a silent client is waited for")
	}
}

func TestShutdownWaitsThenCuts(t *testing.T) {
	s := &Server{}
	addr := serve(t, s, handlerFunc(echo))
	c := dial(t, addr)
	write(t, c, "hello")
	expect(t, c, "hello")
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- s.Shutdown(ctx) }()
	for { // the listener is closed first
		extra, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		_ = extra.Close()
	}
	write(t, c, "still here")
	expect(t, c, "still here")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("the connection lives on")
	}
}

// scarce is a listener that has no file descriptors for a while.
type scarce struct {
	net.Listener
	fails atomic.Int32
}

func (l *scarce) Accept() (net.Conn, error) {
	if l.fails.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptErrorsThatPassAreWaitedOut(t *testing.T) {
	s := &Server{}
	if err := s.Listen(t.Context(), Listener{Name: "echo", Address: "127.0.0.1:0", Handler: handlerFunc(echo)}); err != nil {
		t.Fatal(err)
	}
	l := &scarce{Listener: s.listeners[0].l}
	l.fails.Store(3)
	s.listeners[0].l = l
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context()) }()
	c := dial(t, l.Addr().String())
	write(t, c, "hello")
	expect(t, c, "hello")
	_ = s.Close()
	if err := <-served; !errors.Is(err, ErrServerClosed) {
		t.Fatal(err)
	}
}

func TestPeekLeavesTheByte(t *testing.T) {
	a, b := pair(t)
	write(t, a, "hello")
	c := NewConn(b)
	if first, err := c.Peek(); err != nil || first != 'h' {
		t.Fatalf("%q, %v", first, err)
	}
	expect(t, c, "hello")
	if NewConn(c) != c {
		t.Fatal("wrapped twice")
	}
}

// Class: one client ends everybody's sessions. What a client makes a handler panic over
// ends that client's connection.
func TestPanicEndsItsConnectionOnly(t *testing.T) {
	var log bytes.Buffer
	s := &Server{Log: slog.New(slog.NewTextHandler(&log, nil))}
	addr := serve(t, s, handlerFunc(func(ctx context.Context, c net.Conn) error {
		var first [1]byte
		if _, err := io.ReadFull(c, first[:]); err != nil {
			return err
		}
		if first[0] == '!' {
			panic("no handler expected that")
		}
		return echo(ctx, c)
	}))
	good, bad := dial(t, addr), dial(t, addr)
	write(t, good, ".before")
	expect(t, good, "before")
	write(t, bad, "!")
	if n, err := bad.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("the connection whose handler panicked goes on")
	}
	write(t, good, "after")
	expect(t, good, "after")
	_ = s.Close()
	if said := log.String(); !strings.Contains(said, "level=ERROR") || !strings.Contains(said, "panic: a string at server_test.go:") {
		t.Errorf("the log says:\n%s", said)
	}
}
