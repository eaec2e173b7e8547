package ssh_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/internal/sshdtest"
	"github.com/sallyport/sallyport/protocols/ssh"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

// world is a gate in front of a real sshd, and what its users have.
type world struct {
	*gatetest.Fixture
	sshd   *sshdtest.Server
	dir    string
	addr   string // of the gate
	config string // an ssh_config that knows the gate's host CA and nothing else
}

type setup struct {
	forward string // where the role tunnel may forward to
	listen  string // where the role listener may have the target listen
	config  func(*session.Config)
	disk    *gatetest.Disk
	ci      *gatetest.CI
	target  *fake    // in the place of the sshd
	sshd    []string // settings of the sshd
	secrets credential.Set
	grace   time.Duration // of a sign-in; 0: the server's own
}

func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	sessionCA := sshdtest.Key(t, filepath.Join(w.dir, "session_ca"))
	hostCA := sshdtest.Key(t, filepath.Join(w.dir, "host_ca"))
	sshdtest.Key(t, filepath.Join(w.dir, "host"))
	other := sshdtest.Key(t, filepath.Join(w.dir, "other"))
	w.sshd = sshdtest.Start(t, sessionCA.PublicKey(), s.sshd...)
	if s.forward == "" {
		s.forward = "127.0.0.1:9"
	}
	if s.listen == "" {
		s.listen = "127.0.0.1:9"
	}
	address, hostKey := w.sshd.Address, w.sshd.HostKey
	if s.target != nil {
		address, hostKey = s.target.address, s.target.hostKey
	}
	o := gatetest.Options{
		Targets: fmt.Sprintf(targets, address, hostKey, w.sshd.Account, sshdtest.Line(other.PublicKey()), w.sshd.HostCA, sshdtest.HostName),
		Rules:   fmt.Sprintf(rules, s.forward, s.listen),
		Scopes:  map[string][]string{ssh.Name: ssh.Protocol{}.Scopes()},
		Config:  s.config,
		Secrets: s.secrets,
	}
	if s.ci != nil {
		o.CI, o.Rules = s.ci, o.Rules+pipelineRule
	}
	if s.disk != nil {
		o.Faults = s.disk.Faults()
	}
	w.Fixture = gatetest.New(t, o)
	w.serve(t, s.grace)
	text := ssh.KnownHosts([]string{"127.0.0.1"}, port(w.addr), hostCA.PublicKey()) + ssh.KnownHosts([]string{"web-1"}, "22", hostCA.PublicKey())
	must(t, os.WriteFile(filepath.Join(w.dir, "known_hosts"), []byte(text), 0o600))
	w.config = filepath.Join(w.dir, "ssh_config")
	must(t, os.WriteFile(w.config, fmt.Appendf(nil, `
Host *
  UserKnownHostsFile %[1]s/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  IdentitiesOnly yes
  IdentityFile /nonexistent
  SendEnv LC_*
Host gate
  HostName 127.0.0.1
  Port %[2]s
`, w.dir, port(w.addr)), 0o600))
	return w
}

