package http

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// Limits towards targets.
const (
	maxAnswerHead = 64 << 10
	targetIdle    = 90 * time.Second
	targetConns   = 64 // idle ones of one session
	openWait      = 15 * time.Second
)

// upstream is how one session speaks to its target.
type upstream struct {
	up        *session.Upstream
	transport *http.Transport
	tls       *tls.Config // nil: plaintext, by the signed policy's word
	scheme    string
	address   string
	header    string // the credential's header and value; empty: none
	value     string
}

// newUpstream reads the credential and makes the session's own pool of connections:
// nobody else's request ever goes over them.
func newUpstream(ctx context.Context, up *session.Upstream, s *site) (*upstream, error) {
	target, err := up.Target()
	if err != nil {
		return nil, err
	}
	w := &upstream{up: up, scheme: "http", address: "target"}
	if _, _, err := net.SplitHostPort(target.Address); err == nil {
		w.address = target.Address
	}
	if w.tls, err = up.TLSConfig(); err != nil {
		return nil, err
	}
	if w.tls != nil {
		w.scheme = "https"
	}
	if err := w.credential(ctx); err != nil {
		return nil, err
	}
	w.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := up.Dial(ctx)
			if err == nil {
				proxy.TargetConn(ctx, conn)
			}
			return conn, err
		},
		TLSClientConfig:    w.tls,
		DisableCompression: true, // what the target sends is what the client gets
		MaxIdleConns:       targetConns, MaxIdleConnsPerHost: targetConns, IdleConnTimeout: targetIdle,
		TLSHandshakeTimeout: openWait, ExpectContinueTimeout: time.Second, MaxResponseHeaderBytes: maxAnswerHead,
		WriteBufferSize: 16 << 10, ReadBufferSize: 16 << 10,
	}
	w.transport.Protocols = new(http.Protocols)
	w.transport.Protocols.SetHTTP1(!s.HTTP2)
	w.transport.Protocols.SetHTTP2(s.HTTP2 && w.tls != nil)
	w.transport.Protocols.SetUnencryptedHTTP2(s.HTTP2 && w.tls == nil)
	return w, nil
}

// credential reads the role's secret and how it is shown.
func (w *upstream) credential(ctx context.Context) error {
	role, err := w.up.Role()
	if err != nil {
		return err
	}
	var o roleOptions
	if role.Options != nil {
		if err := role.Options(&o); err != nil {
			return fmt.Errorf("options of role %s: %w", role.Name, err)
		}
	}
	if role.Credential == "" {
		return nil
	}
	secret, err := w.up.Secret(ctx)
	if err != nil {
		return err
	}
	text := strings.TrimRight(string(secret.Reveal()), "\r\n")
	if o.Auth != "certificate" && !httpguts.ValidHeaderFieldValue(text) {
		return &session.Failed{Say: "the credential for this target cannot be sent; ask the platform team", Err: errors.New("the credential has control characters")}
	}
	switch o.Auth {
	case "bearer":
		w.header, w.value = "Authorization", "Bearer "+text
	case "basic":
		account := role.Account
		if account == "" {
			account = role.Name
		}
		w.header, w.value = "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(account+":"+text))
	case "header":
		if !httpguts.ValidHeaderFieldName(o.Header) || reserved(o.Header) {
			return &session.Failed{Say: "the credential's header is not set up; ask the policy's authors", Err: fmt.Errorf("header %q", o.Header)}
		}
		w.header, w.value = http.CanonicalHeaderKey(o.Header), text
	case "certificate":
		pair, err := tls.X509KeyPair(secret.Reveal(), secret.Reveal())
		if err != nil || w.tls == nil {
			return &session.Failed{Say: "the credential for this target is no certificate that can be shown; ask the platform team", Err: err}
		}
		w.tls.Certificates = []tls.Certificate{pair}
	default:
		return &session.Failed{Say: "it is not said how to show the credential of this role; ask the policy's authors", Err: fmt.Errorf("auth = %q", o.Auth)}
	}
	return nil
}

// dial makes a connection of its own, for a websocket.
func (w *upstream) dial(ctx context.Context) (net.Conn, error) {
	raw, err := w.up.Dial(ctx)
	if err != nil {
		return nil, err
	}
	base := proxy.TargetConn(ctx, raw)
	if w.tls == nil {
		return base, nil
	}
	config := w.tls.Clone()
	config.NextProtos = []string{"http/1.1"}
	t := tls.Client(base, config)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = base.Close()
		return nil, fmt.Errorf("tls with the target: %w", err)
	}
	return t, nil
}

// exchange sends an upgrade request and reads the head of its answer, within limits.
// What the target sent behind it stays in the reader.
func exchange(ctx context.Context, conn net.Conn, out *http.Request) (*http.Response, *bufio.Reader, error) {
	_ = conn.SetDeadline(time.Now().Add(openWait))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(-time.Hour)) })
	defer stop()
	if err := out.Write(conn); err != nil {
		return nil, nil, fmt.Errorf("write to the target: %w", err)
	}
	head := &io.LimitedReader{R: conn, N: maxAnswerHead}
	in := bufio.NewReader(head)
	res, err := http.ReadResponse(in, out)
	if err != nil {
		return nil, nil, fmt.Errorf("read from the target: %w", err)
	}
	if !stop() {
		return nil, nil, context.Cause(ctx)
	}
	head.N = 1 << 62
	_ = conn.SetDeadline(time.Time{})
	return res, in, nil
}

// pool lends the buffers of ReverseProxy.
type pool struct{ sync.Pool }

const bufferSize = 32 << 10

var buffers = &pool{sync.Pool{New: func() any { return new([bufferSize]byte) }}}

// Get implements httputil.BufferPool.
func (p *pool) Get() []byte { return p.Pool.Get().(*[bufferSize]byte)[:] } //nolint:forcetypeassert // New makes nothing else

// Put implements httputil.BufferPool.
func (p *pool) Put(b []byte) { p.Pool.Put((*[bufferSize]byte)(b)) }
