package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/proxy"
)

var (
	record = flag.Bool("record", false, "speak to a real PostgreSQL, and write testdata/transcripts anew")
	update = flag.Bool("update", false, "write what is recorded of the transcripts anew")
)

// A transcript is what a stock client and a real PostgreSQL said to each other: the
// startup message, then what went either way, in order ('>' to the target, '<' back).
type transcript struct {
	startup []byte
	said    []said
}

type said struct {
	way   byte
	bytes []byte
}

func readTranscript(t testing.TB, path string) transcript {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tr transcript
	for line := range strings.Lines(string(text)) {
		word, quoted, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		raw, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatalf("%s: %v in %q", path, err, line)
		}
		if word == "startup" {
			tr.startup = []byte(raw)
			continue
		}
		tr.said = append(tr.said, said{word[0], []byte(raw)})
	}
	return tr
}

func (tr transcript) write(t testing.TB, path string) {
	t.Helper()
	text := fmt.Appendf(nil, "startup %q\n", tr.startup)
	for _, s := range tr.said {
		text = fmt.Appendf(text, "%c %q\n", s.way, s.bytes)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// fromTranscripts is what went one way in each of the transcripts.
func fromTranscripts(t testing.TB, way byte) (all [][]byte) {
	t.Helper()
	paths, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		var p []byte
		for _, s := range readTranscript(t, path).said {
			if s.way == way {
				p = append(p, s.bytes...)
			}
		}
		all = append(all, p)
	}
	return all
}

// A feeder shows an observer what comes, and keeps what it holds back for the next run.
type feeder struct {
	o            proxy.Observer
	held, passed []byte
}

func (f *feeder) feed(t testing.TB, p []byte, cut func() int) {
	t.Helper()
	for len(p) > 0 {
		n := min(cut(), len(p))
		run := slices.Concat(f.held, p[:n])
		p = p[n:]
		verdict, err := f.o.Observe(run)
		if err != nil {
			t.Fatal(err)
		}
		keep := 0
		if verdict == proxy.Hold {
			keep = min(f.o.Tail(), len(run))
		}
		f.passed = append(f.passed, run[:len(run)-keep]...)
		f.held = run[len(run)-keep:]
	}
}

// What stock clients say is let in, passes unchanged wherever the network cuts it, and is
// recorded as it stands beside the transcript.
func TestTranscripts(t *testing.T) {
	if *record {
		recordTranscripts(t)
	}
	all, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(all) < 3 {
		t.Fatalf("%d transcripts, %v", len(all), err)
	}
	for _, path := range all {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			tr := readTranscript(t, path)
			s, err := parseStartup(tr.startup, anyTarget)
			if err != nil || s.ask.Target != "orders" || s.ask.Role == "" {
				t.Fatalf("the startup is read as %+v, %v", s, err)
			}
			random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's choice
			var once []string
			for i, cut := range []func() int{whole, func() int { return 1 }, func() int { return 1 + random.IntN(40) }} {
				k := newTalk(t)
				sides := map[byte]*feeder{'>': {o: k.up}, '<': {o: k.dn}}
				want := map[byte][]byte{}
				for _, s := range tr.said {
					want[s.way] = append(want[s.way], s.bytes...)
					sides[s.way].feed(t, s.bytes, cut)
				}
				for way, f := range sides {
					if !bytes.Equal(f.passed, want[way]) {
						t.Fatalf("cut %d, %c: %d bytes pass, %d are held, of %d", i, way, len(f.passed), len(f.held), len(want[way]))
					}
				}
				if i == 0 {
					golden(t, strings.TrimSuffix(path, ".txt")+".record", strings.Join(k.k.lines, "\n")+"\n")
					once = answers(k.k.lines)
				}
				if got := answers(k.k.lines); !slices.Equal(got, once) {
					t.Errorf("cut %d: the answers recorded are %q, want %q", i, got, once)
				}
			}
		})
	}
}

// answers are the lines of the target's answers, without their numbers: a bind that goes
// on before its execute has come has a line of its own.
func answers(lines []string) (all []string) {
	for _, line := range lines {
		if _, rest, _ := strings.Cut(line, " "); strings.HasPrefix(rest, "done ") {
			all = append(all, rest)
		}
	}
	return all
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update || *record {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("recorded is\n%swant\n%s", got, want)
	}
}

