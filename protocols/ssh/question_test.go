package ssh_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// OpenSSH asks the person what the gate asks, here a program in their place.
func TestReasonIsAskedForInTheTerminal(t *testing.T) {
	asksTheReason(t, func(w *world) []string {
		return append(w.certificate(t, gatetest.Alice), "careful@web-1@gate")
	})
}

// The question of an inner connection goes through the outer one, to the same person.
func TestReasonIsAskedForThroughAJump(t *testing.T) {
	asksTheReason(t, func(w *world) []string {
		w.jumps(t)
		return []string{"careful@web-1"}
	})
}

func asksTheReason(t *testing.T, way func(*world) []string) {
	t.Helper()
	w := newWorld(t, setup{})
	args := way(w)
	args = args[:len(args):len(args)]
	ask := filepath.Join(w.dir, "askpass")
	must(t, os.WriteFile(ask, []byte(`#!/bin/sh
echo "$1" >>"`+w.dir+`/questions"
case "$1" in
*Reason*) echo 'INC-7 disk is full' ;;
*Ticket*) echo OPS-12 ;;
*long*) if [ -e "`+w.dir+`/asked" ]; then echo 10m; else touch "`+w.dir+`/asked"; echo 30; fi ;;
esac
`), 0o700))
	t.Setenv("SSH_ASKPASS", ask)
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	c := w.ssh(t, append(args, "echo in")...)
	if c.done() != 0 || c.stdout.String() != "in\n" {
		t.Fatalf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
	if !strings.Contains(c.stderr.String(), "sallyport: say why you need web-1 as careful") || !strings.Contains(c.stderr.String(), `"30" is no time such as 30m`) {
		t.Errorf("stderr:\n%s", c.stderr)
	}
	asked, err := os.ReadFile(filepath.Join(w.dir, "questions"))
	must(t, err)
	if strings.Count(string(asked), "Reason") != 1 || strings.Count(string(asked), "For how long") != 2 {
		t.Errorf("asked:\n%s", asked)
	}
	g := w.grants(t)[0]
	if long := g.Ends.Sub(g.Starts); g.Reason != "INC-7 disk is full" || g.Ticket != "OPS-12" || long.Round(time.Second) != 10*time.Minute {
		t.Errorf("granted for %q, %s", g.Reason, long)
	}
	// With a grant there is nothing to ask.
	c = w.ssh(t, append([]string{"-o", "BatchMode=yes"}, append(args, "echo in")...)...)
	if c.done() != 0 || c.stderr.String() != "" {
		t.Errorf("stderr:\n%s", c.stderr)
	}
}

func TestWhatCannotBeAskedSaysWhyBefore(t *testing.T) {
	w := newWorld(t, setup{})
	cert := w.certificate(t, gatetest.Alice)
	c := w.ssh(t, append(cert, "-o", "BatchMode=yes", "careful@web-1@gate", "echo in")...)
	if code := c.done(); code != 255 || !strings.Contains(c.stderr.String(), "where nobody can be asked, before: sallyport requests new web-1 careful --reason WHY") {
		t.Errorf("exit %d, stderr:\n%s", code, c.stderr)
	}
	if log := w.sshd.Log(); strings.Contains(log, "Connection from") {
		t.Errorf("the target was reached:\n%s", log)
	}
	_, err := w.Ask(t.Context(), w.SignIn(t, gatetest.Alice), netip.MustParseAddr("127.0.0.1"), session.NewRequest{Target: "web-1", Role: "careful", Reason: "nightly backup"})
	must(t, err)
	c = w.ssh(t, append(cert, "-o", "BatchMode=yes", "careful@web-1@gate", "echo in")...)
	if c.done() != 0 || c.stdout.String() != "in\n" || c.stderr.String() != "" {
		t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
}

// Who cannot say for how long does not get the longest that there is.
func TestDurationThatIsNoneIsNotTheLongest(t *testing.T) {
	for _, long := range []string{"30", "0", "-5m", "for ever"} {
		w := newWorld(t, setup{})
		_, signer := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
		rounds := 0
		c, said, err := w.try("careful@web-1", xssh.PublicKeys(signer), xssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			rounds++
			answers := slices.Repeat([]string{"INC-7"}, len(questions))
			answers[len(answers)-1] = long
			return answers, nil
		}))
		if err == nil {
			t.Errorf("%q let in", long)
			_ = c.Close() // it is not what is tried
		}
		if !strings.Contains(said, "is no time such as 30m or 2h; connect again") || rounds != 3 || w.Count(t, audit.RequestCreated) != 0 {
			t.Errorf("%q: %d rounds, said %q", long, rounds, said)
		}
	}
}

// An empty answer leaves it to the page, and a question proves nobody.
func TestQuestionWithoutAnAnswer(t *testing.T) {
	w := newWorld(t, setup{})
	_, signer := w.certificateFor(t, w.SignIn(t, gatetest.Alice).ID)
	empty := xssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		return make([]string, len(questions)), nil
	})
	said := make(chan string, 16)
	go func() {
		c, err := xssh.Dial("tcp", w.addr, &xssh.ClientConfig{
			User: "careful@web-1", Auth: []xssh.AuthMethod{xssh.PublicKeys(signer), empty}, HostKeyCallback: xssh.InsecureIgnoreHostKey(), //nolint:gosec // OpenSSH verifies it
			BannerCallback: func(m string) error { said <- m; return nil },
		})
		if err == nil {
			_ = c.Close() // it is never let in
		}
		close(said)
	}()
	for line := range said {
		if strings.Contains(line, "say why at https://gate.test/h/") {
			return
		}
	}
	t.Error("no page was named")
}
