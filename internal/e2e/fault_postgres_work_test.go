package e2e

import (
	"context"
	endian "encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/session"
)

// begins answers the startup message by these bytes, and closes once it was left.
func begins(answer string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close() //nolint:errcheck // it is over
		if _, err := pgproto3.NewBackend(conn, conn).ReceiveStartupMessage(); err != nil {
			return
		}
		_, _ = io.WriteString(conn, answer)
		silence(conn)
	}
}

// gigabyte writes the first bytes, and then the others until they are a gigabyte.
func gigabyte(w io.Writer, first, again string) {
	_, err := io.WriteString(w, first)
	block := strings.Repeat(again, 1+(1<<20)/len(again))
	for n := 0; err == nil && n < 1<<30; n += len(block) {
		_, err = io.WriteString(w, block)
	}
}

// postgres lets the gate in as a PostgreSQL does, and leaves the client's statements to this.
func postgres(answer func(io.Writer)) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close() //nolint:errcheck // it is over
		b := pgproto3.NewBackend(conn, conn)
		start, err := b.ReceiveStartupMessage()
		if _, ok := start.(*pgproto3.StartupMessage); err != nil || !ok { // a cancel
			return
		}
		b.Send(&pgproto3.AuthenticationOk{})
		b.Send(&pgproto3.BackendKeyData{ProcessID: 42, SecretKey: []byte("abcd")})
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		for b.Flush() == nil {
			m, err := b.Receive()
			query, ok := m.(*pgproto3.Query)
			switch {
			case err != nil || !ok:
				return
			case strings.Contains(query.String, "rolsuper"): // who the gate is
				b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("f"), []byte("f"), nil, []byte("42"), []byte("1"), []byte("0")}})
				b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			case strings.Contains(query.String, "backend_start"): // whether another one is gone
				b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			default:
				answer(conn)
				return
			}
		}
	}
}

// judged lets the gate in, and answers who it is by rows for a gigabyte.
func judged(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // it is over
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err == nil {
		gigabyte(conn, "R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I", row(60_000))
	}
}

// row is a row of one column of so many bytes.
func row(size int) string { return rowHead(size) + strings.Repeat("x", size) }

func rowHead(size int) string {
	p := endian.BigEndian.AppendUint32([]byte{'D'}, uint32(4+2+4+size))
	return string(endian.BigEndian.AppendUint32(append(p, 0, 1), uint32(size)))
}

// oneRow is what one row may have, in bytes: PostgreSQL sends none of a gigabyte.
const oneRow = 1<<30 - 16

// exes are x without end.
type exes struct{}

func (exes) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// tells answers by these bytes and closes.
func tells(text string) func(io.Writer) {
	return func(w io.Writer) { _, _ = io.WriteString(w, text) }
}

// described is the RowDescription of one column of text.
const described = "T\x00\x00\x00\x1a\x00\x01x\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x19\xff\xff\xff\xff\xff\xff\x00\x00"

// misbehaved is a PostgreSQL that does, and what the user sees.
type misbehaved struct {
	name  string
	speak func(net.Conn)
	want  string // without "FATAL:  sallyport: "; "" where nothing can be said any more
}

func misbehavingAtStart() []misbehaved {
	return []misbehaved{
		{"wordless", begins(message('E', "\x00")), "the target wordless refuses the connection: it does not say why\n"},
		{"verbose", begins(message('E', "SFATAL\x00C53300\x00M"+strings.Repeat("y", 60_000)+"\x00\x00")), "the target verbose refuses the connection: yyy"},
		{"asks", begins(message('R', "\x00\x00\x00\x0aSCRAM-SHA-999\x00\x00")), failed("asks")},
		{"judged", judged, failed("judged")},
	}
}

