package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limitFiles sets how many more files the gate may open than it has now.
func (d *demo) limitFiles(t *testing.T, more int) {
	t.Helper()
	used, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = uint64(len(used) + more) //nolint:gosec // a number of files
	if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
}

// A gate that is about to have no file descriptor left turns new connections away, says so,
// goes on with what it has, writes its log, cuts, and serves again once there are some.
func TestFileDescriptorsAtTheirLimit(t *testing.T) {
	t.Parallel()
	d := ownDemo(t)
	term, _ := d.opened(t, "20m", "-c", "SELECT 'before'", "-c", "SELECT pg_sleep(600)")
	term.says(t, "before")
	token := d.token(t)
	shell, asked := d.sshOpened(t, "20m", "-T", "echo before; sleep 600")
	shell.says(t, "before")
	held := d.psql(t, "writer", nil, "-c", "SELECT 1")
	link, phrase := held.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, map[string]string{"ticket": "OPS-1"})
	bob, carol, sam := d.signedIn(t, "bob@example.com"), d.signedIn(t, "carol@example.com"), d.signedIn(t, "sam@example.com")
	r := bob.pending(t, "alice@example.com")
	bob.decide(t, r.ID, "yes", nil)

	// Not enough is left for a session, whose connection is there already.
	d.limitFiles(t, 2)
	if status, text := carol.api(t, http.MethodPost, "/api/v1/requests/"+r.ID+"/approve", nil); status != http.StatusOK {
		t.Errorf("approve: %d %s", status, text)
	}
	if shown, err := held.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: the gate has too many open files now; try again in a moment") {
		t.Errorf("approved when files are short (%v) it shows:\n%s", err, shown)
	}

	// A crowd takes what is left.
	d.limitFiles(t, 20)
	_, port, err := net.SplitHostPort(d.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	var crowd []net.Conn
	eventually(t, "who comes to be turned away", func() bool { // something that was closing may have left room for one more
		for range 60 {
			if conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil { // some are turned away at once
				crowd = append(crowd, conn)
			}
		}
		_, err := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 1").ends(t)
		return err != nil
	})
	eventually(t, "the gate to say that files are short", func() bool { return strings.Contains(d.log.String(), `cap="open files"`) })
	short := time.Now()
	took := stopwatch()
	for _, s := range sam.live(t, 2) {
		if s.Request != asked.ID {
			continue
		}
		if status, text := sam.api(t, http.MethodPost, "/api/v1/sessions/"+s.ID+"/kill", map[string]string{"why": "files are short"}); status != http.StatusOK {
			t.Errorf("kill: %d %s", status, text)
		}
	}
	if shown, err := shell.ends(t); err == nil || !strings.Contains(shown, "this session was ended by sam@example.com: files are short") || took() > 5*time.Second {
		t.Errorf("cut after %v (%v) it shows:\n%s", took(), err, shown)
	}
	eventually(t, "the log to be published meanwhile", func() bool { // by the sign of life, which comes every ten seconds
		info, err := os.Stat(filepath.Join(d.Dir, "audit", "checkpoint"))
		return err == nil && info.ModTime().After(short.Add(5*time.Second))
	})
	select {
	case <-d.ended:
		t.Fatalf("the gate ended: %v", d.err)
	case <-term.ended:
		t.Fatalf("a live session ended: %s", term.out)
	default:
	}
	for _, conn := range crowd {
		_ = conn.Close()
	}
	eventually(t, "the gate to serve again", func() bool {
		shown, err := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'served again'").ends(t)
		return err == nil && strings.Contains(shown, "served again")
	})
	sam.live(t, 1)
	d.verifies(t)
}

// A gate that slept over the end of a grant (a stopped process, a suspended machine) cuts
// as soon as it wakes, on one processor too; a grant's length does not count from then.
func TestGateThatSleptOverTheEnd(t *testing.T) {
	t.Setenv("GOMAXPROCS", "1")
	d := ownDemo(t)
	term, _ := d.opened(t, "8s", "-c", "SELECT 'before'", "-c", "SELECT pg_sleep(600)")
	term.says(t, "before")
	ends := d.activeGrant(t).Ends
	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Until(ends.Add(2 * time.Second)))
	took := stopwatch()
	if err := d.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	shown, err := term.ends(t)
	if err == nil || !strings.Contains(shown, cutText) || took() > 5*time.Second {
		t.Errorf("after %v (%v) it shows:\n%s", took(), err, shown)
	}
	eventually(t, "the backend to be gone", func() bool { return d.backends(t, "reader") == 0 })
	d.verifies(t)
}
