package ssh_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/sshdtest"
	"github.com/sallyport/sallyport/protocols/ssh"
	"github.com/sallyport/sallyport/proxy"
)

// dial connects Go's client as alice, by certificate.
func (w *world) dial(t *testing.T, user string) *xssh.Client {
	t.Helper()
	_, signer := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	c, said, err := w.try(user, xssh.PublicKeys(signer))
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	t.Cleanup(func() { _ = c.Close() }) // closed twice in some tests
	return c
}

// try connects and returns what the gate said.
func (w *world) try(user string, auth ...xssh.AuthMethod) (*xssh.Client, string, error) {
	var said strings.Builder
	c, err := xssh.Dial("tcp", w.addr, &xssh.ClientConfig{
		User: user, Auth: auth, HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // OpenSSH verifies it
		BannerCallback: func(m string) error { said.WriteString(m); return nil },
	})
	return c, said.String(), err
}

// runs runs a session's thing and returns what was said on stderr.
func runs(t *testing.T, c *xssh.Client, do func(*xssh.Session) error) (stdout, stderr string, err error) {
	t.Helper()
	s, err := c.NewSession()
	must(t, err)
	defer s.Close() //nolint:errcheck // closed by its end
	var out, said bytes.Buffer
	s.Stdout, s.Stderr = &out, &said
	err = do(s)
	return out.String(), said.String(), err
}

func command(line string) func(*xssh.Session) error {
	return func(s *xssh.Session) error { return s.Run(line) }
}

func shell(s *xssh.Session) error {
	if err := s.Shell(); err != nil {
		return err
	}
	return s.Wait()
}

// subsystem asks for a subsystem, sends it the input, and returns its end as Run does:
// x/crypto has no Wait for subsystems.
func subsystem(t *testing.T, c *xssh.Client, name, input string) (stdout, stderr string, status uint32) {
	t.Helper()
	ch, requests, err := c.OpenChannel("session", nil)
	must(t, err)
	ended := make(chan uint32, 1)
	go func() {
		defer close(ended)
		for r := range requests {
			if r.Type == "exit-status" && len(r.Payload) == 4 {
				ended <- binary.BigEndian.Uint32(r.Payload)
			}
		}
	}()
	if ok, err := ch.SendRequest("subsystem", true, xssh.Marshal(struct{ Name string }{name})); !ok || err != nil {
		t.Fatalf("subsystem %s: %v, %v", name, ok, err)
	}
	_, _ = ch.Write([]byte(input)) // it may be over
	said, err := io.ReadAll(ch.Stderr())
	must(t, err)
	out, err := io.ReadAll(ch)
	must(t, err)
	return string(out), string(said), <-ended
}

func TestScopeHoldsSubsystems(t *testing.T) {
	w := newWorld(t, setup{})
	for _, trial := range []struct{ role, name, words string }{
		{"runner", "sftp", "sallyport: the grant allows no sftp here"},
		{"ops", "netconf", "sallyport: the subsystem netconf does not pass the gate"},
	} {
		out, said, status := subsystem(t, w.dial(t, trial.role+"@web-1"), trial.name, "")
		if status != 255 || !strings.Contains(said, trial.words) || out != "" {
			t.Errorf("%s as %s: status %d, stdout %q, stderr %q", trial.name, trial.role, status, out, said)
		}
	}
	if log := w.sshd.Log(); strings.Contains(log, "netconf") || strings.Contains(log, "subsystem request") {
		t.Errorf("the target heard of it:\n%s", log)
	}
}

func TestScopeHoldsEverySubChannel(t *testing.T) {
	w := newWorld(t, setup{})
	for _, trial := range []struct {
		role, name, words string
		do                func(*xssh.Session) error
	}{
		{"copier", "exec", "sallyport: the grant allows no exec here", command("echo in")},
		{"tunnel", "exec", "sallyport: the grant allows no exec here", command("echo in")},
		{"runner", "shell", "sallyport: the grant allows no shell here", shell},
		{"copier", "shell", "sallyport: the grant allows no shell here", shell},
	} {
		t.Run(trial.role+" "+trial.name, func(t *testing.T) {
			out, said, err := runs(t, w.dial(t, trial.role+"@web-1"), trial.do)
			var exit *xssh.ExitError
			if !errors.As(err, &exit) || exit.ExitStatus() != 255 || !strings.Contains(said, trial.words) || out != "" {
				t.Errorf("err %v, stdout %q, stderr %q", err, out, said)
			}
		})
	}
}

