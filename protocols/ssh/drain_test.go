package ssh_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/internal/gatetest"
)

// Who closes a channel has sent what it sent, however slowly the other side takes it.

// lot is more than a channel's window (2 MiB), and less than two: all of it can be sent
// while nobody takes any of it, and some of it waits in the gate then.
const lot = 3 << 20

// pieces writes n bytes and returns them.
func pieces(t *testing.T, to io.Writer, n int) []byte {
	t.Helper()
	data := bytes.Repeat([]byte("0123456789abcde\n"), n/16)
	_, err := to.Write(data)
	must(t, err)
	return data
}

// takes reads to the end and checks that it is the data.
func takes(t *testing.T, from io.Reader, data []byte) {
	t.Helper()
	got, err := io.ReadAll(from)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d came: %v", len(got), len(data), err)
	}
}

// heard returns when the gate has read all that a side sent before.
func heard(t *testing.T, by xssh.Conn) {
	t.Helper()
	_, _, err := by.SendRequest("keepalive@openssh.com", true, nil)
	must(t, err)
}

// A channel of both kinds of forwards, closed from both sides, and a command's input.
func TestWhatWasSentBeforeACloseIsDelivered(t *testing.T) {
	servers, opened := make(chan *xssh.ServerConn, 1), make(chan xssh.Channel, 1)
	target := newFakeThat(t, func(server *xssh.ServerConn) { servers <- server }, func(channel xssh.NewChannel) {
		ch, requests, err := channel.Accept()
		if err != nil {
			return
		}
		opened <- ch
		go func() {
			for r := range requests {
				_ = r.Reply(true, nil) // the gate may have gone
			}
		}()
	})
	w := newWorld(t, setup{target: target})
	c := w.dial(t, "ops@web-1")
	server := <-servers
	l, err := c.Listen("tcp", "127.0.0.1:80")
	must(t, err)
	forward := func() (client, target xssh.Channel) {
		client, requests, err := c.OpenChannel("direct-tcpip", xssh.Marshal(place{"127.0.0.1", 9, "127.0.0.1", 1}))
		must(t, err)
		go xssh.DiscardRequests(requests)
		return client, <-opened
	}
	back := func() (client io.ReadWriteCloser, target xssh.Channel) {
		accepted := make(chan net.Conn, 1)
		go func() {
			if conn, err := l.Accept(); err == nil {
				accepted <- conn
			}
		}()
		target, requests, err := server.OpenChannel("forwarded-tcpip", xssh.Marshal(place{"127.0.0.1", 80, "127.0.0.1", 1}))
		must(t, err)
		go xssh.DiscardRequests(requests)
		return <-accepted, target
	}
	t.Run("-L to the client", func(t *testing.T) {
		near, far := forward()
		must(t, near.CloseWrite())
		data := pieces(t, far, lot)
		must(t, far.CloseWrite())
		must(t, far.Close())
		heard(t, server)
		takes(t, near, data)
	})
	t.Run("-L to the target", func(t *testing.T) {
		near, far := forward()
		data := pieces(t, near, lot)
		must(t, near.Close())
		heard(t, c)
		_, _ = far.Write(make([]byte, 1<<20)) // nobody is there to take it
		takes(t, far, data)
	})
	t.Run("-R to the client", func(t *testing.T) {
		near, far := back()
		data := pieces(t, far, lot)
		must(t, far.Close())
		heard(t, server)
		takes(t, near, data)
	})
	t.Run("-R to the target", func(t *testing.T) {
		near, far := back()
		data := pieces(t, near, lot)
		must(t, near.Close())
		heard(t, c)
		takes(t, far, data)
	})
	t.Run("a command's input", func(t *testing.T) {
		near, requests, err := c.OpenChannel("session", nil)
		must(t, err)
		go xssh.DiscardRequests(requests)
		far := <-opened
		ok, err := near.SendRequest("exec", true, xssh.Marshal(struct{ Command string }{"cat"}))
		if must(t, err); !ok {
			t.Fatal("no command began")
		}
		data := pieces(t, near, lot)
		must(t, near.Close())
		heard(t, c)
		_, _ = far.Write(make([]byte, 1<<20)) // as above
		takes(t, far, data)
	})
}

