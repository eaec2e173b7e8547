package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/audit"
)

// onePage is the smallest pipe that there is.
const onePage = 4096

// A deafPipe is one whose reader does not read until it is asked to.
type deafPipe struct{ r, w *os.File }

func newDeafPipe(t *testing.T) deafPipe {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, onePage); err != nil {
		t.Fatal(err)
	}
	return deafPipe{r, w}
}

// waits is how much nobody has read.
func (p deafPipe) waits(t *testing.T) int {
	t.Helper()
	conn, err := p.r.SyscallConn() // Fd would take the deadlines away
	if err != nil {
		t.Fatal(err)
	}
	n, failed := 0, error(nil)
	if err := conn.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return n
}

// reads takes what comes until there is want in it, and so many bytes.
func (p deafPipe) reads(t *testing.T, want string, bytes int) string {
	t.Helper()
	if err := p.r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for block := make([]byte, 64<<10); !strings.Contains(got.String(), want) || got.Len() < bytes; {
		n, err := p.r.Read(block)
		if err != nil {
			t.Fatalf("%v; no %q in %d bytes, or not %d:\n%s", err, want, got.Len(), bytes, tail(got.String(), 20))
		}
		got.Write(block[:n])
	}
	return got.String()
}

// Class: recorder or logger fails open. Collectors of the log's entries and of what the
// gate says, at the other end of its stdout and stderr, that do not read, and then are
// gone: nothing waits for them, and nothing ends.
func TestCollectorsThatDoNotRead(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.edit(t, m.config, "\naudit {\n", "\naudit {\n  mirror = \"stdout\"\n")
	m.release(t)
	lines, said := newDeafPipe(t), newDeafPipe(t)
	m.start(t, lines.w, said.w, "--debug")
	for _, p := range []deafPipe{lines, said} {
		_ = p.w.Close() // the gate has its own
	}
	anybody := m.browser(t, "anybody")
	eventually(t, "the gate to be ready", func() bool {
		answer, err := anybody.http.Get(m.Web + "/readyz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	makesLines := func() {
		t.Helper()
		m.signedIn(t, "bob@example.com")
		conn, err := net.Dial("tcp", m.Postgres)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	eventually(t, "both pipes to be full", func() bool {
		makesLines()
		return lines.waits(t) > onePage/2 && said.waits(t) > onePage-200 // an entry may be long
	})

	revoked := func(term *terminal) {
		t.Helper()
		sam, took := m.signedIn(t, "sam@example.com"), stopwatch()
		if status, text := sam.api(t, http.MethodPost, "/api/v1/grants/"+m.activeGrant(t).ID+"/revoke", map[string]string{"why": "enough"}); status != http.StatusOK {
			t.Fatalf("revoke: %d %s", status, text)
		}
		if shown, err := term.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: ") || !strings.Contains(shown, "revoked") || took() > 5*time.Second {
			t.Errorf("revoked, after %v (%v) it shows:\n%s", took(), err, shown)
		}
		sam.live(t, 0)
	}
	term, _ := m.opened(t, "20m", "-c", "SELECT 'rows: ' || count(*) FROM generate_series(1, 500)", "-c", "SELECT pg_sleep(600)")
	term.says(t, "rows: 500")
	revoked(term)
	// More than a pipe holds: it was waited for.
	lines.reads(t, audit.GrantRevoked, onePage+1)
	said.reads(t, "the gate is open", onePage+1)

	// Gone, while somebody is at work.
	term, _ = m.opened(t, "20m")
	term.types(t, "SELECT 'before ' || 'it';")
	term.says(t, "before it")
	for _, p := range []deafPipe{lines, said} {
		if err := p.r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		makesLines()
	}
	term.types(t, "SELECT 'after ' || 'it';")
	term.says(t, "after it")
	term.types(t, "SELECT pg_sleep(600);")
	revoked(term)
	again, _ := m.opened(t, "20m", "-c", "SELECT 'served again'")
	if shown, err := again.ends(t); err != nil || !strings.Contains(shown, "served again") {
		t.Errorf("a new session (%v) shows:\n%s", err, shown)
	}
	if err := m.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	m.verifies(t)
}

// The last word of a gate that does not start is for a pipe that nobody reads: it ends all
// the same, so that whoever watches over it can start another.
func TestLastWordThatNobodyReads(t *testing.T) {
	t.Parallel()
	m := &machine{demo: &demo{log: &output{}}, config: filepath.Join(t.TempDir(), "none.hcl")}
	said := newDeafPipe(t)
	if _, err := said.w.Write(make([]byte, onePage)); err != nil {
		t.Fatal(err)
	}
	m.start(t, io.Discard, said.w)
	select {
	case <-m.ended:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if code := m.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit status %d", code)
	}
}

// A collector that is gone and comes back gets what came meanwhile by a named pipe, and
// the gate's start does not wait for it.
func TestCollectorAtANamedPipe(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	fifo := filepath.Join(t.TempDir(), "entries")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	m.edit(t, m.config, "\naudit {\n", "\naudit {\n  mirror = \"file:"+fifo+"\"\n")
	m.release(t)
	m.serve(t)
	alice := m.signedIn(t, "alice@example.com")
	index := int64(-1)
	for range 2 {
		if _, err := alice.askAndWithdraw(); err != nil {
			t.Fatal(err)
		}
		r, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		p := deafPipe{r: r}
		for line := range strings.Lines(p.reads(t, audit.RequestWithdrawn, 0)) {
			var e struct{ Index int64 }
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Index != index+1 {
				t.Fatalf("%v, after entry %d comes %s", err, index, line)
			}
			index = e.Index
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}
