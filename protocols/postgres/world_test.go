package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// worldSocket makes this test binary a small world, which serves at the socket that it
// names.
const worldSocket = "SALLYPORT_TEST_WORLD"

// A world is a process of its own with a small server, and with the clients of the gate
// in front of it: a gate with thousands of sessions has no file descriptors left for
// their other ends.
type world struct {
	say  *json.Encoder
	hear *json.Decoder
}

// What a world is told, and its answers, one to each.
type (
	worldOpens struct {
		DSN   string
		Count int
	}
	worldSays struct {
		Err     string
		Endings []ending
		Live    int
	}
)

// newWorld starts one, until the test ends.
func newWorld(t testing.TB) (*world, *pgtest.Server) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), ".s.PGSQL.5432")
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), worldSocket+"="+socket), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // its end
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	w := &world{json.NewEncoder(in), json.NewDecoder(out)}
	w.hears(t)
	_, ca := serverTLS(t)
	return w, &pgtest.Server{Host: "127.0.0.1", Port: 1, Socket: socket, CA: ca}
}

func (w *world) says(t testing.TB, what any) {
	t.Helper()
	if err := w.say.Encode(what); err != nil {
		t.Fatal(err)
	}
}

func (w *world) hears(t testing.TB) (said worldSays) {
	t.Helper()
	if err := w.hear.Decode(&said); err != nil || said.Err != "" {
		t.Fatalf("%v: %.500s", err, said.Err)
	}
	return said
}

// runWorld is the process: it says when it serves; opens sessions and says so; then has them
// at work, and says how they ended; and once asked how many backends live.
func runWorld(socket string) int {
	say, hear := json.NewEncoder(os.Stdout), json.NewDecoder(os.Stdin)
	err := func() error {
		s, err := newSmall(socket)
		if err != nil {
			return err
		}
		defer s.close()
		var opens worldOpens
		if err := errors.Join(say.Encode(worldSays{}), hear.Decode(&opens)); err != nil {
			return err
		}
		conns, err := openAll(opens.DSN, opens.Count)
		if err != nil {
			return err
		}
		if err := say.Encode(worldSays{}); err != nil {
			return err
		}
		if err := errors.Join(say.Encode(worldSays{Endings: useAll(conns)}), hear.Decode(new(struct{}))); err != nil {
			return err
		}
		if err := say.Encode(worldSays{Live: s.live()}); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, os.Stdin) // until the test ends
		return err
	}()
	if err != nil {
		_ = say.Encode(worldSays{Err: err.Error()}) // the test may have ended
		return 1
	}
	return 0
}

// useAll does a tenth of each kind of work on the connections, and idles on the others.
func useAll(conns []net.Conn) []ending {
	endings := make([]ending, len(conns))
	var wg sync.WaitGroup
	for i, conn := range conns {
		work := ""
		switch i % 10 {
		case 0:
			work = streaming
		case 1:
			work = "select pg_sleep(600)"
		}
		wg.Go(func() { endings[i] = use(conn, work) })
	}
	wg.Wait()
	return endings
}

// ending is how a client saw its session end.
type ending struct {
	Told  time.Time // the gate's FATAL came
	Row   time.Time // the last byte of rows came
	Fatal string
	Err   string // instead of the end of the stream
}

// use does one kind of work on a connection until it ends: rows without end, a
// query that sleeps, or nothing.
func use(conn net.Conn, work string) (e ending) {
	front := pgproto3.NewFrontend(conn, conn)
	if work != "" {
		front.Send(&pgproto3.Query{String: work})
		if err := front.Flush(); err != nil {
			e.Err = err.Error()
			return e
		}
	}
	for {
		m, err := front.Receive()
		now := time.Now()
		switch m := m.(type) {
		case *pgproto3.CopyData:
			e.Row = now
		case *pgproto3.ErrorResponse:
			if m.Severity == "FATAL" {
				e.Told, e.Fatal = now, m.Message
			}
		}
		if errors.Is(err, io.ErrUnexpectedEOF) { // the Frontend's word for the end
			return e
		}
		if err != nil {
			e.Err = err.Error()
			return e
		}
	}
}

func openAll(dsn string, n int) ([]net.Conn, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	conns := make([]net.Conn, n)
	errs := make([]error, n)
	slots := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for i := range conns {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var c *pgconn.PgConn
			if c, errs[i] = pgconn.ConnectConfig(context.Background(), config); errs[i] == nil {
				conns[i] = c.Conn()
			}
		})
	}
	wg.Wait()
	return conns, errors.Join(errs...)
}

// streaming sends one row each tenth of a second, each as long as the buffer that
// PostgreSQL fills before it sends (PQ_SEND_BUFFER_SIZE): the client stands between
// two messages. The first row makes room for the CopyOutResponse.
const streaming = `copy (select repeat('x', case i when 1 then 8176 else 8186 - length(pg_sleep(0.1)::text) end) from generate_series(1, 100000) i) to stdout`
