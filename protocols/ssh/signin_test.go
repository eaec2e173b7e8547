package ssh_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/sshdtest"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// What holds before anybody is signed in.

// An agent with many keys gets to its certificate; one that offers keys without end does not.
func TestTriesAreBounded(t *testing.T) {
	w := newWorld(t, setup{})
	_, signer := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	dir := t.TempDir()
	var keys []xssh.Signer
	for n := range 24 {
		keys = append(keys, sshdtest.Key(t, filepath.Join(dir, strconv.Itoa(n))))
	}
	c, said, err := w.try("ops@web-1", xssh.PublicKeys(append(keys[:9:9], signer)...))
	if err != nil {
		t.Fatalf("behind nine other keys: %v: %s", err, said)
	}
	must(t, c.Close())
	if n := strings.Count(said, "this key signs nobody in"); n != 1 {
		t.Errorf("the hint was given %d times", n)
	}
	_, _, err = w.try("ops@web-1", xssh.PublicKeys(append(keys[:24:24], signer)...))
	if err == nil || !strings.Contains(err.Error(), "too many authentication failures") {
		t.Errorf("behind 24 other keys: %v", err)
	}
}

// watchedConn tells when the gate has closed it.
type watchedConn struct {
	net.Conn
	gone chan struct{}
}

func (w *watchedConn) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		select {
		case <-w.gone:
		default:
			close(w.gone)
		}
	}
	return n, err
}

// Who is not held has the login grace, and no more: before the key exchange, before a
// sign-in, in the middle of one, and as an outer connection that proves nobody.
func TestLoginGrace(t *testing.T) {
	w := newWorld(t, setup{grace: time.Second})
	stays := make(chan struct{})
	t.Cleanup(func() { close(stays) })
	idle := func() error { <-stays; return io.EOF }
	for name, trial := range map[string]struct {
		user string
		auth xssh.AuthMethod
	}{
		"no key exchange": {},
		"no sign-in":      {"ops@web-1", xssh.PublicKeysCallback(func() ([]xssh.Signer, error) { return nil, idle() })},
		"no password":     {"ops+token@web-1", xssh.PasswordCallback(func() (string, error) { return "", idle() })},
		"no target":       {"alice", xssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) { return nil, nil })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", w.addr)
			must(t, err)
			t.Cleanup(func() { _ = conn.Close() }) // closed by the gate
			if trial.auth == nil {
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // not of a closed connection
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Errorf("it stays open: %v", err)
				}
				return
			}
			watched := &watchedConn{conn, make(chan struct{})}
			go func() {
				c, channels, requests, err := xssh.NewClientConn(watched, w.addr, &xssh.ClientConfig{
					User: trial.user, Auth: []xssh.AuthMethod{trial.auth}, HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // OpenSSH verifies it
				})
				if err == nil {
					_ = xssh.NewClient(c, channels, requests).Wait() // until the gate closes it
				}
			}()
			select {
			case <-watched.gone:
			case <-time.After(20 * time.Second):
				t.Error("it stays open")
			}
		})
	}
}

// outerOf connects as alice, who proves herself or nobody, and tells when the gate has closed
// the connection.
func (w *world) outerOf(t *testing.T, auth xssh.AuthMethod) (*xssh.Client, <-chan struct{}) {
	t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // closed by the gate in some tests
	watched := &watchedConn{conn, make(chan struct{})}
	c, channels, requests, err := xssh.NewClientConn(watched, w.addr, &xssh.ClientConfig{
		User: "alice", Auth: []xssh.AuthMethod{auth}, HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // OpenSSH verifies it
	})
	must(t, err)
	return xssh.NewClient(c, channels, requests), watched.gone
}

// provesNobody signs in to what needs no proof, and waits at what needs one.
var provesNobody = xssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
	return make([]string, len(questions)), nil
})

// heldInside makes an inner connection that is held, and returns what ends it.
func heldInside(t *testing.T, outer *xssh.Client) (hangUp func()) {
	t.Helper()
	inner, err := outer.Dial("tcp", "web-1:22")
	must(t, err)
	said, over := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(said) })
	go func() {
		defer close(over)
		c, _, _, err := xssh.NewClientConn(inner, "web-1:22", &xssh.ClientConfig{
			User: "deploy", Auth: []xssh.AuthMethod{provesNobody}, HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // OpenSSH verifies it
			BannerCallback: func(string) error { once(); return nil },
		})
		if err == nil {
			t.Error("nobody was let in")
			_ = c.Close() // it is over
		}
	}()
	select {
	case <-said:
	case <-over:
		t.Fatal("it is not held")
	}
	return func() {
		_ = inner.Close() // the gate may have closed it
		<-over
	}
}