// recordTranscripts has the clients of this machine speak to a real PostgreSQL.
func recordTranscripts(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll("testdata/transcripts", 0o755); err != nil {
		t.Fatal(err)
	}
	psql := func(script string) func(*testing.T, string) {
		return func(t *testing.T, dsn string) {
			t.Helper()
			cmd := exec.Command("psql", "-X", "-q", dsn)
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("psql: %v\n%s", err, out)
			}
		}
	}
	for name, client := range map[string]func(*testing.T, string){
		"psql-simple": psql("SELECT id, name FROM customers WHERE id < 4 ORDER BY id;\nSELECT 1/0;\nSELECT 'a'\\; SELECT 'b'\\; SELECT 'c';\n;\nSET client_min_messages = debug1;\n\\d customers\n"),
		"psql-copy": psql("COPY (SELECT * FROM customers WHERE id < 6) TO STDOUT;\nCOPY ledger (note) FROM STDIN;\nfirst\nsecond\n\\.\nCOPY ledger (id) FROM STDIN;\nno number\n\\.\n" +
			"BEGIN;\nDECLARE c CURSOR FOR SELECT id FROM customers ORDER BY id;\nFETCH 3 FROM c;\nROLLBACK;\nLISTEN news;\nNOTIFY news, 'word';\nSELECT 1;\n\\lo_import testdata/transcripts/large\nSELECT lo_unlink(max(oid)) FROM pg_largeobject_metadata;\n"),
		"pgx-extended": pgxSession,
		"psycopg2": func(t *testing.T, dsn string) {
			t.Helper()
			const program = `
import os, psycopg2
conn = psycopg2.connect(os.environ["DSN"])
with conn, conn.cursor() as cur:
    cur.execute("SELECT name FROM customers WHERE id = %s", (7,))
    cur.fetchall()
    cur.executemany("INSERT INTO ledger (note) VALUES (%s)", [("x",), ("y'z",)])
with conn, conn.cursor("server_side") as cur:
    cur.itersize = 4
    cur.execute("SELECT id FROM customers WHERE id < 10")
    list(cur)
conn.close()
`
			cmd := exec.Command("/usr/bin/python3", "-c", program)
			cmd.Env = append(os.Environ(), "DSN="+dsn)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("psycopg2: %v\n%s", err, out)
			}
		},
	} {
		if err := os.WriteFile("testdata/transcripts/large", []byte("a large object, small"), 0o644); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		recording := startRecording(t, filepath.Join(dir, ".s.PGSQL.5432"))
		client(t, "host="+dir+" user=writer dbname=orders application_name="+name)
		recording.end(t).write(t, "testdata/transcripts/"+name+".txt")
		if err := os.Remove("testdata/transcripts/large"); err != nil {
			t.Fatal(err)
		}
	}
}

func pgxSession(t *testing.T, dsn string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Prepare(ctx, "byid", "SELECT name FROM customers WHERE id = $1", nil); err != nil {
		t.Fatal(err)
	}
	conn.ExecPrepared(ctx, "byid", [][]byte{[]byte("3")}, nil, []int16{1}).Read()
	conn.ExecParams(ctx, "SELECT $1::text, $2::bytea", [][]byte{nil, {0, 255}}, nil, []int16{0, 1}, nil).Read()
	conn.ExecParams(ctx, "SELECT 1/$1::int", [][]byte{[]byte("0")}, nil, nil, nil).Read()
	p := conn.StartPipeline(ctx)
	p.SendQueryPrepared("byid", [][]byte{[]byte("4")}, nil, nil)
	p.SendQueryParams("INSERT INTO ledger (note) VALUES ($1)", [][]byte{[]byte("piped")}, nil, nil, nil)
	p.SendDeallocate("byid")
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.CopyTo(ctx, io.Discard, "COPY (SELECT id FROM customers WHERE id < 5) TO STDOUT (FORMAT binary)"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.CopyFrom(ctx, strings.NewReader("one\ntwo\n"), "COPY ledger (note) FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// A recording stands between one client and the server, on unix sockets.
type recording struct {
	listener net.Listener
	done     chan error

	mu sync.Mutex
	transcript
}

func startRecording(t *testing.T, path string) *recording {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{listener: l, done: make(chan error, 1)}
	socket := pgtest.Start(t).Socket
	go func() { r.done <- r.serve(socket) }()
	return r
}

func (r *recording) end(t *testing.T) transcript {
	t.Helper()
	defer r.listener.Close()
	select {
	case err := <-r.done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the client does not hang up")
	}
	return r.transcript
}

func (r *recording) serve(socket string) error {
	client, err := r.listener.Accept()
	if err != nil {
		return err
	}
	defer client.Close()
	target, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer target.Close()
	var head [4]byte
	if _, err := io.ReadFull(client, head[:]); err != nil {
		return err
	}
	r.startup = make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(client, r.startup); err != nil {
		return err
	}
	if _, err := target.Write(slices.Concat(head[:], r.startup)); err != nil {
		return err
	}
	srv := &server{conn: target}
	for kind := byte(0); kind != 'Z'; {
		var body []byte
		if kind, body, err = srv.receive(); err != nil {
			return err
		}
		if _, err := client.Write(appendMessage(nil, kind, body)); err != nil {
			return err
		}
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(client, io.TeeReader(target, way{r, '<'})) // ends with the target
	}()
	_, _ = io.Copy(target, io.TeeReader(client, way{r, '>'})) // ends with the client
	<-back
	return nil
}

// way writes what goes one way into the transcript.
type way struct {
	r  *recording
	to byte
}

func (w way) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	if n := len(w.r.said); n > 0 && w.r.said[n-1].way == w.to {
		w.r.said[n-1].bytes = append(w.r.said[n-1].bytes, p...)
	} else {
		w.r.said = append(w.r.said, said{w.to, bytes.Clone(p)})
	}
	return len(p), nil
}
