package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A gate that has no file descriptor left goes on with what it has, says so, and serves
// again once there are some.
func TestFileDescriptorsAtTheirLimit(t *testing.T) {
	t.Parallel()
	d := ownDemo(t)
	term, _ := d.opened(t, "20m", "-c", "SELECT 'before'", "-c", "SELECT pg_sleep(600)")
	term.says(t, "before")
	token := d.token(t)
	sam := d.signedIn(t, "sam@example.com")
	used, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = uint64(len(used)) + 20
	if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(d.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	var crowd []net.Conn
	for range 60 {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, conn)
	}
	eventually(t, "the gate to say that it has no descriptor left", func() bool { return strings.Contains(d.log.String(), "too many open files") })
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
	if shown, err := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'served again'").ends(t); err != nil || !strings.Contains(shown, "served again") {
		t.Errorf("(%v) it shows:\n%s", err, shown)
	}
	sam.live(t, 1)
	if out := d.verify(t); !strings.HasPrefix(out, "verified: ") {
		t.Errorf("verify says %s", out)
	}
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
}
