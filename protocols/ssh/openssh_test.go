package ssh_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/protocols/ssh"
	"github.com/sallyport/sallyport/session"
)

func TestOpenSSHIsHeldApprovedForwardedAndRecorded(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, "deploy@web-1@gate", "echo hello; echo oops >&2; exit 7")
	w.confirm(t, c, w.SignIn(t, gatetest.Alice), "INC-7")
	c.stderr.wait(t, `sallyport: signed in as alice@example.com; waiting for 1 of: dba`)
	if log := w.sshd.Log(); strings.Contains(log, "Connection from") {
		t.Fatalf("the target was reached before the yes:\n%s", log)
	}
	w.decide(t, session.Verdict{Yes: true})
	if code := c.done(); code != 7 || c.stdout.String() != "hello\n" {
		t.Fatalf("exit %d, stdout %q, stderr:\n%s\nsshd:\n%s", code, c.stdout, c.stderr, w.sshd.Log())
	}
	if !strings.Contains(c.stderr.String(), "approved by bob@example.com until") || !strings.HasSuffix(c.stderr.String(), "oops\n") {
		t.Errorf("stderr:\n%s", c.stderr)
	}
	list := w.recorded(t)
	if got := played(list, "channel 1"); got != "hello\n" {
		t.Errorf("the recording plays %q", got)
	}
	if got := played(list, "channel 1 stderr"); got != "oops\n" {
		t.Errorf("the recording of stderr plays %q", got)
	}
	if !said(list, "query", "exec", "echo hello") || !said(list, "done", "7") {
		t.Errorf("recorded: %+v", list)
	}
	w.Verify(t)
}

func TestDenialIsSaidAndAskedOnce(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, "deploy@web-1@gate", "true")
	w.confirm(t, c, w.SignIn(t, gatetest.Alice), "INC-7")
	w.decide(t, session.Verdict{Word: "not today"})
	if code := c.done(); code != 255 {
		t.Errorf("exit %d", code)
	}
	if !strings.Contains(c.stderr.String(), "sallyport: denied by bob@example.com: not today") {
		t.Errorf("stderr:\n%s", c.stderr)
	}
	if n := w.Count(t, audit.RequestCreated); n != 1 {
		t.Errorf("%d requests: the client asked again by itself", n)
	}
	if log := w.sshd.Log(); strings.Contains(log, "Connection from") {
		t.Errorf("the target was reached:\n%s", log)
	}
}

func TestHangUpWithdraws(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, "deploy@web-1@gate", "true")
	w.confirm(t, c, w.SignIn(t, gatetest.Alice), "INC-7")
	w.withdraws(t, func() error { return c.cmd.Process.Kill() })
}

// The one that goes is ssh alone, and its connection inside with it; or its jump too, whose
// connection is the outer one.
func TestHangUpOfAJumpWithdraws(t *testing.T) {
	w := newWorld(t, setup{})
	w.jumps(t)
	for _, all := range []int{1, -1} {
		c := w.ssh(t, "deploy@web-1", "true")
		c.stderr.wait(t, `waiting for 1 of: dba`)
		w.withdraws(t, func() error { return syscall.Kill(all*c.cmd.Process.Pid, syscall.SIGKILL) })
	}
	if log := w.sshd.Log(); strings.Contains(log, "Connection from") {
		t.Errorf("the target was reached:\n%s", log)
	}
}

// withdraws hangs up while a request waits, and checks what becomes of it.
func (w *world) withdraws(t *testing.T, hangUp func() error) {
	t.Helper()
	bob := w.SignIn(t, gatetest.Bob)
	r := w.pending(t, bob)
	must(t, hangUp())
	w.outcome(t, r.ID, session.RequestWithdrawn)
	if _, err := w.Decide(t.Context(), bob, r.ID, session.Verdict{Yes: true}); err == nil {
		t.Error("a yes for a client that has gone was taken")
	}
}

