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

	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// websocket carries one websocket (RFC 6455): the handshake, then frames as they come,
// counted, so that the cut finds a boundary and says 1008 there.
func (l *live) websocket(ctx context.Context, c *conn, a *answer, body *upload, r *http.Request) (framesUp, framesDown int64) {
	if !l.site.Websocket && len(l.scope.Methods) == 0 {
		c.refuse(a, r, l.site, outside("the policy lets no websockets through to "+l.site.target))
		return 0, 0
	}
	target, err := l.to.dial(ctx)
	if err != nil {
		c.refuse(a, r, l.site, l.whyNot(ctx, err))
		return 0, 0
	}
	defer target.Close() //nolint:errcheck // what counts was said before
	res, in, err := exchange(ctx, target, l.upgrade(ctx, r))
	if err != nil {
		c.refuse(a, r, l.site, l.whyNot(ctx, err))
		return 0, 0
	}
	cleanAnswer(res.Header)
	if res.StatusCode != http.StatusSwitchingProtocols {
		defer res.Body.Close() //nolint:errcheck // read
		plainAnswer(a, res)
		return 0, 0
	}
	if !strings.EqualFold(res.Header.Get("Upgrade"), "websocket") {
		c.refuse(a, r, l.site, l.whyNot(ctx, fmt.Errorf("the target changes to %q", res.Header.Get("Upgrade"))))
		return 0, 0
	}
	client, err := a.take(res)
	if err != nil {
		return 0, 0 // the client has gone
	}
	defer client.Close() //nolint:errcheck // what counts was said before
	buffered, _ := in.Peek(in.Buffered())
	up, down := &frames{}, &frames{}
	err = proxy.Relay(ctx, client, before(buffered, target), up, down)
	body.n.Store(up.bytes)
	a.bytes.Store(down.bytes)
	var ended *session.Ended
	if errors.As(err, &ended) && !errors.Is(err, proxy.ErrReset) {
		farewell(client, ended.Say)
	}
	return up.count, down.count
}

// upgrade is the request that goes to the target.
func (l *live) upgrade(ctx context.Context, r *http.Request) *http.Request {
	out := r.Clone(ctx)
	out.Body, out.ContentLength, out.Trailer, out.TransferEncoding = nil, 0, nil, nil
	hop(out.Header)
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
	_ = client.SetReadDeadline(time.Now().Add(proxy.CutWait))
	_, _ = io.Copy(io.Discard, io.LimitReader(client, 1<<20)) // closing with input unread would lose the frame
}

// frames follows one direction of a websocket (RFC 6455, section 5.2).
type frames struct {
	head  [14]byte
	have  int    // bytes of head
	left  uint64 // bytes of the payload that are to come
	shown int    // bytes of the frame that were shown
	count int64
	bytes int64
}

// Observe implements proxy.Observer. Frames go on unchanged.
func (f *frames) Observe(p []byte) (proxy.Verdict, error) {
	f.bytes += int64(len(p))
	for len(p) > 0 {
		if f.left > 0 {
			n := int(min(uint64(len(p)), f.left))
			f.left -= uint64(n)
			f.shown += n
			p = p[n:]
			f.endFrame()
			continue
		}
		f.head[f.have] = p[0]
		f.have++
		f.shown++
		p = p[1:]
		if f.have < 2 || f.have < f.size() {
			continue
		}
		f.left = f.length()
		f.count++
		if f.left > 1<<62 {
			return proxy.Pass, fmt.Errorf("a websocket frame of %d bytes", f.left)
		}
		f.have = 0
		f.endFrame()
	}
	return proxy.Pass, nil
}

func (f *frames) endFrame() {
	if f.left == 0 {
		f.shown = 0
	}
}

// size is how long the frame's head is.
func (f *frames) size() int {
	n := 2
	switch f.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&0x80 != 0 {
		n += 4
	}
	return n
}

func (f *frames) length() uint64 {
	switch n := f.head[1] & 0x7f; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.head[2:])
	default:
		return uint64(n)
	}
}

// Tail implements proxy.Observer.
func (f *frames) Tail() int { return f.shown }
