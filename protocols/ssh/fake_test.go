package ssh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/sshdtest"
)

// fake is a target that does what no sshd does: it says yes to all global requests.
// It serves one connection.
type fake struct {
	address, hostKey string
	heard            *atomic.Int64 // global requests
	shown            atomic.Pointer[xssh.Certificate]
	stall            sync.RWMutex // held for writing while the fake reads nothing
}

// stalled is the fake's side of its connection.
type stalled struct {
	net.Conn
	by *fake
}

func (s stalled) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.by.stall.RLock()
	defer s.by.stall.RUnlock()
	return n, err
}

func newFake(t *testing.T, serve func(*xssh.ServerConn)) *fake {
	t.Helper()
	return newFakeThat(t, serve, func(channel xssh.NewChannel) {
		_ = channel.Reject(xssh.Prohibited, "the fake opens nothing") // the gate may have gone
	})
}

// newFakeThat opens channels as it is told, and lets in whoever shows a key; or, where
// allow is given, whom that lets in.
func newFakeThat(t *testing.T, serve func(*xssh.ServerConn), opens func(xssh.NewChannel), allow ...func(*xssh.ServerConfig)) *fake {
	t.Helper()
	host := sshdtest.Key(t, filepath.Join(t.TempDir(), "host"))
	f := &fake{heard: &atomic.Int64{}, hostKey: sshdtest.Line(host.PublicKey())}
	config := &xssh.ServerConfig{PublicKeyCallback: func(_ xssh.ConnMetadata, key xssh.PublicKey) (*xssh.Permissions, error) {
		if cert, ok := key.(*xssh.Certificate); ok {
			f.shown.Store(cert)
		}
		if len(allow) > 0 {
			return nil, errors.New("no key opens this")
		}
		return nil, nil
	}}
	for _, set := range allow {
		set(config)
	}
	config.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	f.address = l.Addr().String()
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		server, channels, requests, err := xssh.NewServerConn(stalled{conn, f}, config)
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				f.heard.Add(1)
				_ = r.Reply(true, nil) // the gate may have gone
			}
		}()
		go func() {
			for channel := range channels {
				opens(channel)
			}
		}()
		serve(server)
		_ = server.Wait() // until the gate goes
	}()
	t.Cleanup(func() {
		_ = l.Close() // closed once
		<-done
	})
	return f
}

// A target that answers nothing must not hold the cut, and a client that
// stays has nothing left: no forward and no new channel.
func TestSilentTargetCannotHoldTheCut(t *testing.T) {
	target := newFakeThat(t, func(*xssh.ServerConn) {}, func(channel xssh.NewChannel) {
		ch, requests, err := channel.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				_ = r.Reply(true, nil) // the gate may have gone
			}
		}()
		go func() { _, _ = io.Copy(ch, ch) }() // until the gate goes
	})
	w := newWorld(t, setup{target: target})
	c := w.dial(t, "ops@web-1")
	s, err := c.NewSession()
	must(t, err)
	must(t, s.Start("sleep 600"))
	forward, err := c.Dial("tcp", "127.0.0.1:9")
	must(t, err)
	target.stall.Lock()
	resume := sync.OnceFunc(target.stall.Unlock)
	t.Cleanup(resume)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := w.Kill(ctx, w.SignIn(t, gatetest.Sam), w.session(t, "live").ID, "enough"); err != nil {
		t.Errorf("the session outlives its cut: %v", err)
		resume()
		if _, err := io.WriteString(forward, "after"); err == nil {
			got := make([]byte, 5)
			if _, err := io.ReadFull(forward, got); err == nil {
				t.Errorf("the forward still carries %q", got)
			}
		}
		if s, err := c.NewSession(); err == nil {
			t.Errorf("a new channel opens behind the cut, and runs: %v", s.Start("id"))
		}
		must(t, c.Close())
	}
}

// A command that the target has heard of, and does not answer, may run there.
func TestCommandThatMayBeginBehindTheCutIsAnAlarm(t *testing.T) {
	asked := make(chan struct{})
	target := newFakeThat(t, func(*xssh.ServerConn) {}, func(channel xssh.NewChannel) {
		_, requests, err := channel.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				if r.Type == "exec" {
					close(asked)
				}
			}
		}()
	})
	w := newWorld(t, setup{target: target})
	c := w.dial(t, "ops@web-1")
	s, err := c.NewSession()
	must(t, err)
	begun := make(chan error, 1)
	go func() { begun <- s.Start("sleep 600") }()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	must(t, w.Kill(ctx, w.SignIn(t, gatetest.Sam), w.session(t, "live").ID, "enough"))
	until(t, "an alarm", func() bool { return w.Count(t, audit.SessionAlarm) == 1 })
	if err := <-begun; err == nil {
		t.Error("it has begun")
	}
}

// A target that opens a channel when the session has ended opens it to nobody.
func TestTargetThatOpensBehindTheCut(t *testing.T) {
	var n, heard atomic.Int64
	asked, open := make(chan struct{}), make(chan struct{})
	target := newFakeThat(t, func(*xssh.ServerConn) {}, func(channel xssh.NewChannel) {
		late := n.Add(1) > 1
		if late {
			close(asked)
			<-open
		}
		_, requests, err := channel.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				if late {
					heard.Add(1)
				}
				_ = r.Reply(true, nil) // the gate may have gone
			}
		}()
	})
	w := newWorld(t, setup{target: target})
	c := w.dial(t, "ops@web-1")
	s, err := c.NewSession()
	must(t, err)
	said, err := s.StderrPipe()
	must(t, err)
	must(t, s.Start("sleep 600"))
	late := make(chan error, 1)
	go func() {
		s, err := c.NewSession()
		if err == nil {
			err = s.Start("id")
		}
		late <- err
	}()
	<-asked
	killed := make(chan error, 1)
	go func() {
		killed <- w.Kill(t.Context(), w.SignIn(t, gatetest.Sam), w.session(t, "live").ID, "enough")
	}()
	_, err = io.ReadFull(said, make([]byte, len("sallyport: ")))
	must(t, err)
	close(open)
	if err := <-late; err == nil {
		t.Error("a command begins behind the cut")
	}
	must(t, <-killed)
	if n := heard.Load(); n > 0 {
		t.Errorf("the target heard %d requests", n)
	}
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

// A target that goes while it speaks is said to have gone on every channel: their ends
// come before that of its connection, and are not taken for its own.
func TestTargetThatGoesWhileItSpeaksIsSaid(t *testing.T) {
	servers := make(chan *xssh.ServerConn, 1)
	target := newFakeThat(t, func(server *xssh.ServerConn) { servers <- server }, func(channel xssh.NewChannel) {
		ch, requests, err := channel.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				_ = r.Reply(true, nil) // the gate may have gone
				_, _ = io.WriteString(ch, "half")
			}
		}()
	})
	w := newWorld(t, setup{target: target})
	c := w.dial(t, "ops@web-1")
	var said [8]strings.Builder
	var sessions []*xssh.Session
	for i := range said {
		s, err := c.NewSession()
		must(t, err)
		s.Stderr = &said[i]
		out, err := s.StdoutPipe()
		must(t, err)
		must(t, s.Start("speak"))
		_, err = io.ReadFull(out, make([]byte, len("half")))
		must(t, err)
		sessions = append(sessions, s)
	}
	must(t, (<-servers).Close())
	for i, s := range sessions {
		var exit *xssh.ExitError
		if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 255 || !strings.Contains(said[i].String(), "sallyport: the target closed the connection") {
			t.Errorf("channel %d ends with %v, and says %q", i, err, said[i].String())
		}
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