func TestNoWaitNamesTheRequest(t *testing.T) {
	w := newWorld(t, setup{})
	cert := w.certificate(t, gatetest.Alice)
	c := w.ssh(t, append(cert, "deploy+nowait@web-1@gate", "true")...)
	if code := c.done(); code != 255 {
		t.Errorf("exit %d", code)
	}
	c.stderr.wait(t, `sallyport: request \w+ waits for 1 of: dba.* at https://gate.test/requests/`)
	w.decide(t, session.Verdict{Yes: true})
	if c := w.ssh(t, append(cert, "deploy+nowait@web-1@gate", "echo in")...); c.done() != 0 || c.stdout.String() != "in\n" {
		t.Errorf("after the yes: %s%s", c.stdout, c.stderr)
	}
}

func TestCertificateIsQuietAndServesBatchMode(t *testing.T) {
	w := newWorld(t, setup{})
	args := append(w.certificate(t, gatetest.Alice), "-o", "BatchMode=yes", "ops@web-1@gate", "echo in")
	c := w.ssh(t, args...)
	if code := c.done(); code != 0 || c.stdout.String() != "in\n" || c.stderr.String() != "" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, c.stdout, c.stderr)
	}
	if r := w.session(t, "ended"); r.Proof != "certificate" || r.Cause != "closed" {
		t.Errorf("session: %+v", r)
	}
	if log := w.sshd.Log(); !strings.Contains(log, "sallyport session") {
		t.Errorf("the target does not see the session in its log:\n%s", log)
	}
}

