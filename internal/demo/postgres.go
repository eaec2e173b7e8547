package demo

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed seed.sql
var seed string

// A postgres is the demo's own PostgreSQL: a cluster in dir, on 127.0.0.1 with TLS,
// that admits exactly the target's roles, by password.
type postgres struct {
	dir   string // data, keys and log
	bin   string // where initdb and postgres are
	owner *owner // nil: ourselves
	port  int

	cmd  *exec.Cmd
	done chan struct{} // closed when the server has ended
	err  error         // why; read after done
}

// owner is another user, because PostgreSQL refuses to run as root.
type owner struct {
	name, home string
	uid, gid   uint32
}

// ErrNoPostgres says that there is no server, and what to type.
var ErrNoPostgres = errors.New("the demo needs a PostgreSQL server (initdb and postgres); type: " + install())

// install is the command that installs PostgreSQL here.
func install() string {
	for _, m := range []struct{ tool, command string }{
		{"apt-get", "sudo apt-get install --no-install-recommends postgresql"},
		{"dnf", "sudo dnf install postgresql-server"},
		{"apk", "sudo apk add postgresql"},
		{"pacman", "sudo pacman -S postgresql"},
		{"zypper", "sudo zypper install postgresql-server"},
		{"brew", "brew install postgresql"},
	} {
		if _, err := exec.LookPath(m.tool); err == nil {
			return m.command
		}
	}
	return "install PostgreSQL, and put its bin folder on PATH"
}

// findPostgres looks on PATH, then where Debian, Fedora and Homebrew put it, newest first.
func findPostgres() (string, error) {
	var places []string
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			places = append(places, filepath.Dir(real))
		}
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin"} {
		found, _ := filepath.Glob(pattern) // only a bad pattern is an error
		slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) + 2*strings.Compare(b, a) })
		places = append(places, found...)
	}
	for _, place := range places {
		if runs(filepath.Join(place, "initdb")) && runs(filepath.Join(place, "postgres")) {
			return place, nil
		}
	}
	return "", ErrNoPostgres
}

func runs(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// otherUser is who runs PostgreSQL when we are root.
func otherUser() (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if found, err := lookup(name); err == nil {
			return found, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody; run the demo as another user")
}

func lookup(name string) (*owner, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, errUID := strconv.ParseUint(found.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(found.Gid, 10, 32)
	return &owner{name: name, home: found.HomeDir, uid: uint32(uid), gid: uint32(gid)}, errors.Join(errUID, errGID)
}

// command runs one of PostgreSQL's programs as its owner, in a group of its own, so
// that Ctrl-C at the terminal reaches it through us, in order.
func (p *postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + p.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.owner != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.owner.uid, Gid: p.owner.gid}
	}
	return cmd
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

// made reports that the cluster is complete: its mark is written last.
func (p *postgres) made() bool {
	_, err := os.Stat(filepath.Join(p.dir, "made"))
	return err == nil
}

// give makes a file or folder the owner's.
func (p *postgres) give(path string) error {
	if p.owner == nil {
		return nil
	}
	return os.Chown(path, int(p.owner.uid), int(p.owner.gid))
}

// reachable says whether the owner can enter the folder: root's home usually refuses.
func (p *postgres) reachable() error {
	if p.owner == nil {
		return nil
	}
	for dir := p.dir; dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if dir != p.dir && info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("PostgreSQL runs as user %s, who cannot enter %s; choose another folder with --dir", p.owner.name, dir)
		}
	}
	return nil
}