func TestScopeHoldsForwards(t *testing.T) {
	echo := echoServer(t)
	w := newWorld(t, setup{forward: echo})
	elsewhere := echoServer(t)
	for _, trial := range []struct{ role, network, to, words string }{
		{"runner", "tcp", echo, "sallyport: the grant allows no forward to " + echo},
		{"tunnel", "tcp", elsewhere, "sallyport: the grant allows no forward to " + elsewhere},
		{"tunnel", "unix", "/run/elsewhere.sock", "sallyport: the grant allows no forward to /run/elsewhere.sock"},
	} {
		_, err := w.dial(t, trial.role+"@web-1").Dial(trial.network, trial.to)
		var refused *xssh.OpenChannelError
		if !errors.As(err, &refused) || refused.Reason != xssh.Prohibited || refused.Message != trial.words {
			t.Errorf("%s to %s: %v", trial.role, trial.to, err)
		}
	}
	for _, role := range []string{"runner", "tunnel"} {
		if l, err := w.dial(t, role+"@web-1").Listen("tcp", "127.0.0.1:0"); err == nil {
			t.Errorf("%s listens at %s", role, l.Addr())
		}
	}
	if l, err := w.dial(t, "tunnel@web-1").ListenUnix(filepath.Join(w.sshd.Dir, "sock")); err == nil {
		t.Errorf("tunnel listens at %s", l.Addr())
	}
	for _, r := range w.all(t) {
		if strings.Contains(r, elsewhere) && strings.Contains(r, `"query"`) {
			t.Errorf("a forward that is not allowed began: %s", r)
		}
	}
}

// -L and -R lead opposite ways, so a scope that has a place for one has it not for the other.
func TestListeningIsAWordOfItsOwn(t *testing.T) {
	echo, far := echoServer(t), listenNowhere(t)
	w := newWorld(t, setup{forward: echo, listen: far})
	c := w.dial(t, "tunnel@web-1")
	if l, err := c.Listen("tcp", echo); err == nil {
		t.Errorf("who may forward listens at %s", l.Addr())
	}
	conn, err := c.Dial("tcp", echo)
	must(t, err)
	must(t, errors.Join(conn.Close(), c.Close()))
	if list := w.recorded(t); !said(list, "note", "refused: the grant allows no listening at "+echo) {
		t.Errorf("recorded: %+v", list)
	}
	c = w.dial(t, "listener@web-1")
	if _, err := c.Dial("tcp", far); err == nil || !strings.Contains(err.Error(), "sallyport: the grant allows no forward to "+far) {
		t.Errorf("who may listen forwards: %v", err)
	}
	if l, err := c.Listen("tcp", listenNowhere(t)); err == nil {
		t.Errorf("listens at %s", l.Addr())
	}
	l, err := c.Listen("tcp", far)
	must(t, err)
	conn, err = net.Dial("tcp", far)
	must(t, err)
	back, err := l.Accept()
	must(t, err)
	must(t, errors.Join(conn.Close(), back.Close(), l.Close()))
}

// all returns the lines of all recordings.
func (w *world) all(t *testing.T) []string {
	t.Helper()
	list, err := w.Recordings.List(t.Context(), 100)
	must(t, err)
	var lines []string
	for _, r := range list {
		for line, err := range r.Lines(t.Context()) {
			must(t, err)
			lines = append(lines, string(line.Raw))
		}
	}
	return lines
}

