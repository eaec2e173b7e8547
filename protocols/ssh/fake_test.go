package ssh_test

import (
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/sshdtest"
)

// fake is a target that does what no sshd does: it says yes to all global requests.
// It serves one connection.
type fake struct {
	address, hostKey string
	heard            *atomic.Int64 // global requests
}

func newFake(t *testing.T, serve func(*xssh.ServerConn)) *fake {
	t.Helper()
	host := sshdtest.Key(t, filepath.Join(t.TempDir(), "host"))
	config := &xssh.ServerConfig{PublicKeyCallback: func(xssh.ConnMetadata, xssh.PublicKey) (*xssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done, heard := make(chan struct{}), &atomic.Int64{}
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		server, channels, requests, err := xssh.NewServerConn(conn, config)
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				heard.Add(1)
				_ = r.Reply(true, nil) // the gate may have gone
			}
		}()
		go func() {
			for channel := range channels {
				_ = channel.Reject(xssh.Prohibited, "the fake opens nothing") // the gate may have gone
			}
		}()
		serve(server)
		_ = server.Wait() // until the gate goes
	}()
	t.Cleanup(func() {
		_ = l.Close() // closed once
		<-done
	})
	return &fake{l.Addr().String(), sshdtest.Line(host.PublicKey()), heard}
}

func TestTargetOpensNothingUnasked(t *testing.T) {
	answers := make(chan string, 8)
	target := newFake(t, func(server *xssh.ServerConn) {
		from := xssh.Marshal(struct {
			Host       string
			Port       uint32
			OriginHost string
			OriginPort uint32
		}{"127.0.0.1", 80, "127.0.0.1", 1})
		for kind, payload := range map[string][]byte{
			"x11": xssh.Marshal(struct {
				Host string
				Port uint32
			}{"127.0.0.1", 1}),
			"auth-agent@openssh.com":            nil,
			"forwarded-tcpip":                   from,
			"forwarded-streamlocal@openssh.com": xssh.Marshal(struct{ Path, Reserved string }{"/x", ""}),
			"session":                           nil,
			"direct-tcpip":                      from,
		} {
			_, _, err := server.OpenChannel(kind, payload)
			if err == nil {
				answers <- kind + " was opened"
				continue
			}
			answers <- err.Error()
		}
		close(answers)
	})
	w := newWorld(t, setup{target: target})
	c := w.dial(t, "ops@web-1")
	for range 6 {
		if answer := <-answers; !strings.Contains(answer, "that nobody asked for") {
			t.Error(answer)
		}
	}
	must(t, c.Close())
	if list := w.recorded(t); !said(list, "note", "refused", "x11") {
		t.Errorf("recorded: %+v", list)
	}
}

func TestTargetThatGoesIsSaid(t *testing.T) {
	target := newFake(t, func(server *xssh.ServerConn) { _ = server.Close() })
	w := newWorld(t, setup{target: target})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@web-1@gate", "true")...)
	if code := c.done(); code != 255 {
		t.Errorf("exit %d: %s", code, c.stderr)
	}
}

func TestOnlyOwnForwardsAreCancelled(t *testing.T) {
	target := newFake(t, func(*xssh.ServerConn) {})
	w := newWorld(t, setup{target: target})
	c := w.dial(t, "ops@web-1")
	at := xssh.Marshal(struct {
		Host string
		Port uint32
	}{"127.0.0.1", 80})
	if ok, _, err := c.SendRequest("cancel-tcpip-forward", true, at); ok || err != nil {
		t.Errorf("what was never asked for is cancelled: %v, %v", ok, err)
	}
	if n := target.heard.Load(); n > 0 {
		t.Errorf("the target heard of it %d times", n)
	}
	if ok, _, err := c.SendRequest("tcpip-forward", true, at); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, _, err := c.SendRequest("cancel-tcpip-forward", true, at); !ok || err != nil {
		t.Errorf("the client's own is not cancelled: %v, %v", ok, err)
	}
}
