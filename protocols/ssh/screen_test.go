package ssh_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
)

// What the gate says to somebody in an editor must not be drawn over the text, where the
// editor would not know of it.
func TestWarningDoesNotGarbleAnEditor(t *testing.T) {
	t.Setenv("TERM", "xterm")
	w := newWorld(t, setup{})
	text := filepath.Join(w.sshd.Dir, "text")
	must(t, os.WriteFile(text, []byte("the first line\n"), 0o644))
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-tt", "-e", "none", "ops@web-1@gate", "exec vi "+text)...)
	c.stdout.wait(t, "the first line")
	id := w.session(t, "live").ID
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(t.Context(), time.Second) }()
	c.stdout.wait(t, "\x1b]2;sallyport: the gate stops in 1s\x07")
	if code := c.done(); code != 255 {
		t.Errorf("exit %d", code)
	}
	must(t, <-stopped)
	drawn := c.stdout.String()
	if !strings.Contains(drawn, "\x1b[?1049h") || strings.Contains(drawn, "\x1b[?1049l") {
		t.Fatalf("the editor's screen was not entered, or was left: %q", drawn)
	}
	if strings.Contains(strings.ReplaceAll(drawn, "\x1b]2;sallyport: the gate stops in 1s\x07", ""), "sallyport") {
		t.Errorf("drawn over the text: %q", drawn)
	}
	// The last words are behind it, on a screen that can be read.
	if said := c.stderr.String(); !strings.Contains(said, "\x1b[?1049l\x1b[0m\x1b[?25h\r\nsallyport: the gate is stopping") {
		t.Errorf("stderr %q", said)
	}
	if got := played(w.recordedAs(t, id), "channel 1"); got != drawn {
		t.Errorf("the recording plays\n%q\nthe terminal received\n%q", got, drawn)
	}
}

// A warning that comes in the middle of an escape sequence is said behind it.
func TestWarningWaitsForTheEndOfASequence(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-tt", "-e", "none", "ops@web-1@gate", `stty -echo; printf 'up\033[3'; read x; printf '1mred'; read x`)...)
	c.stdout.wait(t, "up\x1b\\[3")
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(t.Context(), 5*time.Second) }()
	w.tells(t, "the warning", func(line audit.Line) bool { return strings.Contains(string(line.Raw), "the gate stops in 5s") })
	_, err := io.WriteString(c.stdin, "\n")
	must(t, err)
	c.stdout.wait(t, "up\x1b\\[31mred\r\nsallyport: the gate stops in 5s\r\n")
	_, err = io.WriteString(c.stdin, "\n")
	must(t, err)
	c.done()
	must(t, <-stopped)
}