func TestAgentAndX11AreOff(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.dial(t, "ops@web-1")
	s, err := c.NewSession()
	must(t, err)
	defer s.Close() //nolint:errcheck // closed by its end
	if ok, err := s.SendRequest("auth-agent-req@openssh.com", true, nil); ok || err != nil {
		t.Errorf("the agent was lent: %v", err)
	}
	x11 := xssh.Marshal(struct {
		Single           bool
		Protocol, Cookie string
		Screen           uint32
	}{false, "MIT-MAGIC-COOKIE-1", "00", 0})
	if ok, err := s.SendRequest("x11-req", true, x11); ok || err != nil {
		t.Errorf("the display was lent: %v", err)
	}
	if out, err := s.Output("echo \"agent:$SSH_AUTH_SOCK\""); err != nil || string(out) != "agent:\n" {
		t.Errorf("%q, %v", out, err)
	}
	must(t, c.Close())
	list := w.recorded(t)
	if !said(list, "note", "refused: the grant allows no agent forwarding") || !said(list, "note", "refused: the grant allows no x11 forwarding") {
		t.Errorf("recorded: %+v", list)
	}
}

func TestOneThingPerChannel(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.dial(t, "ops@web-1")
	ch, requests, err := c.OpenChannel("session", nil)
	must(t, err)
	go xssh.DiscardRequests(requests)
	payload := func(c string) []byte { return xssh.Marshal(struct{ C string }{c}) }
	if ok, err := ch.SendRequest("exec", true, payload("cat")); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := ch.SendRequest("exec", true, payload("echo twice")); ok || err != nil {
		t.Errorf("a second command began: %v", err)
	}
	if ok, err := ch.SendRequest("exec", true, append(payload("echo"), 'x')); ok || err != nil {
		t.Errorf("a malformed command began: %v", err)
	}
	if ok, err := ch.SendRequest("made-up@example.com", true, nil); ok || err != nil {
		t.Errorf("an unknown request passed: %v", err)
	}
}

func TestNoMoreSessions(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.dial(t, "ops@web-1")
	_, _, err := c.SendRequest("no-more-sessions@openssh.com", true, nil)
	must(t, err)
	if _, _, err := c.OpenChannel("session", nil); err == nil || !strings.Contains(err.Error(), "sallyport: the client said that no more sessions follow") {
		t.Errorf("err %v", err)
	}
}

func TestForwardOfAnotherClientIsNotCancelled(t *testing.T) {
	w := newWorld(t, setup{})
	mine, other := w.dial(t, "ops@web-1"), w.dial(t, "ops@web-1")
	l, err := mine.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	at := l.Addr().(*net.TCPAddr)
	payload := xssh.Marshal(struct {
		Host string
		Port uint32
	}{"127.0.0.1", uint32(at.Port)})
	if ok, _, err := other.SendRequest("cancel-tcpip-forward", true, payload); ok || err != nil {
		t.Errorf("another client cancelled it: %v, %v", ok, err)
	}
	must(t, l.Close())
	if r := w.all(t); !strings.Contains(strings.Join(r, "\n"), `"listen"`) {
		t.Errorf("recorded: %v", r)
	}
}

func TestOfferedKeyProvesNothing(t *testing.T) {
	w := newWorld(t, setup{})
	_, signer := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	thief := sshdtest.Key(t, filepath.Join(t.TempDir(), "thief"))
	c, said, err := w.try("ops@web-1", xssh.PublicKeys(stolen{signer.PublicKey(), thief}))
	if err == nil {
		t.Fatal("alice's certificate without her key let somebody in:", c.User())
	}
	if n := w.Count(t, audit.GrantActive) + w.Count(t, audit.RequestCreated); n > 0 {
		t.Errorf("the offer opened something; said %q", said)
	}
}

// stolen offers a certificate and signs with another key.
type stolen struct {
	offered xssh.PublicKey
	xssh.Signer
}

func (s stolen) PublicKey() xssh.PublicKey { return s.offered }

