package ssh_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
)

// What OpenSSH's client asks for beside shells, commands and ports.

func TestSocketsAreForwarded(t *testing.T) {
	w := newWorld(t, setup{})
	echo, far := filepath.Join(w.sshd.Dir, "echo"), filepath.Join(w.sshd.Dir, "far")
	l, err := net.Listen("unix", echo)
	must(t, err)
	must(t, os.Chmod(echo, 0o777)) // it is another account's sshd that connects
	echoes(t, l)
	local, near := listenNowhere(t), echoServer(t)
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-v", "-N", "-L", local+":"+echo, "-R", far+":"+near, "ops@web-1@gate")...)
	c.stderr.wait(t, "remote forward success")
	for _, at := range [][2]string{{"tcp", local}, {"unix", far}} {
		conn, err := net.Dial(at[0], at[1])
		must(t, err)
		_, err = io.WriteString(conn, "hello")
		must(t, err)
		got := make([]byte, 5)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
			t.Errorf("%s: %q, %v", at[1], got, err)
		}
		must(t, conn.Close())
	}
	id := w.session(t, "live").ID
	for _, kind := range []string{"forward", "back"} {
		w.tells(t, id, "the end of "+kind, func(line audit.Line) bool {
			done, ok := line.Track.(audit.QueryDone)
			return ok && done.Tag == "closed" && done.Bytes == 10
		})
	}
	must(t, c.cmd.Process.Kill())
	if list := w.recorded(t); !said(list, "query", "forward", echo) || !said(list, "query", "listen", far) || !said(list, "query", "back", far) {
		t.Errorf("recorded: %+v", list)
	}
}

// Typed to OpenSSH's client: its escape for a break.
func TestBreakReachesTheTarget(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-tt", "ops@web-1@gate", "echo up; read a; read b; echo behind it")...)
	c.stdout.wait(t, "up")
	_, err := io.WriteString(c.stdin, "\n~B")
	must(t, err)
	w.tells(t, w.session(t, "live").ID, "the break", func(line audit.Line) bool {
		note, ok := line.Track.(audit.Note)
		return ok && note.Text == "channel 1: break"
	})
	_, err = io.WriteString(c.stdin, "\n")
	must(t, err)
	c.stdout.wait(t, "behind it")
	if code := c.done(); code != 0 {
		t.Errorf("exit %d: %s", code, c.stderr)
	}
}

func TestDeathBySignalIsPassedOn(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@web-1@gate", "echo up; kill -TERM $$")...)
	if code := c.done(); code != 255 || c.stdout.String() != "up\n" {
		t.Errorf("exit %d, stdout %q", code, c.stdout)
	}
	if list := w.recorded(t); !said(list, "done", "signal TERM") {
		t.Errorf("recorded: %+v", list)
	}
}

// The agent is a way back into the user's machine: open where the scope names it, and
// every use of it is on the record.
func TestAgentIsLentWhereTheScopeSaysSo(t *testing.T) {
	w := newWorld(t, setup{})
	socket := filepath.Join(t.TempDir(), "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	must(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() }) // ended by the signal, which it says
	until(t, "the agent", func() bool { _, err := os.Stat(socket); return err == nil })
	lend := append([]string{"SSH_AUTH_SOCK=" + socket, "ssh", "-F", w.config, "-A"}, w.certificate(t, gatetest.Alice)...)
	c := w.run(t, "env", append(lend, "lender@web-1@gate", "ssh-add -l")...)
	if code := c.done(); code != 1 || !strings.Contains(c.stdout.String(), "The agent has no identities") {
		t.Errorf("exit %d, stdout %q, stderr:\n%s", code, c.stdout, c.stderr)
	}
	if list := w.recorded(t); !said(list, "note", "agent forwarding was asked for") || !said(list, "query", "back", "the client's agent") {
		t.Errorf("recorded: %+v", list)
	}
	c = w.run(t, "env", append(lend, "ops@web-1@gate", "echo agent:$SSH_AUTH_SOCK")...)
	if c.done() != 0 || c.stdout.String() != "agent:\n" {
		t.Errorf("a scope that does not name it: stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
}

// Keys are exchanged anew on each side by itself, while data flows both ways; and always
// in the strict order by which nothing can be dropped (Terrapin).
func TestBothSidesRekeyStrictly(t *testing.T) {
	w := newWorld(t, setup{sshd: []string{"RekeyLimit 256K", "LogLevel DEBUG3"}})
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data) // never fails
	path := filepath.Join(w.dir, "data")
	must(t, os.WriteFile(path, data, 0o600))
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-vvv", "-o", "RekeyLimit=256K", "ops@web-1@gate", "cat")...)
	go func() {
		_, _ = io.Copy(c.stdin, bytes.NewReader(data)) // what did not arrive does not come back
		_ = c.stdin.Close()
	}()
	if code := c.done(); code != 0 || c.stdout.String() != string(data) {
		t.Fatalf("exit %d, %d bytes of %d came back", code, len(c.stdout.String()), len(data))
	}
	for side, log := range map[string]string{"OpenSSH": c.stderr.String(), "sshd": w.sshd.Log()} {
		if n := strings.Count(log, "SSH2_MSG_NEWKEYS sent"); n < 3 {
			t.Errorf("%s exchanged keys %d times", side, n)
		}
		if !strings.Contains(log, "will use strict KEX ordering") {
			t.Errorf("%s saw no strict key exchange", side)
		}
	}
}

// Input is recorded only where the policy asks for it.
func TestTypedWordsAreNotRecordedUnasked(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-tt", "-e", "none", "ops@bulk@gate", "echo up; read a; echo got $a")...)
	c.stdout.wait(t, "up")
	_, err := fmt.Fprint(c.stdin, "wonderland\n")
	must(t, err)
	if c.done() != 0 || !strings.Contains(c.stdout.String(), "got wonderland") {
		t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
	for _, line := range w.recorded(t) {
		if e, ok := line.Track.(audit.Terminal); ok && e.Code == "i" {
			t.Errorf("input is on the record: %s", line.Raw)
		}
	}
}