// gone waits until the gate has closed a connection.
func gone(t *testing.T, what string, closed <-chan struct{}) {
	t.Helper()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s stays open", what)
	}
}

// An outer connection that proves nobody stays as long as what it carries, and then has the
// login grace again.
func TestLoginGraceBehindAnInnerConnection(t *testing.T) {
	w := newWorld(t, setup{grace: 2 * time.Second})
	outer, closed := w.outerOf(t, provesNobody)
	first, second := heldInside(t, outer), heldInside(t, outer)
	first()
	_, other := w.outerOf(t, provesNobody)
	gone(t, "a later one", other)
	if _, _, err := outer.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Errorf("the one that carries a held one is closed: %v", err)
	}
	second()
	gone(t, "the outer connection", closed)
}

// An inner connection has the listener's own grace.
func TestLoginGraceInside(t *testing.T) {
	w := newWorld(t, setup{grace: time.Second})
	_, signer := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	outer, _ := w.outerOf(t, xssh.PublicKeys(signer))
	since := time.Now()
	inner, err := outer.Dial("tcp", "web-1:22")
	must(t, err)
	_, _ = io.Copy(io.Discard, inner) // until the gate closes it
	if took := time.Since(since); took >= proxy.DefaultHandshake {
		t.Errorf("a silent one stays for %s", took)
	}
}

// readPacket reads one from a connection that is not encrypted yet.
func readPacket(r io.Reader) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:4])-1)
	_, err := io.ReadFull(r, body)
	return body[:max(0, len(body)-int(head[4]))], err
}

func writePacket(t *testing.T, w io.Writer, body []byte) {
	t.Helper()
	pad := 16 - (len(body)+5)%8
	p := binary.BigEndian.AppendUint32(nil, uint32(len(body)+1+pad))
	p = append(append(p, byte(pad)), body...)
	_, err := w.Write(append(p, make([]byte, pad)...))
	must(t, err)
}

// hail exchanges versions with the gate, and reads its first packet.
func (w *world) hail(t *testing.T) (net.Conn, []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // closed by the gate
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, "SSH-2.0-test\r\n")
	must(t, err)
	line := make([]byte, len("SSH-2.0-Sallyport\r\n"))
	_, err = io.ReadFull(conn, line)
	must(t, err)
	if string(line) != "SSH-2.0-Sallyport\r\n" {
		t.Fatalf("the gate calls itself %q", line)
	}
	first, err := readPacket(conn)
	must(t, err)
	return conn, first
}

// keyInit is SSH_MSG_KEXINIT (RFC 4253, section 7.1).
type keyInit struct {
	Cookie                                         [16]byte `sshtype:"20"`
	Exchange, Host, CipherUp, CipherDown           []string
	MACUp, MACDown, PackUp, PackDown, TextUp, Text []string
	Follows                                        bool
	Reserved                                       uint32
}

// Class: Terrapin (CVE-2023-48795). The gate offers the strict key exchange, and a packet
// that is slipped in before there are keys ends a connection that has agreed on it.
func TestStrictKeyExchange(t *testing.T) {
	w := newWorld(t, setup{})
	const answered = 31 // SSH_MSG_KEX_ECDH_REPLY
	for _, strict := range []bool{true, false} {
		conn, first := w.hail(t)
		if !bytes.Contains(first, []byte("kex-strict-s-v00@openssh.com")) {
			t.Fatalf("the gate's first packet is %q", first)
		}
		exchange := []string{xssh.KeyExchangeCurve25519}
		if strict {
			exchange = append(exchange, "kex-strict-c-v00@openssh.com")
		}
		cipher, mac, none := []string{xssh.CipherAES128GCM}, []string{xssh.HMACSHA256ETM}, []string{"none"}
		writePacket(t, conn, xssh.Marshal(keyInit{
			Exchange: exchange, Host: []string{xssh.KeyAlgoED25519}, CipherUp: cipher, CipherDown: cipher, MACUp: mac, MACDown: mac, PackUp: none, PackDown: none,
		}))
		writePacket(t, conn, xssh.Marshal(struct {
			Data []byte `sshtype:"2"`
		}{}))
		writePacket(t, conn, xssh.Marshal(struct {
			Public []byte `sshtype:"30"`
		}{append([]byte{9}, make([]byte, 31)...)}))
		answer, err := readPacket(conn)
		if went := err == nil && answer[0] == answered; went == strict {
			t.Errorf("strict %t: SSH_MSG_IGNORE came through: %t (%v)", strict, went, err)
		}
	}
}

