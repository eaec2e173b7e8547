// Package sshdtest gives tests a real OpenSSH: an sshd on loopback with keys of its
// own and no PAM, that lets in whom a session CA certified, as an ordinary user. Everything it starts is ended by its process id.
package sshdtest

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Server is a running sshd.
type Server struct {
	Address string // host:port
	HostKey string // its public key as a line: "ssh-ed25519 AAAA..."
	HostCA  string // the public key of the CA that certified it for HostName, as a line
	Account string // the only account that can be logged in to
	Dir     string // the account's home; authorized_keys in it is read at every login

	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	log strings.Builder
}

// HostName is the name in a server's host certificate.
const HostName = "sshd.test"

const config = `
%[3]s
ListenAddress %[1]s
HostKey %[2]s/host
HostCertificate %[2]s/host-cert.pub
AuthorizedKeysFile %[2]s/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PidFile none
PrintMotd no
PrintLastLog no
PermitUserRC no
Subsystem sftp internal-sftp
AcceptEnv LANG LC_* GIT_PROTOCOL LD_PRELOAD
SetEnv HOME=%[2]s
AllowAgentForwarding yes
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
X11Forwarding no
GatewayPorts clientspecified
MaxSessions 64
MaxStartups 200
LogLevel VERBOSE
`

// Start runs an sshd until the test ends. It trusts user certificates by the key
// trusted; nil: none. Settings are lines of its configuration that go before its own.
func Start(t testing.TB, trusted ssh.PublicKey, settings ...string) *Server {
	t.Helper()
	me := account(t)
	s := &Server{Account: me.Username, Dir: folder(t, me), done: make(chan struct{})}
	key := Key(t, filepath.Join(s.Dir, "host"))
	s.HostKey = Line(key.PublicKey())
	s.certify(t, key)
	if trusted != nil {
		write(t, filepath.Join(s.Dir, "trusted"), ssh.MarshalAuthorizedKey(trusted))
		settings = append(settings, "TrustedUserCAKeys "+filepath.Join(s.Dir, "trusted"))
	}
	write(t, filepath.Join(s.Dir, "authorized_keys"), nil)
	s.Address = free(t)
	// HOME is the folder, so that no profile of the machine is run at each login.
	write(t, filepath.Join(s.Dir, "sshd_config"), fmt.Appendf(nil, config, s.Address, s.Dir, strings.Join(settings, "\n")))
	s.run(t, me)
	return s
}

// certify has a CA of the server's own certify its host key.
func (s *Server) certify(t testing.TB, key ssh.Signer) {
	t.Helper()
	ca := Key(t, filepath.Join(t.TempDir(), "ca"))
	s.HostCA = Line(ca.PublicKey())
	cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{HostName}, ValidBefore: ssh.CertTimeInfinity}
	must(t, cert.SignCert(rand.Reader, ca))
	write(t, filepath.Join(s.Dir, "host-cert.pub"), ssh.MarshalAuthorizedKey(cert))
}

// account is who the server runs as: an sshd without privileges lets in nobody else.
// Root is avoided, because sshd passes no signals on to root's processes.
func account(t testing.TB) *user.User {
	t.Helper()
	if os.Geteuid() != 0 {
		me, err := user.Current()
		must(t, err)
		return me
	}
	for _, name := range []string{"postgres", "sshdtest"} {
		if me, err := user.Lookup(name); err == nil {
			return me
		}
	}
	t.Fatal("as root the tests need an ordinary account with a shell; type: useradd -m -s /bin/bash sshdtest")
	return nil
}

// folder is a folder of the account's own, outside those of the test, which are closed to it.
func folder(t testing.TB, me *user.User) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sshdtest")
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove sshd's folder: %v", err)
		}
	})
	own(t, dir, me)
	return dir
}

func own(t testing.TB, path string, me *user.User) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	uid, gid := ids(t, me)
	must(t, os.Chown(path, uid, gid))
}

func group(t testing.TB, name string) []uint32 {
	t.Helper()
	g, err := user.LookupGroup(name)
	if err != nil {
		return nil
	}
	gid, err := strconv.Atoi(g.Gid)
	must(t, err)
	return []uint32{uint32(gid)} //nolint:gosec // of the system's own groups
}

func ids(t testing.TB, me *user.User) (uid, gid int) {
	t.Helper()
	uid, err := strconv.Atoi(me.Uid)
	must(t, err)
	gid, err = strconv.Atoi(me.Gid)
	must(t, err)
	return uid, gid
}

func (s *Server) run(t testing.TB, me *user.User) {
	t.Helper()
	files, err := os.ReadDir(s.Dir)
	must(t, err)
	for _, f := range files {
		own(t, filepath.Join(s.Dir, f.Name()), me)
	}
	path, err := exec.LookPath("sshd")
	if err != nil {
		path = "/usr/sbin/sshd" // not on everybody's PATH, and sshd wants its whole path
	}
	s.cmd = exec.Command(path, "-D", "-e", "-f", filepath.Join(s.Dir, "sshd_config"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		uid, gid := ids(t, me)
		// The group tty lets sshd hand terminals to it where devpts does not do so itself.
		s.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: group(t, "tty")} //nolint:gosec // of the system's own accounts
		s.cmd.Dir = s.Dir
	}
	stderr, err := s.cmd.StderrPipe()
	must(t, err)
	must(t, s.cmd.Start())
	ready := make(chan struct{})
	go func() {
		defer close(s.done)
		lines := bufio.NewScanner(stderr)
		var once sync.Once
		for lines.Scan() {
			s.mu.Lock()
			s.log.WriteString(lines.Text() + "\n")
			s.mu.Unlock()
			if strings.Contains(lines.Text(), "Server listening on") {
				once.Do(func() { close(ready) })
			}
		}
	}()
	t.Cleanup(func() { s.stop(t) })
	select {
	case <-ready:
	case <-s.done:
		t.Fatalf("sshd does not start:\n%s", s.Log())
	case <-time.After(20 * time.Second):
		t.Fatalf("sshd does not start in time:\n%s", s.Log())
	}
}

// stop ends the listener; what its connections left running shares its stderr, and
// is ended by its group.
func (s *Server) stop(t testing.TB) {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("stop sshd: %v", err)
	}
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // gone is fine
	}
	_ = s.cmd.Wait() // ended by a signal, which it says
}

// Log is what sshd has written so far.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Running lists what its sessions have running, as /proc does: processes by their
// numbers, known by the HOME that only this server sets. An sftp conversation runs inside
// of sshd and is not among them.
func (s *Server) Running(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	var running []string
	for _, path := range all {
		environment, err := os.ReadFile(path)
		if err != nil || !strings.Contains("\x00"+string(environment), "\x00HOME="+s.Dir+"\x00") {
			continue // it has gone, or is another's
		}
		running = append(running, filepath.Base(filepath.Dir(path)))
	}
	return running
}

// Port is the port of Address.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Address)
	return port
}

// Key makes an Ed25519 key and writes it to path (mode 0600) and path.pub, as
// ssh-keygen does.
func Key(t testing.TB, path string) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(key, "test")
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	write(t, path, pem.EncodeToMemory(block))
	write(t, path+".pub", ssh.MarshalAuthorizedKey(signer.PublicKey()))
	return signer
}

// Line is a public key without a line break.
func Line(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

// free finds a port that nobody has now.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close() //nolint:errcheck // nothing was sent
	return l.Addr().String()
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o600))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
