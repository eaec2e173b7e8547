package ssh_test

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/gatetest"
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
