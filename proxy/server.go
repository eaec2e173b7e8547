package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/contain"
	"github.com/sallyport/sallyport/internal/descriptors"
	"github.com/sallyport/sallyport/internal/netsource"
	"github.com/sallyport/sallyport/session"
)

// Limits that hold where a Server's own are zero.
const (
	DefaultHandshake      = 15 * time.Second
	DefaultMaxConnections = 32_768
	DefaultMaxPerSource   = 8_192
)

// bearsSilence is how long a client may leave what it is asked without any answer: by
// keepalive, 15 s and then four questions, or by a look at each connection (vanished).
const (
	bearsSilence = 35 * time.Second
	lookEvery    = 5 * time.Second
)

// A Listener is one address and what answers there.
type Listener struct {
	Name    string // the protocol's word, for the log
	Network string // "tcp" or "unix"; empty: tcp
	Address string
	Handler Handler
}

// A Server accepts connections and gives each to its listener's Handler, in a
// goroutine of its own: a client that is slow or silent holds up nobody.
type Server struct {
	// Log gets one child per connection, with an id. Nil: nothing is logged.
	Log *slog.Logger
	// Handshake is the deadline that a connection starts with; the handler clears it
	// once the client has said what it wants.
	Handshake time.Duration
	// MaxConnections and MaxPerSource cap open connections, in total and per client
	// address (IPv6: /64), so that one client cannot use up the gate. More are closed at once.
	MaxConnections, MaxPerSource int

	mu        sync.Mutex
	listeners []bound
	conns     map[*Conn]struct{}
	targets   map[*Conn]struct{} // those that closed stay until the next look
	perSource map[netip.Addr]int
	next      uint64 // connection ids
	refused   uint64 // connections over a cap since the last line about it
	said      time.Time
	cancel    context.CancelCauseFunc // of every connection; set by Serve
	closed    bool
	busy      sync.WaitGroup // accept loops and connections
	looks     sync.WaitGroup // for those who have vanished
	loops     loops          // forward the bytes of sessions
}

type bound struct {
	Listener
	l net.Listener
}

// ErrServerClosed is Serve's answer after Shutdown or Close.
var ErrServerClosed = errors.New("server closed")

// Listen binds all addresses, or none: nothing is served by half. Bound connections
// wait until Serve. The error names the address.
func (s *Server) Listen(ctx context.Context, listeners ...Listener) error {
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4}}
	var all []bound
	for _, one := range listeners {
		network := one.Network
		if network == "" {
			network = "tcp"
		}
		l, err := config.Listen(ctx, network, one.Address)
		if err != nil {
			for _, b := range all {
				_ = b.l.Close() // never served
			}
			return fmt.Errorf("listen for %s on %s: %w", one.Name, one.Address, err)
		}
		all = append(all, bound{one, l})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, all...)
	return nil
}

// Addrs are the bound addresses, in the order of Listen.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrs := make([]net.Addr, 0, len(s.listeners))
	for _, b := range s.listeners {
		addrs = append(addrs, b.l.Addr())
	}
	return addrs
}

// Serve accepts connections until Shutdown, Close or the end of ctx, and returns
// ErrServerClosed then; or the first error of a listener. Connections that are open
// when it returns live on until Shutdown or Close.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		cancel(nil)
		return ErrServerClosed
	}
	s.cancel = cancel
	s.conns, s.perSource = map[*Conn]struct{}{}, map[netip.Addr]int{}
	listeners := s.listeners
	s.busy.Add(len(listeners))
	s.looks.Go(func() { s.look(ctx) })
	s.mu.Unlock()

	failed := make(chan error, len(listeners))
	for _, b := range listeners {
		go func() {
			defer s.busy.Done()
			failed <- s.accept(ctx, b)
		}()
	}
	defer s.stopListening()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ErrServerClosed
	}
}

// accept gives each connection a goroutine. Errors that pass, such as no free file
// descriptors, are waited out.
func (s *Server) accept(ctx context.Context, b bound) error {
	wait := time.Duration(0)
	for {
		conn, err := b.l.Accept()
		var temporary interface{ Temporary() bool }
		switch {
		case errors.Is(err, net.ErrClosed):
			return ErrServerClosed
		case errors.As(err, &temporary) && temporary.Temporary():
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			s.logger().Warn("accept failed, trying again", "listener", b.Name, "wait", wait, "err", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ErrServerClosed
			}
			continue
		case err != nil:
			return fmt.Errorf("accept for %s: %w", b.Name, err)
		}
		wait = 0
		c := NewConn(conn)
		c.loops = &s.loops
		id, done, ok := s.admit(c)
		if !ok {
			_ = Reset(c) // over a cap; there is nothing to say
			continue
		}
		go func() {
			defer done()
			s.serve(ctx, b, c, id)
		}()
	}
}

// admit counts a connection in, within the caps.
func (s *Server) admit(c *Conn) (id uint64, done func(), ok bool) {
	source := netsource.Of(Source(c))
	left, spare := descriptors.Left()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return 0, nil, false
	case len(s.conns) >= orDefault(s.MaxConnections, DefaultMaxConnections):
		s.over(source, "total")
		return 0, nil, false
	case source.IsValid() && s.perSource[source] >= orDefault(s.MaxPerSource, DefaultMaxPerSource):
		s.over(source, "source")
		return 0, nil, false
	case left < spare: // the log, the store and the recordings of who is there need some
		s.over(source, "open files")
		return 0, nil, false
	}
	s.conns[c] = struct{}{}
	s.perSource[source]++
	s.next++
	s.busy.Add(1)
	return s.next, func() {
		s.mu.Lock()
		delete(s.conns, c)
		if s.perSource[source]--; s.perSource[source] <= 0 {
			delete(s.perSource, source)
		}
		s.mu.Unlock()
		s.busy.Done()
	}, true
}