func TestCertificatesThatProveNothing(t *testing.T) {
	w := newWorld(t, setup{})
	signIn := w.SignIn(t, gatetest.Alice).ID
	keyPEM, err := identity.NewSSHCA()
	must(t, err)
	other, err := identity.LoadSSHCA(keyPEM)
	must(t, err)
	key := sshdtest.Key(t, filepath.Join(t.TempDir(), "id"))
	cert, err := other.Issue(key.PublicKey(), signIn, time.Now().Add(time.Hour))
	must(t, err)
	foreign, err := xssh.NewCertSigner(cert, key)
	must(t, err)
	_, said, err := w.try("ops@web-1", xssh.PublicKeys(foreign))
	if err == nil || !strings.Contains(said, "your SSH certificate is not from this gate") {
		t.Errorf("another CA: %v, %q", err, said)
	}
	if outer, said, err := w.try("alice", xssh.PublicKeys(foreign)); err == nil {
		t.Errorf("another CA's certificate proves an outer connection: %v, %q", outer.User(), said)
	}
	_, unknown := w.certificateFor(t, identity.NewID())
	_, said, err = w.try("ops@web-1", xssh.PublicKeys(unknown))
	if err == nil || !strings.Contains(said, "sallyport: the sign-in of your client certificate has ended") {
		t.Errorf("no such sign-in: %v, %q", err, said)
	}
}

func TestLoginCertificateIsNothingToTheTarget(t *testing.T) {
	w := newWorld(t, setup{})
	_, signer := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	_, err := xssh.Dial("tcp", w.sshd.Address, &xssh.ClientConfig{
		User: w.sshd.Account, Auth: []xssh.AuthMethod{xssh.PublicKeys(signer)}, HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // the test's own target
	})
	if err == nil {
		t.Fatal("the target takes a login certificate")
	}
	// Not even a target that trusts the login CA by mistake lets its certificates in.
	careless := sshdtest.Start(t, w.SSHCA.PublicKey())
	_, err = xssh.Dial("tcp", careless.Address, &xssh.ClientConfig{
		User: careless.Account, Auth: []xssh.AuthMethod{xssh.PublicKeys(signer)}, HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // as above
	})
	if err == nil || !strings.Contains(careless.Log(), "name is not a listed principal") {
		t.Errorf("err %v, sshd:\n%s", err, careless.Log())
	}
}

func TestNamesOnTheWayIn(t *testing.T) {
	w := newWorld(t, setup{})
	_, signer := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	for user, words := range map[string]string{
		"ops+fast@web-1": "behind a role there may be +token or +nowait",
		"ops@nowhere":    "no rule lets you use nowhere as ops",
		"root@web-1":     "no rule lets you use web-1 as root",
		"@web-1":         "no role is named",
		"ops\x1b[2J@w":   "printable characters",
	} {
		if _, said, err := w.try(user, xssh.PublicKeys(signer)); err == nil || !strings.Contains(said, words) {
			t.Errorf("%q: %v, %q", user, err, said)
		}
	}
}

func TestInnerConnectionKeepsToItsTarget(t *testing.T) {
	w := newWorld(t, setup{})
	outer := w.dial(t, "alice")
	inner, err := outer.Dial("tcp", "web-1:22")
	must(t, err)
	var said strings.Builder
	_, _, _, err = xssh.NewClientConn(inner, "web-1:22", &xssh.ClientConfig{
		User: "ops@impostor", HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // OpenSSH verifies it
		BannerCallback: func(m string) error { said.WriteString(m); return nil },
	})
	if err == nil || !strings.Contains(said.String(), "sallyport: the user name names another target than web-1") {
		t.Errorf("err %v, said %q", err, said.String())
	}
	if _, err := outer.NewSession(); err == nil || !strings.Contains(err.Error(), "sallyport: name a target") {
		t.Errorf("the outer connection opens a session: %v", err)
	}
}