func TestCertificateIsHeldInTheVerifiedCallback(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-o", "BatchMode=yes", "deploy@web-1@gate", "echo in")...)
	c.stderr.wait(t, `sallyport: signed in as alice@example.com; waiting for 1 of: dba`)
	w.decide(t, session.Verdict{Yes: true})
	if c.done() != 0 || c.stdout.String() != "in\n" {
		t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
}

func TestBatchModeWithoutCertificateIsToldWhatItNeeds(t *testing.T) {
	w := newWorld(t, setup{})
	path, _ := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	must(t, os.Remove(path+"-cert.pub"))
	c := w.ssh(t, "-i", path, "-o", "BatchMode=yes", "ops@web-1@gate", "true")
	if code := c.done(); code != 255 {
		t.Errorf("exit %d", code)
	}
	if !strings.Contains(c.stderr.String(), "sallyport: this key signs nobody in. Without a browser (BatchMode, ansible) a certificate is needed; run: sallyport login") {
		t.Errorf("stderr:\n%s", c.stderr)
	}
}

func TestTokenIsThePassword(t *testing.T) {
	w := newWorld(t, setup{})
	alice := w.SignIn(t, gatetest.Alice)
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@web-1@gate", "true")...)
	c.done()
	token, _, err := w.GrantToken(t.Context(), alice, w.grants(t)[0].ID)
	must(t, err)
	ask := filepath.Join(w.dir, "askpass")
	must(t, os.WriteFile(ask, []byte("#!/bin/sh\necho "+token.Reveal()+"\n"), 0o700))
	t.Setenv("SSH_ASKPASS", ask)
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	if c := w.ssh(t, "ops+token@web-1@gate", "echo in"); c.done() != 0 || c.stdout.String() != "in\n" {
		t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
	// It opens its own grant only.
	c = w.ssh(t, "runner+token@web-1@gate", "echo in")
	if c.done() != 255 || !strings.Contains(c.stderr.String(), "sallyport: that token is not valid, or its grant has ended") {
		t.Errorf("another role: stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
	must(t, os.WriteFile(ask, []byte("#!/bin/sh\necho "+token.Reveal()[:52]+"\n"), 0o700))
	c = w.ssh(t, "ops+token@web-1@gate", "echo in")
	if c.done() != 255 || !strings.Contains(c.stderr.String(), "sallyport: that token is not valid, or its grant has ended") {
		t.Errorf("a cut token: stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
}

// jumps has ssh ROLE@web-1 go through the gate, as `sallyport ssh-config` writes it for alice.
func (w *world) jumps(t *testing.T) {
	t.Helper()
	path, _ := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	text := ssh.ClientConfig(ssh.ClientGate{
		Name: "gate", Host: "127.0.0.1", Port: port(w.addr), KnownHosts: filepath.Join(w.dir, "known_hosts"), Identity: path, Certificate: path + "-cert.pub",
	}, []string{"web-1"})
	// The name of somebody whose machine is in a domain is not the outer connection's.
	must(t, os.WriteFile(w.config, []byte(text+"Host *\n  GlobalKnownHostsFile /dev/null\n  User alice@corp\n"), 0o600))
}

func TestJumpIsHeldAndRecordedLikeAnyOther(t *testing.T) {
	w := newWorld(t, setup{})
	w.jumps(t)
	c := w.ssh(t, "deploy@web-1", "echo in")
	c.stderr.wait(t, `sallyport: signed in as alice@example.com; waiting for 1 of: dba`)
	if log := w.sshd.Log(); strings.Contains(log, "Connection from") {
		t.Fatalf("the target was reached before the yes:\n%s", log)
	}
	w.decide(t, session.Verdict{Yes: true})
	if code := c.done(); code != 0 || c.stdout.String() != "in\n" {
		t.Fatalf("exit %d, stdout %q, stderr:\n%s", code, c.stdout, c.stderr)
	}
	if list := w.recorded(t); played(list, "channel 1") != "in\n" {
		t.Errorf("recorded: %+v", list)
	}
	if r := w.session(t, "ended"); r.User.Email != "alice@example.com" || r.Proof != "certificate" || r.Client.Address.Addr().String() != "127.0.0.1" {
		t.Errorf("session: %+v", r)
	}
}

func TestJumpWithoutACertificateSignsInInside(t *testing.T) {
	w := newWorld(t, setup{})
	text := "Host web-1\n  ProxyJump gate\n"
	old, err := os.ReadFile(w.config)
	must(t, err)
	must(t, os.WriteFile(w.config, []byte(text+string(old)), 0o600))
	c := w.ssh(t, "ops@web-1", "echo in")
	w.confirm(t, c, w.SignIn(t, gatetest.Alice), "INC-7")
	if code := c.done(); code != 0 || c.stdout.String() != "in\n" {
		t.Fatalf("exit %d, stdout %q, stderr:\n%s", code, c.stdout, c.stderr)
	}
}

func TestOuterConnectionOpensNothingElse(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "alice@gate", "echo in")...)
	if c.done() != 255 || !strings.Contains(c.stderr.String(), "sallyport: name a target; type: ssh ROLE@TARGET@GATE") {
		t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
	c = w.ssh(t, append(w.certificate(t, gatetest.Alice), "-W", "["+"::1"+"]:22", "alice@gate")...)
	if c.done() != 255 || !strings.Contains(c.stderr.String(), "is no target's name") {
		t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
}

func TestControlMasterOpensMoreChannels(t *testing.T) {
	w := newWorld(t, setup{})
	socket := filepath.Join(w.dir, "control")
	master := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-M", "-S", socket, "-v", "-N", "ops@web-1@gate")...)
	master.stderr.wait(t, `Entering interactive session`)
	for _, word := range []string{"one", "two"} {
		if c := w.ssh(t, "-S", socket, "ops@web-1@gate", "echo "+word); c.done() != 0 || c.stdout.String() != word+"\n" {
			t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
		}
	}
	if c := w.ssh(t, "-S", socket, "-O", "exit", "gate"); c.done() != 0 {
		t.Errorf("exit: %s", c.stderr)
	}
	master.done()
	list := w.recorded(t)
	if played(list, "channel 1") != "one\n" || played(list, "channel 2") != "two\n" {
		t.Errorf("recorded: %+v", list)
	}
}

func TestTargetThatIsNotInThePolicyIsNotLoggedInTo(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@impostor@gate", "echo in")...)
	if c.done() != 255 || !strings.Contains(c.stderr.String(), "sallyport: the target impostor does not prove itself by the host key in the policy") {
		t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
	if w.Count(t, audit.SessionAlarm) != 1 {
		t.Error("no alarm")
	}
	if log := w.sshd.Log(); strings.Contains(log, "Accepted") || strings.Contains(log, "publickey") {
		t.Errorf("the gate tried to log in:\n%s", log)
	}
}
