package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/proxy"
)

// Limits towards clients. A body or an answer may take for ever, but not stand still.
const (
	headWait   = 10 * time.Second
	idleWait   = 2 * time.Minute
	stallWait  = time.Minute // nothing read of a body, or taken of an answer
	pageBody   = 30 * time.Second
	pageAnswer = 2 * time.Minute
	maxHead    = 32 << 10
	maxStreams = 100
	closeWait  = 5 * time.Second // of what is under way when the gate has stopped
)

// limits are those that tests shorten.
type limits struct{ head, idle, stall time.Duration }

// conn is one client connection. net/http reads its requests; with HTTP/2 several are
// under way at once.
type conn struct {
	h        *handler
	base     *proxy.Conn
	socket   *socket
	behind   bool                 // a trusted proxy's, which says in each request whose it is
	plain    *framed              // nil with HTTP/2
	state    *tls.ConnectionState // nil without TLS
	requests sync.WaitGroup
	taken    chan *dialogue // by a websocket; capacity 1
}

// socket tells when net/http, or who hijacked from it, has closed the connection.
type socket struct {
	net.Conn
	from net.Addr // the client's, told by a trusted proxy; nil: the connection's own
	once sync.Once
	gone chan struct{}
}

// RemoteAddr is where the client is.
func (s *socket) RemoteAddr() net.Addr {
	if s.from != nil {
		return s.from
	}
	return s.Conn.RemoteAddr()
}

// Close closes the connection once.
func (s *socket) Close() error {
	err := s.Conn.Close()
	s.once.Do(func() { close(s.gone) })
	return err
}

// NetConn is the connection under it, for proxy.Relay and proxy.Reset.
func (s *socket) NetConn() net.Conn { return s.Conn }

// serve has the connection answered, and returns when it is closed.
func (c *conn) serve(ctx context.Context) error {
	top, err := c.handshake(ctx)
	if err != nil {
		return err
	}
	if err := c.base.SetDeadline(time.Time{}); err != nil { // from here net/http's limits hold
		return fmt.Errorf("clear the handshake's deadline: %w", err)
	}
	talks, err := c.answer(ctx, top)
	if talks != nil { // nothing of net/http is left: an idle websocket takes little memory
		talks.run(ctx)
	}
	return err
}