// place is the payload of direct-tcpip and forwarded-tcpip.
type place struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// What waits for a side that takes nothing does not hold the cut.
func TestWhatWaitsBehindACloseIsCut(t *testing.T) {
	opened := make(chan struct{}, 2)
	target := newFakeThat(t, func(*xssh.ServerConn) {}, func(channel xssh.NewChannel) {
		_, requests, err := channel.Accept() // and nothing is read
		if err != nil {
			return
		}
		opened <- struct{}{}
		go func() {
			for r := range requests {
				_ = r.Reply(true, nil) // the gate may have gone
			}
		}()
	})
	w := newWorld(t, setup{target: target})
	c := w.dial(t, "ops@web-1")
	near, err := c.Dial("tcp", "127.0.0.1:9")
	must(t, err)
	s, err := c.NewSession()
	must(t, err)
	in, err := s.StdinPipe()
	must(t, err)
	must(t, s.Start("cat"))
	for _, to := range []io.WriteCloser{near, in} {
		pieces(t, to, lot)
		must(t, to.Close())
	}
	_ = s.Close() // of both ways
	heard(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := w.Kill(ctx, w.SignIn(t, gatetest.Sam), w.session(t, "live").ID, "enough"); err != nil {
		t.Errorf("the session outlives its cut: %v", err)
	}
}

// serveOnce serves one connection, which is closed afterwards.
func serveOnce(t *testing.T, serve func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		serve(conn.(*net.TCPConn)) //nolint:forcetypeassert // of a TCP listener
		_ = conn.Close()           // it may have gone
	}()
	t.Cleanup(func() {
		_ = l.Close() // closed once
		<-done
	})
	return l.Addr().String()
}

// OpenSSH on both sides: an answer behind the request's end, and a port that the target
// chooses.
func TestOpenSSHLosesNothingAtAClose(t *testing.T) {
	w := newWorld(t, setup{})
	cert := w.certificate(t, gatetest.Alice)
	const size = 8 << 20
	answer := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	web := serveOnce(t, func(conn *net.TCPConn) {
		_, _ = io.Copy(io.Discard, conn) // until the request's end
		_, _ = conn.Write(answer)        // what is lost is missed there
	})
	c := w.ssh(t, append(cert, "-W", web, "ops@web-1@gate")...)
	_, err := io.WriteString(c.stdin, "GET /big HTTP/1.0\r\n\r\n")
	must(t, err)
	must(t, c.stdin.Close())
	if c.done() != 0 || c.stdout.String() != string(answer) {
		t.Errorf("%d bytes of %d came; stderr:\n%s", len(c.stdout.String()), size, c.stderr)
	}
	got := make(chan []byte, 1)
	web = serveOnce(t, func(conn *net.TCPConn) {
		all, _ := io.ReadAll(conn) // as above
		got <- all
		_, _ = conn.Write(answer) // as above
	})
	c = w.ssh(t, append(cert, "-v", "-N", "-R", "127.0.0.1:0:"+web, "ops@web-1@gate")...)
	port := c.stderr.wait(t, `Allocated port (\d+) for remote forward`)[1]
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	must(t, err)
	defer conn.Close()
	asked := pieces(t, conn, size)
	must(t, conn.(*net.TCPConn).CloseWrite()) //nolint:forcetypeassert // as it was dialled
	if all := <-got; !bytes.Equal(all, asked) {
		t.Errorf("%d bytes of %d came", len(all), size)
	}
	takes(t, conn, answer)
	must(t, c.cmd.Process.Kill())
}

// A program whose client has closed the channel gets all input; and one that takes none of
// it, and writes without end, ends as it would without the gate.
func TestInputBehindAClose(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.dial(t, "ops@web-1")
	start := func(command string) xssh.Channel {
		ch, requests, err := c.OpenChannel("session", nil)
		must(t, err)
		go xssh.DiscardRequests(requests)
		ok, err := ch.SendRequest("exec", true, xssh.Marshal(struct{ Command string }{command}))
		if must(t, err); !ok {
			t.Fatalf("%s did not begin", command)
		}
		return ch
	}
	file := filepath.Join(w.sshd.Dir, "kept")
	ch := start(fmt.Sprintf("cat > %[1]s.part && mv %[1]s.part %[1]s", file))
	const size = 8 << 20
	data := pieces(t, ch, size)
	must(t, ch.Close())
	until(t, "the file", func() bool { _, err := os.Stat(file); return err == nil })
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d came: %v", len(got), size, err)
	}
	ch = start("yes")
	go func() { _, _ = ch.Write(make([]byte, size)) }() // until the close
	_, err := io.CopyN(io.Discard, ch, size)
	must(t, err)
	must(t, ch.Close())
	until(t, "the end of yes", func() bool { return len(w.sshd.Running(t)) == 0 })
}
