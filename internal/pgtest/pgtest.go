// Package pgtest gives tests a real PostgreSQL: one server for a test binary, on
// loopback with TLS and on a unix socket, with roles that log in by every method.
//
// A test package that uses it runs its tests through Main:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A Server is a running PostgreSQL with the database orders.
type Server struct {
	Host string // "127.0.0.1"; its certificate is for localhost and 127.0.0.1
	Port int
	// Socket is the path of the unix socket.
	Socket string
	// CA is the PEM that signed the server's certificate.
	CA []byte
	// Certificate is the PEM pair by which the role certified logs in.
	Certificate []byte

	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

// Password is the password of every role that has one.
const Password = "pencil sharpener, 42"

// roles log in as their names say; see hba. Only boss and rooty are more than they
// should be.
const roles = `
create role reader login;
create role writer login;
create role plain login;
create role certified login;
create role trusted login;
create role loose login;
create role boss login superuser;
create role maker login createrole;
create role auditors nologin;
create role member login in role auditors;
create role limited login connection limit 1;
`

const data = `
create table customers (id int primary key, name text not null);
insert into customers select g, 'customer ' || g from generate_series(1, 1000) g;
create table ledger (id serial primary key, note text);
grant select on customers to public;
grant all on ledger to public;
grant all on sequence ledger_id_seq to public;
grant create on schema public to writer;
create database analytics;
`

const hba = `
local   all all trust
hostssl all certified 127.0.0.1/32 cert
hostssl all plain     127.0.0.1/32 password
hostssl all trusted   127.0.0.1/32 trust
hostssl all md5er     127.0.0.1/32 md5
host    all loose     127.0.0.1/32 scram-sha-256
hostssl all all       127.0.0.1/32 scram-sha-256
`

var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Main runs the tests and then ends the server, where one was started.
func Main(m *testing.M) int {
	defer func() {
		if shared.server != nil {
			shared.server.stop()
		}
	}()
	return m.Run()
}

// Start returns the test binary's server, and starts it at the first call.
func Start(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = start(300) })
	if shared.err != nil {
		t.Fatalf("PostgreSQL for the tests: %v", shared.err)
	}
	return shared.server
}

// New starts a server of the test's own, which takes that many connections. It ends
// with the test.
func New(t testing.TB, connections int) *Server {
	t.Helper()
	s, err := start(connections)
	if err != nil {
		t.Fatalf("PostgreSQL for the test: %v", err)
	}
	t.Cleanup(s.stop)
	return s
}

func start(connections int) (s *Server, err error) {
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return nil, err
	}
	s = &Server{Host: "127.0.0.1", dir: dir, done: make(chan struct{})}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	bin, err := Bin()
	if err != nil {
		return s, err
	}
	if err := s.own(dir); err != nil {
		return s, err
	}
	out, err := s.command(filepath.Join(bin, "initdb"), "-D", s.data(), "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C").CombinedOutput()
	if err != nil {
		return s, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if err := s.configure(connections); err != nil {
		return s, err
	}
	if err := s.run(filepath.Join(bin, "postgres")); err != nil {
		return s, err
	}
	return s, s.fill()
}

// Bin is the folder of PostgreSQL's programs.
func Bin() (string, error) {
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); err == nil && len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", fmt.Errorf("install the PostgreSQL server: %w", err)
	}
	return filepath.Dir(path), nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// own gives a path to the user who runs the server: PostgreSQL refuses to be root.
func (s *Server) own(paths ...string) error {
	c, err := credential()
	if err != nil || c == nil {
		return err
	}
	for _, path := range paths {
		if err := os.Chown(path, int(c.Uid), int(c.Gid)); err != nil {
			return err
		}
	}
	return nil
}

func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // we run it ourselves
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("no user to run PostgreSQL as")
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	c, err := credential()
	if err != nil {
		cmd.Err = err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c, Setpgid: true}
	return cmd
}

func (s *Server) configure(connections int) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.Port = l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // a TCP listener
	if err := l.Close(); err != nil {
		return err
	}
	s.Socket = filepath.Join(s.dir, ".s.PGSQL."+strconv.Itoa(s.Port))
	ca, cert, key, client, err := certificates()
	if err != nil {
		return err
	}
	s.CA, s.Certificate = ca, client
	conf := fmt.Sprintf(`
listen_addresses = '127.0.0.1'
port = %d
unix_socket_directories = '%s'
max_connections = %d
ssl = on
ssl_ca_file = 'ca.pem'
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
fsync = off
shared_buffers = 64MB
log_connections = on
`, s.Port, s.dir, connections)
	for name, text := range map[string]string{"postgresql.auto.conf": conf, "pg_hba.conf": hba, "ca.pem": string(ca), "server.pem": string(cert), "server.key": string(key)} {
		path := filepath.Join(s.data(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		if err := s.own(path); err != nil {
			return err
		}
	}
	return nil
}

// run starts the server. It ends with the thread that started it, and so with a test
// binary that is killed.
func (s *Server) run(postgres string) error {
	cmd := s.command(postgres, "-D", s.data())
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	cmd.Stderr = log
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer close(s.done)
		err := cmd.Start()
		if err == nil {
			s.cmd = cmd
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // a server that ends is noticed by the tests
		}
		_ = log.Close()
	}()
	return <-started
}

func (s *Server) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // it may have ended
		<-s.done
	}
	_ = os.RemoveAll(s.dir)
}

func (s *Server) fill() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var conn *pgconn.PgConn
	for {
		var err error
		if conn, err = s.connect(ctx, "postgres"); err == nil {
			break
		}
		select {
		case <-s.done:
			return fmt.Errorf("the server ended: %s", s.Log())
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w: %s", err, s.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
	passwords := ""
	for _, role := range []string{"reader", "writer", "plain", "loose", "boss", "maker", "member", "limited"} {
		passwords += fmt.Sprintf("alter role %s password '%s';", role, Password)
	}
	passwords += fmt.Sprintf("set password_encryption = md5; create role md5er login password '%s';", Password)
	for _, sql := range []string{roles + passwords, "create database orders"} {
		if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	if err := conn.Close(ctx); err != nil {
		return err
	}
	conn, err := s.connect(ctx, "orders")
	if err != nil {
		return err
	}
	for _, sql := range bytes.Split([]byte(data), []byte(";\n")) {
		if _, err := conn.Exec(ctx, string(sql)).ReadAll(); err != nil {
			return fmt.Errorf("fill: %w: %s", err, sql)
		}
	}
	return conn.Close(ctx)
}

func (s *Server) connect(ctx context.Context, database string) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=postgres dbname=%s", s.dir, s.Port, database))
}

// Log is what the server has said so far.
func (s *Server) Log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Query runs SQL as the superuser, in database orders, and returns the rows of its
// last statement.
func (s *Server) Query(t testing.TB, sql string) [][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := s.connect(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // nothing is left on it
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var rows [][]string
	for _, row := range results[len(results)-1].Rows {
		var values []string
		for _, v := range row {
			values = append(values, string(v))
		}
		rows = append(rows, values)
	}
	return rows
}
