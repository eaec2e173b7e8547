package ssh_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
)

// transfer starts a program with the places in its words filled in.
func (w *world) transfer(t *testing.T, words []string, local string) *client {
	t.Helper()
	sparse(t, filepath.Join(w.sshd.Dir, "big"), 4<<30)
	args := append([]string{"-F", w.config}, w.certificate(t, gatetest.Alice)...)
	for _, word := range words[1:] {
		args = append(args, strings.NewReplacer("BIG", w.sshd.Dir+"/big", "THERE", w.sshd.Dir+"/there", "HERE", w.sshd.Dir+"/here", "LOCAL", local).Replace(word))
	}
	return w.run(t, words[0], args...)
}

// A program that takes no SIGHUP cannot be ended through sshd; somebody has to know.
func TestProgramThatRunsOnIsAnAlarm(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@web-1@gate", "trap '' HUP; echo pid $$ here; exec sleep 1000")...)
	pid, err := strconv.Atoi(c.stdout.wait(t, `pid (\d+) here`)[1])
	must(t, err)
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) }) // gone is fine
	must(t, w.Kill(t.Context(), w.SignIn(t, gatetest.Sam), w.session(t, "live").ID, "enough"))
	c.done()
	w.wantCut(t, c, "ended by sam@example.com", "killed")
	until(t, "an alarm", func() bool { return w.Count(t, audit.SessionAlarm) == 1 })
}

// sparse makes a big file that takes no room.
func sparse(t *testing.T, path string, size int64) string {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	must(t, f.Truncate(size))
	must(t, f.Close())
	return path
}

// busy waits until the live session's recording tells of something that has begun.
func (w *world) busy(t *testing.T) {
	t.Helper()
	w.tells(t, w.session(t, "live").ID, "anything", func(line audit.Line) bool {
		text := string(line.Raw)
		return line.Kind == "query" && !strings.Contains(text, `"sftp"`) || strings.Contains(text, "big") || strings.Contains(text, "there")
	})
}

// tells waits until a line of the session's recording is what is waited for.
func (w *world) tells(t *testing.T, id, what string, is func(audit.Line) bool) {
	t.Helper()
	until(t, what+" on the record", func() bool {
		r, err := w.Recordings.Read(id)
		if err != nil {
			return false // nothing is written yet
		}
		for line, err := range r.Lines(t.Context()) {
			if err == nil && is(line) {
				return true
			}
		}
		return false
	})
}

// until waits until it is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	echoes(t, l)
	return l.Addr().String()
}

// echoes sends back what comes, until the test ends.
func echoes(t *testing.T, l net.Listener) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() }) // closed once
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn) // until the client goes
				_ = conn.Close()
			}()
		}
	}()
}

func listenNowhere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return fmt.Sprint(l.Addr())
}

func TestSlowReaderCannotHoldTheCut(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@web-1@gate", "cat /dev/zero")...)
	w.busy(t)
	id := w.session(t, "live").ID
	must(t, c.cmd.Process.Signal(syscall.SIGSTOP))
	since := time.Now()
	must(t, w.Kill(t.Context(), w.SignIn(t, gatetest.Sam), id, "enough"))
	w.session(t, "ended")
	if took := time.Since(since); took > 2*time.Second { // lastProcess, and a slow machine
		t.Errorf("a client that does not read kept its session for %s", took)
	}
	must(t, c.cmd.Process.Signal(syscall.SIGCONT))
}

// wantCut checks the sentence, the exit status, and the cause on the record.
func (w *world) wantCut(t *testing.T, c *client, words, cause string) {
	t.Helper()
	if said := c.stderr.String() + c.stdout.String(); !strings.Contains(said, "sallyport: ") || !strings.Contains(said, words) {
		t.Errorf("no word of the cut; stdout ends %q, stderr:\n%s", tail(c.stdout.String()), c.stderr)
	}
	if code := c.done(); code == 0 {
		t.Error("the client reports success")
	}
	if r := w.session(t, "ended"); r.Cause != cause {
		t.Errorf("cause %q", r.Cause)
	}
}

func tail(s string) string { return s[max(0, len(s)-200):] }
