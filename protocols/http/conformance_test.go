package http

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/proxy/proxytest"
)

func TestConformance(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pour" {
			_, _ = io.WriteString(w, "ok")
			return
		}
		for block := make([]byte, 32<<10); ; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	t.Cleanup(target.Close)
	proxytest.Conformance(t, proxytest.Harness{
		Protocol: Protocol{},
		Target:   target.Listener.Addr().String(),
		Targets: func(address string) string {
			return fmt.Sprintf(`
target "orders" {
  protocol = "http"
  address  = %q
  tls { mode = "off" }
  options { host = "orders.test" }
  role "reader" {}
  role "writer" {}
}
`, address)
		},
		Configure: func(c *proxy.Config) {
			c.Options = func(into any) error {
				into.(*listenerOptions).Idle = "1s" //nolint:forcetypeassert // ours
				return nil
			}
		},
		Connect: newClient,
	})
}

// client is net/http, driven by proxytest: one that says how long it waits.
type client struct {
	http   *http.Client
	role   string
	ctx    context.Context //nolint:containedctx // HangUp ends it
	cancel context.CancelFunc
	ready  chan struct{}
	err    error

	mu    sync.Mutex
	shown string
}

func newClient(t testing.TB, d proxytest.Door) proxytest.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the bench's certificate is for another name
	if d.Certificate.Certificate != nil {
		config.Certificates = []tls.Certificate{d.Certificate}
	}
	c := &client{role: d.Role, ready: make(chan struct{}), http: &http.Client{Jar: jar, Transport: &http.Transport{
		TLSClientConfig: config,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, d.Addr)
		},
	}}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(c.ready)
		c.err = c.get(c.ctx, "/", func(io.Reader) error { return nil })
	}()
	return c
}

// get makes one request; the error has what the gate said.
func (c *client) get(ctx context.Context, path string, read func(io.Reader) error) error {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.shown += h.Get(noticeHeader) + "\n"
		return nil
	}})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://orders.test"+path, http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set(roleHeader, c.role)
	r.Header.Set("Prefer", "wait=60")
	res, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		var p problem
		if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
			return err
		}
		return errors.New(res.Status + ": " + strings.ToLower(p.Detail[:1]) + p.Detail[1:])
	}
	return read(res.Body)
}

func (c *client) Notices() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown
}

func (c *client) Ready(ctx context.Context) error {
	select {
	case <-c.ready:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *client) Ask(ctx context.Context) error {
	return c.get(ctx, "/", func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
}

// Pour reads an answer without end. It is aborted at the cut; the next request is told why.
func (c *client) Pour(ctx context.Context, flowing func()) error {
	err := c.get(ctx, "/pour", func(r io.Reader) error {
		once := sync.OnceFunc(flowing)
		for buf := make([]byte, 32<<10); ; {
			if _, err := r.Read(buf); err != nil {
				return err
			}
			once()
		}
	})
	if errors.Is(err, io.EOF) {
		return errors.New("the answer looks whole")
	}
	return errors.Join(c.Ask(ctx))
}

// Early asks for something else on a connection of its own: it is another question.
func (c *client) Early() {
	r, err := http.NewRequestWithContext(c.ctx, http.MethodGet, "https://orders.test/early", http.NoBody)
	if err != nil {
		return
	}
	res, err := c.http.Do(r)
	if err == nil {
		_ = res.Body.Close()
	}
}

func (c *client) HangUp() {
	c.cancel()
	<-c.ready
	c.http.CloseIdleConnections()
}