// A length that no packet has is not waited for, and takes no memory.
func TestPacketsAreBounded(t *testing.T) {
	w := newWorld(t, setup{})
	conn, _ := w.hail(t)
	_, err := conn.Write([]byte{0x7f, 0xff, 0xff, 0xf0, 4, 20})
	must(t, err)
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the gate waits for 2 GiB: %v", err)
	}
}

// OpenSSH asks for nothing but the token where the name says +token.
func TestTokenAloneIsAskedFor(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-v", "-o", "NumberOfPasswordPrompts=0", "ops+token@web-1@gate", "true")...)
	if code := c.done(); code != 255 {
		t.Errorf("exit %d", code)
	}
	for line := range strings.Lines(c.stderr.String()) {
		if _, rest, ok := strings.Cut(line, "Authentications that can continue: "); ok && strings.TrimSpace(rest) != "password" {
			t.Errorf("offered: %s", rest)
		}
	}
	if !strings.Contains(c.stderr.String(), "Authentications that can continue: password") {
		t.Errorf("stderr:\n%s", c.stderr)
	}
}

// What a client sends to see that it is still there is answered, however long it is held;
// and the kernel asks, on both sides, whether the other one is.
func TestKeepalives(t *testing.T) {
	w := newWorld(t, setup{})
	alive := func(c xssh.Conn) {
		t.Helper()
		if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			t.Error(err)
		}
	}
	outer := w.dial(t, "alice")
	inner, err := outer.Dial("tcp", "web-1:22")
	must(t, err)
	opened := make(chan error, 1)
	go func() {
		c, channels, requests, err := xssh.NewClientConn(inner, "web-1:22", &xssh.ClientConfig{User: "deploy", HostKeyCallback: xssh.InsecureIgnoreHostKey()}) //nolint:gosec // OpenSSH verifies it
		if err == nil {
			client := xssh.NewClient(c, channels, requests)
			alive(client)
			err = client.Close()
		}
		opened <- err
	}()
	bob := w.SignIn(t, gatetest.Bob)
	r := w.pending(t, bob)
	alive(outer)
	// Another timer stands there while bytes wait for their acknowledgement.
	until(t, "a keepalive timer towards the client", func() bool { return keptAlive(t, port(w.addr)) == 1 })
	_, err = w.Decide(t.Context(), bob, r.ID, session.Verdict{Yes: true})
	must(t, err)
	must(t, <-opened)
	live := w.dial(t, "ops@web-1")
	alive(live)
	until(t, "a keepalive timer towards the target", func() bool { return keptAlive(t, w.sshd.Port(), "to") == 1 })
}

// keptAlive counts this machine's established connections from a port, or to one, for
// which the kernel has a keepalive timer (/proc/net/tcp, proc_net_tcp.txt).
func keptAlive(t *testing.T, port string, to ...string) (n int) {
	t.Helper()
	number, err := strconv.Atoi(port)
	must(t, err)
	text, err := os.ReadFile("/proc/net/tcp")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[3] != "01" || !strings.HasPrefix(f[5], "02:") {
			continue
		}
		if strings.HasSuffix(f[1+len(to)], fmt.Sprintf(":%04X", number)) {
			n++
		}
	}
	return n
}

// ansible shows what the gate says of a key that is no certificate.
func TestAnsibleIsToldWhatItNeeds(t *testing.T) {
	w := newWorld(t, setup{})
	path, _ := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	must(t, os.Remove(path+"-cert.pub"))
	inventory := filepath.Join(w.dir, "inventory")
	must(t, os.WriteFile(inventory, []byte("web ansible_host=gate ansible_user=ops@web-1\n"), 0o600))
	t.Setenv("ANSIBLE_SSH_ARGS", "-F "+w.config+" -o ControlMaster=no -i "+path)
	c := w.run(t, "ansible", "-i", inventory, "web", "-m", "ping")
	if c.done() == 0 || !strings.Contains(c.stdout.String()+c.stderr.String(), "a certificate is needed; run: sallyport login") {
		t.Errorf("stdout:\n%s\nstderr:\n%s", c.stdout, c.stderr)
	}
	if n := w.Count(t, audit.RequestCreated); n > 0 {
		t.Errorf("%d requests", n)
	}
}