func (w *world) serve(t testing.TB, grace time.Duration) {
	t.Helper()
	h, err := ssh.Protocol{}.Configure(proxy.Config{
		Gate: w.Gate, URL: "https://gate.test",
		Options: func(into any) error {
			o := into.(*ssh.Options)
			o.HostKeys, o.HostCA, o.SessionCA = []string{filepath.Join(w.dir, "host")}, filepath.Join(w.dir, "host_ca"), filepath.Join(w.dir, "session_ca")
			o.Names = []string{"127.0.0.1", "gate"}
			return nil
		},
	})
	must(t, err)
	server := &proxy.Server{Handshake: grace}
	must(t, server.Listen(t.Context(), proxy.Listener{Name: ssh.Name, Address: "127.0.0.1:0", Handler: h}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background()) }()
	w.addr = server.Addrs()[0].String()
	t.Cleanup(func() {
		_ = server.Close() // says what Serve says
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// certificate signs somebody in and writes a key with its certificate, as
// `sallyport login` does. It returns the options that make ssh use it.
func (w *world) certificate(t testing.TB, u identity.User) []string {
	t.Helper()
	path, _ := w.certificateFor(t, w.SignIn(t, u).ID)
	return []string{"-o", "IdentityFile=" + path, "-o", "CertificateFile=" + path + "-cert.pub"}
}

func (w *world) certificateFor(t testing.TB, signIn string) (string, xssh.Signer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id")
	key := sshdtest.Key(t, path)
	cert, err := w.SSHCA.Issue(key.PublicKey(), signIn, time.Now().Add(time.Hour))
	must(t, err)
	must(t, os.WriteFile(path+"-cert.pub", xssh.MarshalAuthorizedKey(cert), 0o600))
	signer, err := xssh.NewCertSigner(cert, key)
	must(t, err)
	return path, signer
}

// A client is a real program that talks to the gate.
type client struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *lines
	stderr *lines
	err    error
	over   time.Time // when it ended
	ended  chan struct{}
}

// lines collects output and lets a test wait for some of it.
type lines struct {
	mu   sync.Mutex
	cond *sync.Cond
	text bytes.Buffer
	over bool
}

func collect(r io.Reader) *lines {
	l := &lines{}
	l.cond = sync.NewCond(&l.mu)
	go func() {
		in := bufio.NewReader(r)
		buf := make([]byte, 64<<10)
		for {
			n, err := in.Read(buf)
			l.mu.Lock()
			l.text.Write(buf[:n])
			l.over = err != nil
			l.mu.Unlock()
			l.cond.Broadcast()
			if err != nil {
				return
			}
		}
	}()
	return l
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// wait waits until pattern matches, and returns the submatches.
func (l *lines) wait(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	timer := time.AfterFunc(20*time.Second, func() {
		l.mu.Lock()
		l.over = true
		l.mu.Unlock()
		l.cond.Broadcast()
	})
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if m := re.FindStringSubmatch(l.text.String()); m != nil {
			return m
		}
		if l.over {
			t.Fatalf("the client never said %q; it said:\n%s", pattern, l.text.String())
		}
		l.cond.Wait()
	}
}

// run starts a program. It is killed when the test ends.
func (w *world) run(t *testing.T, name string, args ...string) *client {
	t.Helper()
	c := &client{t: t, cmd: exec.Command(name, args...), ended: make(chan struct{})}
	c.cmd.Dir = t.TempDir()
	c.cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=", "HOME="+w.dir)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	c.stdin, err = c.cmd.StdinPipe()
	must(t, err)
	outR, outW, err := os.Pipe()
	must(t, err)
	errR, errW, err := os.Pipe()
	must(t, err)
	c.cmd.Stdout, c.cmd.Stderr = outW, errW
	c.stdout, c.stderr = collect(outR), collect(errR)
	must(t, c.cmd.Start())
	must(t, errors.Join(outW.Close(), errW.Close()))
	go func() { c.err, c.over = c.cmd.Wait(), time.Now(); close(c.ended) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // gone is fine
		<-c.ended
		_ = errors.Join(outR.Close(), errR.Close())
	})
	return c
}

// ssh starts OpenSSH's client.
func (w *world) ssh(t *testing.T, args ...string) *client {
	t.Helper()
	return w.run(t, "ssh", append([]string{"-F", w.config}, args...)...)
}

// done waits for the end and returns the exit status.
func (c *client) done() int {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(time.Minute): // for ansible on a machine that does other things
		c.t.Fatalf("the client does not end; stdout:\n%s\nstderr:\n%s", c.stdout, c.stderr)
	}
	// The pipes' readers may be behind the process's end.
	for _, l := range []*lines{c.stdout, c.stderr} {
		l.mu.Lock()
		for !l.over {
			l.cond.Wait()
		}
		l.mu.Unlock()
	}
	return c.cmd.ProcessState.ExitCode()
}

