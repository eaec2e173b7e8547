package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/protocols/ssh"
)

// An sshd is the demo's own OpenSSH server on 127.0.0.1: one ordinary account, and
// nobody enters it but whom the demo's session CA certified.
type sshd struct {
	path    string // of the program
	dir     string // its configuration, key and log
	owner   *owner // nil: ourselves
	account string
	home    string
	port    int
	hostKey string // the public key as a line

	cmd  *exec.Cmd
	done chan struct{} // closed when the server has ended
	err  error         // why; read after done
}

// Guest is web-1's account where the demo runs as root. It is not PostgreSQL's: whoever
// enters web-1 must not own the database behind the gate, nor one that this machine had
// before. scripts/setup.sh makes it.
const Guest = "sallyport-web-1"

// guest is who runs sshd: nil is ourselves, as only root can be somebody else. Where
// there is no such account it returns ErrNoGuest.
func guest() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else, and that is no error
	}
	found, err := lookup(Guest)
	if err != nil {
		return nil, ErrNoGuest
	}
	return found, nil
}

// Why there is no web-1, each with what to type.
var (
	ErrNoSSHD  = errors.New("no sshd was found; type: sudo apt-get install openssh-server (Debian)")
	ErrNoGuest = errors.New("as root it needs an account of its own; type: " +
		"useradd --system --user-group --create-home --home-dir /var/lib/" + Guest + " --shell /bin/sh --expiredate 1 " + Guest)
)

func findSSHD() (string, error) {
	for _, path := range []string{"/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"} {
		if runs(path) {
			return path, nil
		}
	}
	path, err := exec.LookPath("sshd")
	if err != nil || !filepath.IsAbs(path) { // sshd starts itself anew by its whole path
		return "", ErrNoSSHD
	}
	return path, nil
}

const sshdConfig = `ListenAddress %[1]s
HostKey %[2]s/host
TrustedUserCAKeys %[2]s/session-ca.pub
AuthorizedKeysFile none
PermitRootLogin no
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
AcceptEnv LANG LC_* GIT_PROTOCOL
SetEnv HOME=%[3]s
AllowTcpForwarding no
AllowAgentForwarding no
X11Forwarding no
`

// startSSHD makes what is missing for web-1 and starts it.
func (d *Demo) startSSHD(ctx context.Context, path string, o *owner, port int) error {
	s := &sshd{path: path, dir: d.path("web-1"), owner: o, port: port}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if o != nil {
		s.account, s.home = o.name, o.home
	} else {
		me, err := user.Current()
		if err != nil {
			return fmt.Errorf("find who runs the demo: %w", err)
		}
		s.account, s.home = me.Username, filepath.Join(s.dir, "home")
		if err := os.MkdirAll(s.home, 0o700); err != nil {
			return err
		}
	}
	host, err := sshKey(filepath.Join(s.dir, "host"))
	if err != nil {
		return err
	}
	s.hostKey = line(host)
	if err := d.gateKeys(s); err != nil {
		return err
	}
	text := fmt.Sprintf(sshdConfig, local(port), s.dir, s.home)
	if err := os.WriteFile(filepath.Join(s.dir, "sshd_config"), []byte(text), 0o644); err != nil {
		return err
	}
	if err := s.give(); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	d.sshd = s
	return nil
}

// gateKeys makes the gate's three keys: the host CA's half is for clients' known_hosts,
// the session CA's for the target.
func (d *Demo) gateKeys(s *sshd) error {
	var public []gossh.PublicKey
	for _, name := range []string{"ssh-host", "ssh-host-ca", "ssh-session-ca"} {
		key, err := sshKey(d.path(name + ".key"))
		if err != nil {
			return err
		}
		public = append(public, key.PublicKey())
	}
	_, port, err := net.SplitHostPort(d.SSH)
	if err != nil {
		return err
	}
	d.KnownHosts = d.path("known_hosts")
	known := ssh.KnownHosts([]string{"localhost", Host}, port, public[1])
	if err := os.WriteFile(d.KnownHosts, []byte(known), 0o644); err != nil { //nolint:gosec // public keys
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, "session-ca.pub"), gossh.MarshalAuthorizedKey(public[2]), 0o644) //nolint:gosec // a public key
}

func line(key gossh.Signer) string {
	return strings.TrimSpace(string(gossh.MarshalAuthorizedKey(key.PublicKey())))
}

// give makes the host key the owner's, and no more: whoever enters web-1 must not move
// what we write at the next start.
func (s *sshd) give() error {
	if s.owner == nil {
		return nil
	}
	if err := os.Chmod(s.dir, 0o711); err != nil { //nolint:gosec // the owner passes through
		return err
	}
	return os.Lchown(filepath.Join(s.dir, "host"), int(s.owner.uid), int(s.owner.gid))
}

// start starts the server and returns once it listens.
func (s *sshd) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	// Its own context: Ctrl-C must not kill it before the gate has ended its sessions.
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), s.path, "-D", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	s.cmd.Dir = s.home
	s.cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + s.home}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // it ends with us, even after kill -9
	if s.owner != nil {
		s.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.owner.uid, Gid: s.owner.gid, Groups: terminals()}
	}
	s.done = make(chan struct{})
	started := make(chan error)
	go func() {
		// The signal comes when the thread that started it ends, so the thread stays ours.
		runtime.LockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.err = s.cmd.Wait()
			close(s.done)
		}
	}()
	if err := <-started; err != nil {
		s.cmd = nil
		return fmt.Errorf("start sshd: %w", err)
	}
	if err := s.answers(ctx); err != nil {
		return errors.Join(err, s.stop())
	}
	return nil
}

// terminals is the group that lets sshd hand terminals to an account where devpts does
// not do so itself.
func terminals() []uint32 {
	g, err := user.LookupGroup("tty")
	if err != nil {
		return nil
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		return nil
	}
	return []uint32{uint32(gid)}
}

// answers waits until the server listens.
func (s *sshd) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", local(s.port))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.done:
			text, _ := os.ReadFile(filepath.Join(s.dir, "log")) // without it there are no last words
			return fmt.Errorf("sshd ended at once (%w): %s", s.err, strings.TrimSpace(string(text)))
		case <-ctx.Done():
			return fmt.Errorf("sshd does not answer: %w", err)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// stop ends the server and waits for it. Its sessions have ended with the gate's.
func (s *sshd) stop() error {
	if s.cmd == nil {
		return nil
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.done:
		return nil
	case <-time.After(10 * time.Second):
	}
	_ = s.cmd.Process.Kill()
	<-s.done
	return errors.New("sshd did not stop within 10 seconds and was ended at once")
}