func misbehavingAtWork() []misbehaved {
	const broke = "the connection to the target broke; connect again"
	const odd = "the target does not answer as it should, so the session is ended; ask the platform team"
	return []misbehaved{
		{"dies", postgres(tells(described + row(100) + row(100)[:50])), broke},
		{"rows", postgres(tells(described + strings.Repeat(row(100), 1000))), broke},
		{"half", postgres(tells(described + row(100_000)[:50_000])), ""}, // psql stands in the middle of a row
		{"liar", postgres(tells(described + row(100) + "D\x7f\xff\xff\xff")), odd},
		{"nought", postgres(tells(described + row(100) + "D\x00\x00\x00\x00")), odd},
		{"under", postgres(tells(described + row(100) + "D\x00\x00\x00\x03")), odd},
		{"again", postgres(tells("R\x00\x00\x00\x08\x00\x00\x00\x03")), odd},
		{"torn", postgres(tells("E\x00\x00\x00\x06SF")), odd},
		{"long", postgres(tells("Z\x00\x10\x00\x00")), odd},
		{"gigabyte", postgres(func(w io.Writer) {
			gigabyte(w, "H\x00\x00\x00\x07\x00\x00\x00", "d\x00\x00\x04\x04"+strings.Repeat("x", 1<<10))
			_, _ = io.WriteString(w, "c\x00\x00\x00\x04C\x00\x00\x00\x0bCOPY 1\x00Z\x00\x00\x00\x05I")
			_, _ = w.(net.Conn).Read(make([]byte, 5)) // the client's Terminate
		}), "1069547520\n"},
	}
}

// turns is a target that closes at once until it is told to be the server at this address.
func turns(well *atomic.Bool, to string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close() //nolint:errcheck // it is over
		if !well.Load() {
			return
		}
		behind, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer behind.Close() //nolint:errcheck // as above
		over := make(chan struct{})
		go func() {
			defer close(over)
			_, _ = io.Copy(behind, conn)
			_ = behind.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // it was dialled
		}()
		_, _ = io.Copy(conn, behind)
		_ = conn.Close()
		<-over
	}
}

// as runs psql by the certificate of a login, at another target.
func (m *machine) as(t *testing.T, home, target string, args ...string) *terminal {
	t.Helper()
	info := strings.Replace(m.conninfo(t, "reader"), "dbname=orders", "dbname="+target, 1)
	env := []string{"PGSSLCERT=" + filepath.Join(home, "client.crt"), "PGSSLKEY=" + filepath.Join(home, "client.key")}
	return start(t, env, "psql", append([]string{"-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", info}, args...)...)
}