// confirm does what a person does at the link that a held client shows.
func (w *world) confirm(t *testing.T, c *client, by identity.SignIn, reason string) {
	t.Helper()
	link := c.stderr.wait(t, `https://gate\.test/h/(\w+)`)[1]
	phrase := c.stderr.wait(t, `your phrase is  (.+?)  - the page`)[1]
	home := netip.MustParseAddr("127.0.0.1")
	_, err := w.Held(t.Context(), link, by, home)
	must(t, err)
	_, err = w.Confirm(t.Context(), link, by, home, session.Confirmation{Phrase: phrase, Reason: reason})
	must(t, err)
}

// pending waits for a request that somebody can decide, and returns it.
func (w *world) pending(t *testing.T, by identity.SignIn) session.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	changes := w.Watch(ctx)
	for {
		list, err := w.Inbox(ctx, by)
		must(t, err)
		if len(list) > 0 {
			return list[0]
		}
		if _, ok := <-changes; !ok {
			t.Fatal("no request came")
		}
	}
}

// decide answers the request that waits.
func (w *world) decide(t *testing.T, v session.Verdict) session.Request {
	t.Helper()
	bob := w.SignIn(t, gatetest.Bob)
	r, err := w.Decide(t.Context(), bob, w.pending(t, bob).ID, v)
	must(t, err)
	return r
}

// grants lists Alice's grants.
func (w *world) grants(t *testing.T) []session.Grant {
	t.Helper()
	list, err := w.Grants(t.Context(), w.SignIn(t, gatetest.Alice), session.Filter{})
	must(t, err)
	return list
}

// session waits for a live session of Alice's and returns it.
func (w *world) session(t *testing.T, state string) session.Record {
	t.Helper()
	alice := w.SignIn(t, gatetest.Alice)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	changes := w.Watch(ctx)
	for {
		list, err := w.Sessions(ctx, alice, session.Filter{State: state})
		must(t, err)
		if len(list) > 0 {
			return list[0]
		}
		if _, ok := <-changes; !ok {
			t.Fatal("no session came")
		}
	}
}

// recorded returns the lines of the only recording, once the session has ended.
func (w *world) recorded(t *testing.T) []audit.Line {
	t.Helper()
	return w.recordedAs(t, w.session(t, "ended").ID)
}

// recordedAs returns the lines of a session's recording.
func (w *world) recordedAs(t *testing.T, id string) []audit.Line {
	t.Helper()
	r, err := w.Recordings.Read(id)
	must(t, err)
	var list []audit.Line
	for line, err := range r.Lines(t.Context()) {
		must(t, err)
		list = append(list, line)
	}
	return list
}

// played is what a stream of the recording shows.
func played(list []audit.Line, stream string) string {
	var b strings.Builder
	at := ""
	for _, line := range list {
		e, ok := line.Track.(audit.Terminal)
		switch {
		case !ok:
		case e.Code == "m":
			at = string(e.Data)
		case e.Code == "o" && at == stream:
			b.Write(e.Data)
		}
	}
	return b.String()
}

// said reports a line of the recording of this kind that has all of the words.
func said(list []audit.Line, kind string, words ...string) bool {
	for _, line := range list {
		all := line.Kind == kind
		for _, word := range words {
			all = all && strings.Contains(fmt.Sprintf("%+v", line.Track), word)
		}
		if all {
			return true
		}
	}
	return false
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// outcome waits until a request has a state.
func (w *world) outcome(t *testing.T, id string, state session.RequestState) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	changes := w.Watch(ctx)
	for {
		r, err := w.Request(ctx, w.SignIn(t, gatetest.Sam), id)
		must(t, err)
		if r.State == state {
			return
		}
		if _, ok := <-changes; !ok {
			t.Fatalf("the request is %s, not %s", r.State, state)
		}
	}
}