// make makes the cluster, with roles of these passwords, data and certificate.
func (p *postgres) make(ctx context.Context, certPEM, keyPEM []byte, passwords map[string]string) error {
	if err := os.RemoveAll(p.dir); err != nil { // what an interrupted start left
		return err
	}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	if err := p.give(p.dir); err != nil {
		return err
	}
	if err := p.reachable(); err != nil {
		return err
	}
	for name, text := range map[string][]byte{"server.crt": certPEM, "server.key": keyPEM} {
		path := filepath.Join(p.dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
		if err := p.give(path); err != nil {
			return err
		}
	}
	initdb := p.command(ctx, "initdb", "-D", p.data(), "-U", "postgres", "-E", "UTF8", "--locale=C",
		"--auth-local=reject", "--auth-host=reject", "--no-sync", "--no-instructions")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	// Nobody but the gate knows the passwords, and nobody else has an account to log in with.
	hba := "hostssl orders reader,writer 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(p.data(), "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		return err
	}
	var roles strings.Builder
	for _, name := range []string{"reader", "writer"} {
		fmt.Fprintf(&roles, "CREATE ROLE %s LOGIN PASSWORD '%s';\n\n", name, passwords[name])
	}
	if err := p.single(ctx, "postgres", roles.String()+"CREATE DATABASE orders;\n\n"); err != nil {
		return err
	}
	if err := p.single(ctx, "orders", seed); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, "made"), nil, 0o600)
}

// single runs statements without a server, so that there is no moment in which a
// superuser could log in. Statements end at a semicolon and an empty line (-j).
func (p *postgres) single(ctx context.Context, database, sql string) error {
	cmd := p.command(ctx, "postgres", "--single", "-j", "-D", p.data(), "-c", "exit_on_error=on", "-c", "log_min_messages=warning", database)
	cmd.Stdin = strings.NewReader(sql)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fill database %s: %w: %s", database, err, bytes.TrimSpace(out))
	}
	return nil
}

// start starts the server and returns once it answers reader.
func (p *postgres) start(ctx context.Context, caFile, password string) error {
	// The folder is the owner's, who may have made a link of it.
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := p.wait(ctx); err != nil {
		return err
	}
	// Its own context: Ctrl-C must not kill it before the gate has ended its sessions.
	p.cmd = p.command(context.WithoutCancel(ctx), "postgres", "-D", p.data(),
		"-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(p.port), "-c", "unix_socket_directories=",
		"-c", "ssl=on", "-c", "ssl_cert_file="+filepath.Join(p.dir, "server.crt"), "-c", "ssl_key_file="+filepath.Join(p.dir, "server.key"),
		"-c", "log_connections=on", "-c", "shared_buffers=32MB", "-c", "max_connections=200", "-c", "logging_collector=off")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGINT // "fast": it ends with us, even after kill -9
	p.done = make(chan struct{})
	started := make(chan error)
	go func() {
		// The signal comes when the thread that started it ends, so the thread stays ours.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		p.cmd = nil
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := p.answers(ctx, caFile, password); err != nil {
		return errors.Join(err, p.stop())
	}
	return nil
}

// wait waits for the server of a run that was killed to end.
func (p *postgres) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		text, err := os.ReadFile(filepath.Join(p.data(), "postmaster.pid"))
		if err != nil {
			return nil
		}
		first, _, _ := strings.Cut(string(text), "\n")
		pid, err := strconv.Atoi(first)
		if err != nil || syscall.Kill(pid, 0) != nil {
			return nil // stale: PostgreSQL looks closer itself
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL of another demo (process %d) uses %s; end that one first", pid, p.dir)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// answers waits until a login works.
func (p *postgres) answers(ctx context.Context, caFile, password string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=reader dbname=orders sslmode=verify-full sslrootcert='%s' connect_timeout=5", p.port, strings.ReplaceAll(caFile, "'", `\'`)))
	if err != nil {
		return err
	}
	config.Password = password
	for {
		conn, err := pgconn.ConnectConfig(ctx, config)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.done:
			return fmt.Errorf("PostgreSQL ended at once (%w): %s", p.err, p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w: %s", err, p.lastWords())
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// lastWords is the end of the server's log.
func (p *postgres) lastWords() string {
	text, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}

// stop ends the server ("fast": sessions are ended, nothing is lost) and waits for it.
func (p *postgres) stop() error {
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended
	select {
	case <-p.done:
		return nil
	case <-time.After(10 * time.Second):
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	<-p.done
	return errors.New("PostgreSQL did not stop within 10 seconds and was ended at once")
}
