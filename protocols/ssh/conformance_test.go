package ssh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/internal/sshdtest"
	"github.com/sallyport/sallyport/protocols/ssh"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/proxy/proxytest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	sessionCA := sshdtest.Key(t, filepath.Join(dir, "session_ca"))
	sshdtest.Key(t, filepath.Join(dir, "host_ca"))
	sshdtest.Key(t, filepath.Join(dir, "host"))
	sshd := sshdtest.Start(t, sessionCA.PublicKey())
	proxytest.Conformance(t, proxytest.Harness{
		Protocol: ssh.Protocol{},
		Target:   sshd.Address,
		Targets: func(address string) string {
			return fmt.Sprintf(`
target "orders" {
  protocol = "ssh"
  address  = %q
  options { host_keys = [%q] }
  role "reader" { account = %[3]q }
  role "writer" { account = %[3]q }
}
`, address, sshd.HostKey, sshd.Account)
		},
		Configure: func(c *proxy.Config) {
			c.Options = func(into any) error {
				*into.(*ssh.Options) = ssh.Options{ //nolint:forcetypeassert // the only one
					HostKeys: []string{filepath.Join(dir, "host")}, HostCA: filepath.Join(dir, "host_ca"), SessionCA: filepath.Join(dir, "session_ca"),
				}
				return nil
			}
		},
		Connect: newGoClient,
	})
}

// goClient is x/crypto/ssh's client, driven by proxytest.
type goClient struct {
	mu    sync.Mutex
	shown string
	raw   net.Conn
	conn  *xssh.Client
	err   error
	ready chan struct{}
}

func newGoClient(t testing.TB, d proxytest.Door) proxytest.Client {
	t.Helper()
	c := &goClient{ready: make(chan struct{})}
	config := &xssh.ClientConfig{
		User: d.Role + "@orders", HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // other tests verify it
		Auth: []xssh.AuthMethod{xssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			if len(questions) > 0 {
				return nil, errors.New("the gate asks something")
			}
			return nil, nil
		})},
		BannerCallback: func(message string) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.shown += message
			return nil
		},
	}
	if d.SSH != nil {
		// Asked why, it leaves the answer to the page.
		config.Auth = []xssh.AuthMethod{xssh.PublicKeys(d.SSH), xssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			return make([]string, len(questions)), nil
		})}
	}
	raw, err := net.Dial("tcp", d.Addr)
	must(t, err)
	c.raw = raw
	go func() {
		defer close(c.ready)
		conn, channels, requests, err := xssh.NewClientConn(raw, d.Addr, config)
		if err != nil {
			c.err = fmt.Errorf("%w: %s", err, c.Notices())
			return
		}
		c.conn = xssh.NewClient(conn, channels, requests)
		// Signed in is not yet let in: the target answers the first channel.
		var first *xssh.Session
		if first, c.err = c.conn.NewSession(); c.err == nil {
			_ = first.Close() // the next one says it too
		}
	}()
	return c
}

func (c *goClient) Notices() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown
}

func (c *goClient) Ready(ctx context.Context) error {
	select {
	case <-c.ready:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *goClient) Ask(context.Context) error {
	out, err := c.exec("echo hello", nil)
	if err == nil && out != "hello\n" {
		err = fmt.Errorf("the target answers %q", out)
	}
	return err
}

// exec runs a command. The error has what came on stderr.
func (c *goClient) exec(command string, flowing func()) (string, error) {
	s, err := c.conn.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close() //nolint:errcheck // closed by its end
	var out, said bytes.Buffer
	s.Stdout, s.Stderr = &out, &said
	if flowing != nil {
		once := sync.OnceFunc(flowing)
		s.Stdout = writer(func(p []byte) (int, error) { once(); return len(p), nil })
	}
	if err := s.Run(command); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, said.String())
	}
	return out.String(), nil
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func (c *goClient) Pour(_ context.Context, flowing func()) error {
	_, err := c.exec("cat /dev/zero", flowing)
	return err
}

// Early sends a packet in the middle of the wait. What a channel would need comes
// after it, so there is none to open.
func (c *goClient) Early() {
	_, _ = io.Copy(c.raw, strings.NewReader("\x00\x00\x00\x0c\x0a\x5a"+strings.Repeat("x", 64))) // ends the connection
}

func (c *goClient) HangUp() {
	_ = c.raw.Close() // closed twice at the end
	<-c.ready
}