// PostgreSQL that lies about the length of a message once it has let the gate in, dies in
// the middle of one, asks for a second login, or says a gigabyte, to the client or to the
// gate itself: psql is told in a sentence, the session's end is on the record, the
// gate's memory stays, and the same grant serves once the target is well.
func TestDatabasesThatMisbehaveAtWork(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	well, left := &atomic.Bool{}, &atomic.Int32{}
	_, at, err := net.SplitHostPort(listening(t, nil, turns(well, fmt.Sprintf("127.0.0.1:%d", m.pg.Port))))
	if err != nil {
		t.Fatal(err)
	}
	targets, names := target("turns", "localhost:"+at, "db-ca.crt", "orders-reader"), []string{"turns"}
	add := func(c misbehaved) {
		address := listening(t, nil, func(conn net.Conn) {
			left.Add(1)
			defer left.Add(-1)
			c.speak(conn)
		})
		block := strings.Replace(target(c.name, address, "db-ca.crt", "orders-reader"), `ca = "db-ca.crt"`, `mode = "off"`, 1)
		targets, names = targets+block, append(names, c.name)
	}
	cases := append(misbehavingAtStart(), misbehavingAtWork()...)
	for _, c := range cases {
		add(c)
	}
	whole := misbehaved{name: "whole", speak: postgres(func(w io.Writer) {
		_, _ = io.WriteString(w, described+rowHead(oneRow))
		_, _ = io.CopyN(w, exes{}, oneRow)
		_, _ = w.(net.Conn).Read(make([]byte, 5)) // the client's Terminate
	})}
	add(whole)
	m.broken(t, "reader", targets, names...)
	m.serve(t)
	home := m.login(t, "alice@example.com")
	alice := m.signedIn(t, "alice@example.com")
	if shown, err := m.as(t, home, "turns", "-c", "SELECT 1").ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: the connection to the target turns failed; ask the platform team") {
		t.Errorf("turns (%v) shows:\n%s", err, shown)
	}
	before := m.memory(t)
	m.misbehave(t, home, cases)
	m.readsWhole(t, home, whole.name)
	if grown := m.memory(t) - before; grown > 64 {
		t.Errorf("gigabytes of answers took %d MiB", grown)
	}
	alice.live(t, 0)
	eventually(t, "the connections to the targets to be gone", func() bool { return left.Load() == 0 })
	ended := map[string]string{}
	for _, s := range list[session.Record](t, alice, "sessions", "?state=ended") {
		ended[s.Key.Target] = s.Cause
	}
	for _, name := range names {
		if want := map[bool]string{true: "closed", false: "error"}[name == "gigabyte" || name == "whole"]; ended[name] != want {
			t.Errorf("the session at %s ended by %q, not %q", name, ended[name], want)
		}
	}
	well.Store(true)
	if shown, err := m.as(t, home, "turns", "-c", "SELECT 'served again'").ends(t); err != nil || !strings.Contains(shown, "served again") {
		t.Errorf("turns, once it is well (%v), shows:\n%s", err, shown)
	}
	m.over(t)
}

// misbehave runs psql at each, all at once.
func (m *machine) misbehave(t *testing.T, home string, cases []misbehaved) {
	t.Helper()
	var all []*terminal
	for _, c := range cases {
		args := []string{"-c", "SELECT x"}
		if c.name == "gigabyte" {
			args = []string{"-o", "|wc -c", "-c", "COPY x TO STDOUT"}
		}
		all = append(all, m.as(t, home, c.name, args...))
	}
	for i, c := range cases {
		shown, err := all[i].ends(t)
		want := "FATAL:  sallyport: " + c.want
		switch {
		case c.name == "gigabyte":
			if err != nil || !strings.Contains(shown, c.want) {
				t.Errorf("%s (%v) shows:\n%.500s", c.name, err, shown)
			}
		case err == nil || c.want != "" && !strings.Contains(shown, want):
			t.Errorf("%s (%v), want %s:\n%.500s", c.name, err, want, shown)
		// psql tells the gate's own address.
		case strings.Count(shown, "127.0.0.1") > 1 || strings.ContainsAny(shown, "\x1b\x00") || strings.Contains(shown, "internal error"):
			t.Errorf("%s shows what it should not:\n%.500s", c.name, shown)
		case len(shown) > 4096 && c.name == "verbose":
			t.Errorf("%s shows %d bytes", c.name, len(shown))
		}
	}
}

// readsWhole asks for one row of a gigabyte, by a client that does not keep it.
func (m *machine) readsWhole(t *testing.T, home, target string) {
	t.Helper()
	c, err := pgconn.ParseConfig(strings.Replace(m.conninfo(t, "reader"), "dbname=orders", "dbname="+target, 1) +
		" sslcert=" + filepath.Join(home, "client.crt") + " sslkey=" + filepath.Join(home, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := client.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Conn.Close() //nolint:errcheck // it was read to its end
	_ = raw.Conn.SetDeadline(time.Now().Add(2 * patience))
	text, err := (&pgproto3.Query{String: "SELECT x"}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Conn.Write(text); err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, raw.Conn, int64(len(described)+len(rowHead(oneRow))+oneRow)); err != nil {
		t.Errorf("of a row of a gigabyte come %d bytes: %v", n, err)
	}
	if _, err := raw.Conn.Write([]byte("X\x00\x00\x00\x04")); err != nil {
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, raw.Conn) // until the gate has closed
}
