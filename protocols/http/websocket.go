package http

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/protocols/http/record"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// A dialogue is a websocket (RFC 6455) that both sides have agreed on. Its frames go on as
// they come, counted, so that the cut finds a boundary and says 1008 there. It holds
// nothing of the request that it began with: it may be idle for hours.
type dialogue struct {
	l              *live
	client, target net.Conn
	up, down       *record.Frames
	done           audit.RequestDone
	begun          time.Time
	end            func()
}

// run carries the frames until a side or the session ends, and writes the request's end.
func (d *dialogue) run(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := d.l.after(func() {
		d.l.cut()
		cancel(d.l.cause())
	})
	defer stop()
	err := proxy.Relay(ctx, d.client, d.target, d.up, d.down)
	_, _ = d.up.Close(), d.down.Close() // where the record fails the session ends by itself
	var ended *session.Ended
	if errors.As(err, &ended) && !errors.Is(err, proxy.ErrReset) {
		farewell(d.client, ended.Say)
	}
	_, _ = d.client.Close(), d.target.Close() // what counts was said before
	d.done.Status, d.done.Up, d.done.Down = http.StatusSwitchingProtocols, d.up.Count, d.down.Count
	d.done.Sent, d.done.Bytes, d.done.Took = d.up.Bytes, d.down.Bytes, time.Since(d.begun)
	_ = d.l.recorder.Write(&d.done)
	d.end()
}

// websocket has both sides agree on a websocket; nil: they did not, and the client has its
// answer.
func (l *live) websocket(ctx context.Context, c *conn, a *answer, r *http.Request, done *audit.RequestDone) (talks *dialogue) {
	if !l.site.Websocket && len(l.scope.Methods) == 0 {
		c.refuse(a, r, l.site, outside("the policy lets no websockets through to "+l.site.target))
		return nil
	}
	target, err := l.to.dial(ctx)
	if err != nil {
		c.refuse(a, r, l.site, l.whyNot(ctx, err))
		return nil
	}
	defer func() {
		if talks == nil {
			_ = target.Close() // what counts was said before
		}
	}()
	res, in, err := exchange(ctx, target, l.upgrade(ctx, r))
	if err != nil {
		c.refuse(a, r, l.site, l.whyNot(ctx, err))
		return nil
	}
	cleanAnswer(res.Header)
	done.Headers = l.rules.Headers(res.Header)
	if res.StatusCode != http.StatusSwitchingProtocols {
		defer res.Body.Close() //nolint:errcheck // read
		plainAnswer(a, res)
		return nil
	}
	if !strings.EqualFold(res.Header.Get("Upgrade"), "websocket") {
		c.refuse(a, r, l.site, l.whyNot(ctx, fmt.Errorf("the target changes to %q", res.Header.Get("Upgrade"))))
		return nil
	}
	if len(res.Header.Values("Sec-Websocket-Extensions")) > 0 && l.rules.Messages() {
		c.refuse(a, r, l.site, l.whyNot(ctx, errors.New("the target takes an extension that nobody has offered")))
		return nil
	}
	client, err := a.take(res)
	if err != nil {
		return nil // the client has gone
	}
	buffered, _ := in.Peek(in.Buffered())
	return &dialogue{
		l: l, client: client, target: before(buffered, target),
		up: l.rules.Frames(l.recorder, done.N, "up"), down: l.rules.Frames(l.recorder, done.N, "down"),
	}
}

// upgrade is the request that goes to the target.
func (l *live) upgrade(ctx context.Context, r *http.Request) *http.Request {
	out := r.Clone(ctx)
	out.Body, out.ContentLength, out.Trailer, out.TransferEncoding = nil, 0, nil, nil
	hop(out.Header)
	if l.rules.Messages() {
		out.Header.Del("Sec-Websocket-Extensions") // compressed messages could not be read
	}
	l.dress(out)
	out.Header.Set("Connection", "Upgrade")
	out.Header.Set("Upgrade", "websocket")
	out.Header.Set("X-Forwarded-For", source(r).Addr().String())
	out.Header.Set("X-Forwarded-Host", r.Host)
	out.Header.Set("X-Forwarded-Proto", "https")
	out.URL.Scheme, out.URL.Host = l.to.scheme, l.to.address
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "")
	}
	return out
}

// plainAnswer passes on what a target answers that does not want a websocket.
func plainAnswer(a *answer, res *http.Response) {
	hop(res.Header)
	for name, values := range res.Header {
		a.Header()[name] = values
	}
	a.WriteHeader(res.StatusCode)
	_, _ = io.Copy(a, io.LimitReader(res.Body, 1<<20)) // the client has gone, or has it
}

var errCut = errors.New("cut")

// take takes the connection from net/http and answers the handshake.
func (a *answer) take(res *http.Response) (net.Conn, error) {
	a.mu.Lock()
	if a.cutting = a.cutting || a.conn.plain == nil; a.cutting {
		a.mu.Unlock()
		return nil, errCut
	}
	a.taken, a.begun, a.status = true, true, http.StatusSwitchingProtocols
	a.mu.Unlock()
	taken, rw, err := a.rc.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the client's connection: %w", err)
	}
	_ = taken.SetDeadline(time.Now().Add(openWait))
	var head strings.Builder
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = res.Header.Write(&head) // a Builder takes all
	head.WriteString("\r\n")
	if _, err := io.WriteString(taken, head.String()); err != nil {
		_ = taken.Close()
		return nil, fmt.Errorf("write to the client: %w", err)
	}
	_ = taken.SetDeadline(time.Time{})
	read, _ := rw.Peek(rw.Reader.Buffered()) // a frame may come together with the handshake
	more, under := a.conn.plain.rest()
	return before(append(append([]byte{}, read...), more...), under), nil
}

// before puts bytes that were read already in front of a connection.
func before(read []byte, c net.Conn) net.Conn {
	if len(read) == 0 {
		return c
	}
	return &prefixed{Conn: c, read: append([]byte{}, read...)}
}

type prefixed struct {
	net.Conn
	read []byte
}

// Read reads what was read already, then on.
func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.read) > 0 {
		n := copy(b, p.read)
		p.read = p.read[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// CloseWrite tells the other side that nothing more comes.
func (p *prefixed) CloseWrite() error {
	if c, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// farewellWait is how long the last words may take, after the boundary.
const farewellWait = 50 * time.Millisecond

// farewell closes with 1008, policy violation (RFC 6455, section 7.4.1), and waits for
// the client to take it.
func farewell(client net.Conn, say string) {
	for len(say) > 123 { // a control frame has at most 125 bytes
		_, size := utf8.DecodeLastRuneInString(say)
		say = say[:len(say)-size]
	}
	frame := append([]byte{0x88, byte(2 + len(say))}, binary.BigEndian.AppendUint16(nil, 1008)...)
	_ = client.SetWriteDeadline(time.Now().Add(farewellWait))
	if _, err := client.Write(append(frame, say...)); err != nil {
		_ = proxy.Reset(client)
		return
	}
	if c, ok := client.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite() // else TLS says its last word when the client has gone, or never
	}
	_ = client.SetReadDeadline(time.Now().Add(proxy.CutWait))
	_, _ = io.Copy(io.Discard, io.LimitReader(client, 1<<20)) // closing with input unread would lose the frame
}
