package ssh_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
)

func TestEnvironmentPassesByAllowList(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.dial(t, "ops@web-1")
	s, err := c.NewSession()
	must(t, err)
	defer s.Close() //nolint:errcheck // closed by its end
	if err := s.Setenv("LD_PRELOAD", "/tmp/x.so"); err == nil {
		t.Error("LD_PRELOAD passed")
	}
	must(t, s.Setenv("LC_NAME", "C"))
	if out, err := s.Output("echo $LC_NAME$LD_PRELOAD"); err != nil || string(out) != "C\n" {
		t.Errorf("%q, %v", out, err)
	}
	must(t, c.Close())
	if list := w.recorded(t); !said(list, "note", `channel 1: LC_NAME="C"`) || said(list, "note", "LD_PRELOAD") {
		t.Errorf("recorded: %+v", list)
	}
}

func TestVariablesAreBounded(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.dial(t, "ops@web-1")
	s, err := c.NewSession()
	must(t, err)
	defer s.Close() //nolint:errcheck // closed by its end
	if err := s.Setenv("LC_NAME", strings.Repeat("x", 1025)); err == nil {
		t.Error("a long value passed")
	}
	for n := 0; ; n++ {
		if err := s.Setenv("LC_NAME", "C"); err != nil {
			break
		}
		if n > 64 {
			t.Fatal("variables without end")
		}
	}
}

func TestTerminalsKindAndSignalsAreRecorded(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.dial(t, "ops@web-1")
	s, err := c.NewSession()
	must(t, err)
	defer s.Close() //nolint:errcheck // closed by its end
	must(t, s.RequestPty("xterm-odd", 24, 80, nil))
	out, err := s.StdoutPipe()
	must(t, err)
	must(t, s.Start("echo up; exec sleep 1000"))
	_, err = io.ReadFull(out, make([]byte, 3))
	must(t, err)
	must(t, s.Signal(xssh.SIGTERM))
	var exit *xssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("%v", err)
	}
	must(t, c.Close())
	if list := w.recorded(t); !said(list, "note", `channel 1: TERM="xterm-odd"`) || !said(list, "note", `channel 1: signal "TERM"`) {
		t.Errorf("recorded: %+v", list)
	}
}

// A player takes no size that is not one.
func TestTerminalsSizeIsBounded(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.dial(t, "ops@web-1")
	s, err := c.NewSession()
	must(t, err)
	defer s.Close() //nolint:errcheck // closed by its end
	must(t, s.RequestPty("xterm", 1<<31-1, 0, nil))
	must(t, s.Start("read x"))
	must(t, s.WindowChange(70000, 70001))
	must(t, s.WindowChange(24, 132))
	must(t, s.Signal(xssh.SIGTERM))
	_ = s.Wait() // ended by the signal
	must(t, c.Close())
	var sizes []string
	for _, line := range w.recorded(t) {
		if e, ok := line.Track.(audit.Terminal); ok && e.Code == "r" {
			sizes = append(sizes, string(e.Data))
		}
	}
	if !slices.Equal(sizes, []string{"80x1000", "1000x1000", "132x24"}) {
		t.Errorf("recorded: %q", sizes)
	}
}

func TestBadStreamIsCutWithWords(t *testing.T) {
	w := newWorld(t, setup{})
	for _, trial := range []struct{ sent, words string }{
		{"\xff\xff\xff\xff this is no SFTP", "a packet of 4294967295 bytes"},
		// OPEN, and WRITE to the handle that the target will give, before it has.
		{
			"\x00\x00\x00\x05\x01\x00\x00\x00\x03" +
				"\x00\x00\x00\x12\x03\x00\x00\x00\x01\x00\x00\x00\x01x\x00\x00\x00\x0a\x00\x00\x00\x00" +
				"\x00\x00\x00\x19\x06\x00\x00\x00\x02\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			"a handle that the target did not give",
		},
	} {
		_, said, status := subsystem(t, w.dial(t, "copier@web-1"), "sftp", trial.sent)
		if status != 255 || !strings.Contains(said, "sallyport: this is no SFTP that can be followed, so it cannot be recorded: "+trial.words) {
			t.Errorf("status %d, stderr %q", status, said)
		}
	}
}

func TestSCPWithMoreBehindItIsACommand(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "runner@web-1@gate", "scp -f x; echo C0644 5 x; echo in")...)
	_, err := io.WriteString(c.stdin, "\x00\x00\x00")
	must(t, err)
	must(t, c.stdin.Close())
	if c.done() != 0 {
		t.Fatal(c.stderr)
	}
	if list := w.recorded(t); played(list, "channel 1") != c.stdout.String() || !strings.Contains(c.stdout.String(), "C0644 5 x\nin\n") {
		t.Errorf("stdout %q, recorded: %+v", c.stdout, list)
	}
}