func TestKeysAreThree(t *testing.T) {
	w := newWorld(t, setup{})
	file := func(name string) string { return filepath.Join(w.dir, name) }
	for name, o := range map[string]ssh.Options{
		"different keys":   {HostKeys: []string{file("host")}, HostCA: file("session_ca"), SessionCA: file("session_ca")},
		"different keys,":  {HostKeys: []string{file("host")}, HostCA: file("host"), SessionCA: file("session_ca")},
		"names no file":    {HostCA: file("host_ca"), SessionCA: file("session_ca")},
		"does not speak":   {HostKeys: []string{file("host")}, HostCA: file("host_ca"), SessionCA: file("session_ca"), Ciphers: []string{"aes128-cbc"}},
		"others can get":   {HostKeys: []string{file("open")}, HostCA: file("host_ca"), SessionCA: file("session_ca")},
		"no file is named": {HostKeys: []string{file("host")}, SessionCA: file("session_ca")},
	} {
		text, err := os.ReadFile(file("host"))
		must(t, err)
		must(t, os.WriteFile(file("open"), text, 0o644))
		_, err = ssh.Protocol{}.Configure(proxy.Config{Gate: w.Gate, URL: "https://gate.test", Options: func(into any) error {
			*into.(*ssh.Options) = o //nolint:forcetypeassert // the only one
			return nil
		}})
		if err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(name, ",")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOldAlgorithmsAreNotSpoken(t *testing.T) {
	w := newWorld(t, setup{})
	for name, config := range map[string]xssh.Config{
		"CBC":    {Ciphers: []string{xssh.InsecureCipherAES128CBC}},
		"SHA-1":  {KeyExchanges: []string{xssh.InsecureKeyExchangeDH14SHA1}},
		"no ETM": {Ciphers: []string{xssh.CipherAES128CTR}, MACs: []string{xssh.HMACSHA1}},
	} {
		_, err := xssh.Dial("tcp", w.addr, &xssh.ClientConfig{Config: config, User: "ops@web-1", HostKeyCallback: xssh.InsecureIgnoreHostKey()}) //nolint:gosec // nothing is sent
		if err == nil || !strings.Contains(err.Error(), "no common algorithm") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRekeyingWithTrafficBothWays(t *testing.T) {
	w := newWorld(t, setup{})
	_, signer := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	c, err := xssh.Dial("tcp", w.addr, &xssh.ClientConfig{
		Config: xssh.Config{RekeyThreshold: 256 << 10}, User: "ops@web-1", Auth: []xssh.AuthMethod{xssh.PublicKeys(signer)},
		HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // OpenSSH verifies it
	})
	must(t, err)
	defer c.Close()
	s, err := c.NewSession()
	must(t, err)
	data := make([]byte, 8<<20)
	_, _ = rand.Read(data) // never fails
	s.Stdin = bytes.NewReader(data)
	got, err := s.Output("cat")
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d came back: %v", len(got), len(data), err)
	}
}

func TestStopIsToldOnTheTerminal(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-tt", "ops@web-1@gate", "echo up; sleep 1000")...)
	c.stdout.wait(t, "up")
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(t.Context(), time.Second) }()
	c.stdout.wait(t, "\r\nsallyport: the gate stops in 1s\r\n")
	c.stderr.wait(t, "sallyport: the gate is stopping")
	c.done()
	must(t, <-stopped)
}

func TestFullDiskEndsTheSession(t *testing.T) {
	disk := &gatetest.Disk{}
	w := newWorld(t, setup{disk: disk})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@web-1@gate", "echo up; while read x; do echo $x; done")...)
	c.stdout.wait(t, "up")
	disk.Full(true)
	_, err := io.WriteString(c.stdin, "hello\n")
	must(t, err)
	if code := c.done(); code != 255 || !strings.Contains(c.stderr.String(), "sallyport: ") {
		t.Errorf("exit %d, stderr:\n%s", code, c.stderr)
	}
	if strings.Contains(c.stdout.String(), "hello") {
		t.Error("output that is not on the record went on")
	}
	disk.Full(false)
}

func TestPasswordOpensNothingWithoutToken(t *testing.T) {
	w := newWorld(t, setup{})
	if c := w.dial(t, "ops@web-1"); c.Close() != nil {
		t.Error("not closed")
	}
	token, _, err := w.GrantToken(t.Context(), w.SignIn(t, gatetest.Alice), w.grants(t)[0].ID)
	must(t, err)
	_, said, err := w.try("ops@web-1", xssh.Password(token.Reveal()))
	if err == nil || !strings.Contains(said, "sallyport: a password opens nothing here; a grant token does") {
		t.Errorf("err %v, said %q", err, said)
	}
}