// over counts a connection that was turned away; one line a second tells of them,
// because a flood must not fill the log. The caller holds mu.
func (s *Server) over(source netip.Addr, which string) {
	s.refused++
	if now := time.Now(); now.Sub(s.said) >= time.Second {
		s.logger().Warn("too many connections", "cap", which, "source", source, "refused", s.refused)
		s.said, s.refused = now, 0
	}
}

func (s *Server) serve(ctx context.Context, b bound, c *Conn, id uint64) {
	defer c.Close() //nolint:errcheck // a handler has said and flushed what it had to
	log := s.logger().With("conn", strconv.FormatUint(id, 36), "protocol", b.Name, "client", c.RemoteAddr().String())
	_ = c.SetDeadline(time.Now().Add(s.handshake())) // fails only on a closed connection, which the handler meets
	err := handle(context.WithValue(WithLogger(ctx, log), serverKey{}, s), b.Handler, c)
	var panicked *contain.Error
	if errors.As(err, &panicked) {
		log.Error("a connection was ended by a fault of the gate: please report it", "err", err)
	}
	log.Debug("connection over", "err", err)
}

// handle keeps a panic to its connection.
func handle(ctx context.Context, h Handler, c *Conn) (err error) {
	defer contain.Panic(&err)
	return h.Serve(ctx, c)
}

// Shutdown stops accepting and waits for the connections. When ctx ends those that
// are left are cut with session.ErrStopping as their cause; Shutdown returns when
// all are gone.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopListening()
	done := make(chan struct{})
	go func() { s.busy.Wait(); close(done) }()
	select {
	case <-done:
		s.end()
		s.looks.Wait()
		s.loops.stop()
		return nil
	case <-ctx.Done():
	}
	defer s.loops.stop()
	s.end()
	s.looks.Wait()
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		s.closeConns()
		<-done
		return fmt.Errorf("connections did not end in time: %w", ctx.Err())
	}
}

// Close cuts everything at once and waits until it is gone.
func (s *Server) Close() error {
	s.stopListening()
	s.end()
	s.closeConns()
	s.busy.Wait()
	s.looks.Wait()
	s.loops.stop()
	return nil
}

// look closes connections whose peer has vanished: their handlers see a broken connection.
func (s *Server) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		conns, targets := slices.Collect(maps.Keys(s.conns)), slices.Collect(maps.Keys(s.targets))
		s.mu.Unlock()
		for _, c := range conns {
			if gone, _ := c.vanished(); gone {
				s.logger().Info("client does not answer any more", "client", c.RemoteAddr())
				_ = c.Close() // it may have ended meanwhile
			}
		}
		for _, c := range targets {
			gone, closed := c.vanished()
			if gone {
				s.logger().Warn("target does not answer any more", "target", c.RemoteAddr())
				_ = c.Close() // as above
			}
			if gone || closed {
				s.mu.Lock()
				delete(s.targets, c)
				s.mu.Unlock()
			}
		}
	}
}

type serverKey struct{}

func (s *Server) handshake() time.Duration {
	if s.Handshake <= 0 {
		return DefaultHandshake
	}
	return s.Handshake
}

// Handshake is the time that the server whose ctx it is gives a connection to say what it
// wants, for what a connection carries inside.
func Handshake(ctx context.Context) time.Duration {
	if s, ok := ctx.Value(serverKey{}).(*Server); ok {
		return s.handshake()
	}
	return DefaultHandshake
}

// TargetConn wraps a handler's connection to a target as NewConn does. Where the target
// vanishes, the server whose ctx it is closes it, as it closes clients that do; conn
// itself may be used on.
func TargetConn(ctx context.Context, conn net.Conn) *Conn {
	c := NewConn(conn)
	if s, ok := ctx.Value(serverKey{}).(*Server); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.targets == nil {
			s.targets = map[*Conn]struct{}{}
		}
		s.targets[c] = struct{}{}
	}
	return c
}

func (s *Server) stopListening() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, b := range s.listeners {
		_ = b.l.Close() // closing twice is fine
	}
}

func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel(session.ErrStopping)
	}
}

func (s *Server) closeConns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

func (s *Server) logger() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// Source is the client's address without its port; the zero Addr for a unix socket.
func Source(c net.Conn) netip.Addr { return AddrPort(c).Addr() }

// AddrPort is the client's address; zero for a unix socket.
func AddrPort(c net.Conn) netip.AddrPort {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func orDefault(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

type logKey struct{}

// WithLogger gives a connection's context its logger.
func WithLogger(ctx context.Context, log *slog.Logger) context.Context {
	return context.WithValue(ctx, logKey{}, log)
}

// Logger is the connection's logger, with its id; one that discards where there is none.
func Logger(ctx context.Context) *slog.Logger {
	if log, ok := ctx.Value(logKey{}).(*slog.Logger); ok {
		return log
	}
	return slog.New(slog.DiscardHandler)
}
