package demo

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/freeport"
)

// folder is a temporary one that PostgreSQL's user can enter.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-demo-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPostgresAdmitsTheRolesOnlyByTLSAndPassword(t *testing.T) {
	dir := folder(t)
	caPEM, caKey, err := identity.NewServerCA("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := identity.LoadServerCA(caPEM, caKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.IssueServer([]string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	caFile := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(caFile, caPEM, 0o644); err != nil {
		t.Fatal(err)
	}
	bin, err := findPostgres()
	if err != nil {
		t.Fatal(err)
	}
	who, err := otherUser()
	if err != nil {
		t.Fatal(err)
	}
	port, err := freeport.Pick()
	if err != nil {
		t.Fatal(err)
	}
	p := &postgres{dir: filepath.Join(dir, "postgres"), bin: bin, owner: who, port: port}
	if err := p.make(t.Context(), cert, key, map[string]string{"reader": "r-secret", "writer": "w-secret"}); err != nil {
		t.Fatal(err)
	}
	if !p.made() {
		t.Fatal("a cluster that was made is not known as made")
	}
	if err := p.start(t.Context(), caFile, "r-secret"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}()
	connect := func(user, password, extra string) (*pgconn.PgConn, error) {
		return pgconn.Connect(t.Context(), strings.Join([]string{"host=127.0.0.1 port=" + strconv.Itoa(port), "user=" + user, "password=" + password, "dbname=orders", extra}, " "))
	}
	verify := "sslmode=verify-full sslrootcert=" + caFile
	for _, c := range []struct{ user, password, extra, want string }{
		{"reader", "r-secret", "sslmode=disable", "no pg_hba.conf entry"},
		{"reader", "wrong", verify, "password authentication failed"},
		{"postgres", "", verify, "no pg_hba.conf entry"},
	} {
		if _, err := connect(c.user, c.password, c.extra); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	run := func(user, password, sql string) (string, error) {
		conn, err := connect(user, password, verify)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		results, err := conn.Exec(t.Context(), sql).ReadAll()
		if err != nil || len(results[0].Rows) == 0 {
			return "", err
		}
		return string(results[0].Rows[0][0]), nil
	}
	if n, err := run("reader", "r-secret", "SELECT count(*) FROM orders"); err != nil || n != "500" {
		t.Errorf("orders: %s, %v", n, err)
	}
	if _, err := run("reader", "r-secret", "UPDATE orders SET state = 'paid'"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the reader writes: %v", err)
	}
	if _, err := run("writer", "w-secret", "UPDATE orders SET state = 'paid' WHERE state = 'stuck'"); err != nil {
		t.Errorf("the writer: %v", err)
	}
}

func TestMissingPostgresSaysWhatToType(t *testing.T) {
	if !strings.Contains(ErrNoPostgres.Error(), "apt-get install") && !strings.Contains(ErrNoPostgres.Error(), "install") {
		t.Fatal(ErrNoPostgres)
	}
}
