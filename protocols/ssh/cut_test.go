package ssh_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// atOnce is how soon a cut must have reached the client. The target says 250 ms; a
// loaded machine starts and ends processes slowly, and the bound is for that too.
const atOnce = 2 * time.Second

// kill cuts the live session, and reports how long the client took to end by it.
func (w *world) kill(t *testing.T, c *client) time.Duration {
	t.Helper()
	sam := w.SignIn(t, gatetest.Sam)
	id := w.session(t, "live").ID
	since := time.Now()
	must(t, w.Kill(t.Context(), sam, id, "enough"))
	c.done()
	took := time.Since(since)
	t.Logf("the client ended after %s", took.Round(time.Millisecond))
	if took > atOnce {
		t.Errorf("the cut took %s", took)
	}
	return took
}

// wantCut checks the sentence, the exit status, and the cause on the record.
func (w *world) wantCut(t *testing.T, c *client) {
	t.Helper()
	if !strings.Contains(c.stderr.String()+c.stdout.String(), "sallyport: ") || !strings.Contains(c.stderr.String()+c.stdout.String(), "ended by sam@example.com") {
		t.Errorf("no word of the cut; stdout ends %q, stderr:\n%s", tail(c.stdout.String()), c.stderr)
	}
	if code := c.done(); code != 255 {
		t.Errorf("exit %d", code)
	}
	if r := w.session(t, "ended"); r.Cause != "killed" {
		t.Errorf("cause %q", r.Cause)
	}
}

func tail(s string) string { return s[max(0, len(s)-200):] }

func TestGrantsEndCutsWithWords(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "deploy@web-1@gate", "echo up; exec sleep 1000")...)
	c.stderr.wait(t, "waiting for 1 of: dba")
	w.decide(t, session.Verdict{Yes: true, Duration: 2 * time.Second})
	c.stdout.wait(t, "up\n")
	ends := w.session(t, "live").Ends
	if code := c.done(); code != 255 {
		t.Errorf("exit %d", code)
	}
	if late := time.Since(ends); late < 0 || late > atOnce {
		t.Errorf("cut %s after the end", late)
	} else {
		t.Logf("the client ended %s after the grant", late.Round(time.Millisecond))
	}
	if !strings.Contains(c.stderr.String(), "sallyport: your access to web-1 ended at ") {
		t.Errorf("stderr:\n%s", c.stderr)
	}
	if r := w.session(t, "ended"); r.Cause != "expired" {
		t.Errorf("cause %q", r.Cause)
	}
}

func TestCutEndsTheRemoteProcess(t *testing.T) {
	for _, kind := range []struct {
		name string
		args []string
	}{{"exec", nil}, {"terminal", []string{"-tt"}}} {
		t.Run(kind.name, func(t *testing.T) {
			w := newWorld(t, setup{})
			args := append(append(w.certificate(t, gatetest.Alice), kind.args...), "ops@web-1@gate", "echo pid $$ here; exec sleep 1000")
			c := w.ssh(t, args...)
			pid := c.stdout.wait(t, `pid (\d+) here`)[1]
			w.kill(t, c)
			w.wantCut(t, c)
			gone(t, pid)
		})
	}
}

// gone waits until a process has ended.
func gone(t *testing.T, pid string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the remote process %s lives on: %s", pid, stat)
		}
	}
}

func TestCutInAShell(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-tt", "ops@web-1@gate")...)
	_, err := io.WriteString(c.stdin, "echo pid $$ here\n")
	must(t, err)
	pid := c.stdout.wait(t, `pid (\d+) here`)[1]
	w.kill(t, c)
	w.wantCut(t, c)
	gone(t, pid)
}

func TestCutInTheMiddleOfTransfers(t *testing.T) {
	for _, kind := range []struct {
		name string
		args func(w *world) []string
	}{
		{"download by exec", func(*world) []string { return []string{"ssh", "ops@web-1@gate", "cat /dev/zero"} }},
		{"scp -O up", func(w *world) []string {
			return []string{"scp", "-O", w.sshd.Dir + "/big", "ops@web-1@gate:" + w.sshd.Dir + "/there"}
		}},
		{"scp -O down", func(w *world) []string {
			return []string{"scp", "-O", "ops@web-1@gate:" + w.sshd.Dir + "/big", w.sshd.Dir + "/here"}
		}},
		{"scp up", func(w *world) []string {
			return []string{"scp", w.sshd.Dir + "/big", "ops@web-1@gate:" + w.sshd.Dir + "/there"}
		}},
		{"sftp get", func(w *world) []string {
			return []string{"sftp", "ops@web-1@gate:" + w.sshd.Dir + "/big", w.sshd.Dir + "/here"}
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			w := newWorld(t, setup{})
			big := sparse(t, filepath.Join(w.sshd.Dir, "big"), 4<<30)
			words := kind.args(w)
			args := append([]string{"-F", w.config}, w.certificate(t, gatetest.Alice)...)
			c := w.run(t, words[0], append(args, words[1:]...)...)
			w.busy(t)
			w.kill(t, c)
			if !strings.Contains(c.stderr.String(), "ended by sam@example.com") {
				t.Errorf("no word of the cut: %s", c.stderr)
			}
			if c.done() == 0 {
				t.Error("the client reports success")
			}
			if r := w.session(t, "ended"); r.Cause != "killed" {
				t.Errorf("cause %q", r.Cause)
			}
			must(t, os.Remove(big))
		})
	}
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
	id := w.session(t, "live").ID
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if r, err := w.Recordings.Read(id); err == nil {
			begun := 0
			for line, err := range r.Lines(ctx) {
				if err == nil && line.Kind == "query" && !strings.Contains(string(line.Raw), `"sftp"`) || strings.Contains(string(line.Raw), "big") || strings.Contains(string(line.Raw), "there") {
					begun++
				}
			}
			if begun > 0 {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("nothing began")
		}
	}
}

func TestCutClosesForwards(t *testing.T) {
	echo := echoServer(t)
	w := newWorld(t, setup{forward: echo})
	local := listenNowhere(t)
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-v", "-N", "-L", local+":"+echo, "tunnel@web-1@gate")...)
	c.stderr.wait(t, "Entering interactive session")
	conn, err := net.Dial("tcp", local)
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "hello")
	must(t, err)
	got := make([]byte, 5)
	_, err = io.ReadFull(conn, got)
	must(t, err)
	if string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	w.kill(t, c)
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := conn.Read(got); err == nil {
		t.Error("the forward lives on")
	}
	list := w.recorded(t)
	if !said(list, "query", "forward", echo) || !said(list, "note", "ended by sam@example.com") {
		t.Errorf("recorded: %+v", list)
	}
}

func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
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
	return l.Addr().String()
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
	if took := time.Since(since); took > atOnce {
		t.Errorf("a client that does not read kept its session for %s", took)
	}
	must(t, c.cmd.Process.Signal(syscall.SIGCONT))
}