// answer hands the connection to an http.Server of its own and returns when it is closed,
// or when a websocket has taken it.
func (c *conn) answer(ctx context.Context, top net.Conn) (talks *dialogue, err error) {
	srv := &http.Server{
		Handler: c, ReadHeaderTimeout: c.h.limits.head, IdleTimeout: c.h.limits.idle, MaxHeaderBytes: maxHead,
		DisableGeneralOptionsHandler: true, // OPTIONS * is refused here like everything ambiguous
		ErrorLog:                     slog.NewLogLogger(c.h.log.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		TLSConfig:                    &tls.Config{NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}, // for net/http to know of HTTP/2
	}
	served, begun := make(chan error, 1), make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	srv.ConnState = func(net.Conn, http.ConnState) { begin() }
	l := &single{conn: top, gone: c.socket.gone, closed: make(chan struct{})}
	go func() { served <- srv.Serve(l) }()
	stopped := c.h.config.Gate.Done()
	select {
	case <-stopped: // it came to be told so
		srv.SetKeepAlivesEnabled(false)
		stopped = nil
	default:
	}
	select {
	case talks = <-c.taken:
	case <-c.socket.gone:
	case <-stopped:
		select { // a Server that shuts down before it has the connection drops it without a word
		case <-begun:
		case <-c.socket.gone:
		case <-ctx.Done():
		}
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
		_ = srv.Shutdown(wait) // what is left is closed below
		cancel()
	case <-ctx.Done():
	}
	_ = srv.Close() // it knows nothing of what was taken
	if talks == nil {
		_ = c.socket.Close()
	}
	err = <-served
	c.requests.Wait()
	select {
	case late := <-c.taken: // while all of it was closed
		talks = late
	default:
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return talks, nil
	}
	return talks, err
}

// handshake is TLS with the client, within the deadline that the connection came with.
func (c *conn) handshake(ctx context.Context) (net.Conn, error) {
	if c.h.tls == nil {
		c.plain = newFramed(c.socket)
		return c.plain, nil
	}
	t := tls.Server(c.socket, c.h.tls)
	done := make(chan error, 1)
	go func() { done <- t.HandshakeContext(ctx) }() // its deep stack would stay as long as the connection
	if err := <-done; err != nil {
		return nil, fmt.Errorf("tls handshake: %w", err)
	}
	state := t.ConnectionState()
	c.state = &state
	if state.NegotiatedProtocol == "h2" {
		return t, nil
	}
	c.plain = newFramed(t)
	return c.plain, nil
}

// single is a listener with one connection.
type single struct {
	mu     sync.Mutex
	conn   net.Conn
	gone   <-chan struct{}
	once   sync.Once
	closed chan struct{}
}

// Accept returns the connection, and then waits for its end.
func (l *single) Accept() (net.Conn, error) {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	select {
	case <-l.gone:
	case <-l.closed:
	}
	return nil, net.ErrClosed
}

// Close ends Accept.
func (l *single) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is empty: nobody asks.
func (l *single) Addr() net.Addr { return &net.TCPAddr{} }

// ServeHTTP answers one request.
func (c *conn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.requests.Add(1)
	defer c.requests.Done()
	r.TLS = c.state
	if r.ContentLength != 0 { // net/http reads on behind a refusal, too; what forwards a body sets its own
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(c.h.limits.stall)) // fails only on a closed connection
	}
	host := strings.ToLower(r.Host)
	s := c.h.sites().find(r)
	from := c.from(r)
	switch {
	case c.plain != nil && c.plain.bad.Load():
		w.Header().Set("Connection", "close")
		c.refuse(w, r, s, bad("this request can be read in two ways"))
	case !c.sameName(host):
		c.refuse(w, r, s, &refusal{status: http.StatusMisdirectedRequest, say: "the host in TLS and in the request differ"})
	case from != nil:
		c.refuse(w, r, s, from)
	case host == c.h.gateHost && c.own(w, r):
	case s != nil && host != c.h.gateHost:
		c.site(w, r, s)
	case c.h.config.Pages != nil:
		c.pages(w, r)
	default:
		c.refuse(w, r, nil, &refusal{status: http.StatusMisdirectedRequest, say: "this gate has no such host"})
	}
}

// sameName refuses a request for one name on a connection that was made for another:
// a certificate for both makes browsers join them, and the client certificate is asked
// for by name.
func (c *conn) sameName(host string) bool {
	if c.state == nil || c.state.ServerName == "" {
		return true
	}
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
	}
	return strings.EqualFold(name, c.state.ServerName)
}

// lingerWait is how long what a client still sends is read, after its last answer.
const lingerWait = 500 * time.Millisecond

// linger lets a client read why its upload ended: to close with its bytes unread would
// take the answer away from it (RFC 9112, section 9.6).
func (c *conn) linger(w http.ResponseWriter) {
	_ = http.NewResponseController(w).Flush()
	under := c.plain.Conn
	if half, ok := under.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = under.SetReadDeadline(time.Now().Add(lingerWait))
	_, _ = io.Copy(io.Discard, under) // nobody else reads in the middle of a body
}

// pages lets the gate's own pages answer, with their own limits.
func (c *conn) pages(w http.ResponseWriter, r *http.Request) {
	rc, now := http.NewResponseController(w), time.Now()
	_ = rc.SetReadDeadline(now.Add(pageBody)) // fails only on a closed connection
	_ = rc.SetWriteDeadline(now.Add(pageAnswer))
	c.h.config.Pages.ServeHTTP(w, r)
	_ = rc.SetWriteDeadline(time.Time{})
}
