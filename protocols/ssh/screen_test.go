package ssh_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/web"
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
	id := w.session(t, "live").ID // a gate that stops signs nobody in who would look
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(t.Context(), 5*time.Second) }()
	w.tells(t, id, "the warning", func(line audit.Line) bool { return strings.Contains(string(line.Raw), "the gate stops in 5s") })
	_, err := io.WriteString(c.stdin, "\n")
	must(t, err)
	c.stdout.wait(t, "up\x1b\\[31mred\r\nsallyport: the gate stops in 5s\r\n")
	_, err = io.WriteString(c.stdin, "\n")
	must(t, err)
	c.done()
	must(t, <-stopped)
}

// A line that goes on at the left side is one that was typed.
func TestTypedLineThatIsLongerThanTheScreen(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.dial(t, "ops@web-1")
	s, err := c.NewSession()
	must(t, err)
	defer s.Close() //nolint:errcheck // closed by its end
	must(t, s.RequestPty("xterm", 24, 80, nil))
	in, err := s.StdinPipe()
	must(t, err)
	out, err := s.StdoutPipe()
	must(t, err)
	drawn := collect(out)
	must(t, s.Start("PS1='> ' exec bash --norc --noprofile -i"))
	long := "exit 0 # " + strings.Repeat("0123456789", 16)
	for _, part := range [][2]string{{"> $", long[:78]}, {"8 \r$", long[78:158]}, {"8 \r9.*8 \r$", long[158:] + "\r"}} {
		drawn.wait(t, part[0])
		_, err = io.WriteString(in, part[1])
		must(t, err)
	}
	must(t, errors.Join(s.Wait(), c.Close()))
	if typed := w.typed(t, "\x00"); typed != long+"\r" {
		t.Errorf("typed %q, drawn %q", typed, drawn)
	}
}

// event is one of an asciicast's.
type event struct{ code, data string }

// cast is what the recording's page plays of a channel.
func cast(t *testing.T, list []audit.Line, n int64) (events []event, drawn string) {
	t.Helper()
	var file bytes.Buffer
	screen := &web.Screen{N: n, To: &file, Title: "test"}
	for _, line := range list {
		must(t, screen.Line(line))
	}
	lines := strings.Split(strings.TrimSpace(file.String()), "\n")
	for _, line := range lines[1:] {
		var e []any
		must(t, json.Unmarshal([]byte(line), &e))
		events = append(events, event{e[1].(string), e[2].(string)})
		if e[1] == "o" {
			drawn += e[2].(string)
		}
	}
	return events, drawn
}

func TestCastPlaysWhatTheTerminalReceived(t *testing.T) {
	w := newWorld(t, setup{})
	// Wide characters, one of them in two pieces, an emoji byte by byte, and another size.
	const program = `stty -echo; trap 'stty size' WINCH; printf 'wide 漢字 \033[31mred\033[0m\r\n'; printf '\346\274'; read a; printf '\242\n'
for b in 360 237 216 207; do printf "\\$b"; read a; done; echo ready; while read a && test "$a" != q; do :; done; printf '\033[?1049h\033[2Jfull\033[?1049l'; exit 4`
	c := w.dial(t, "ops@web-1")
	s, err := c.NewSession()
	must(t, err)
	defer s.Close() //nolint:errcheck // closed by its end
	must(t, s.RequestPty("xterm", 24, 80, nil))
	in, err := s.StdinPipe()
	must(t, err)
	out, err := s.StdoutPipe()
	must(t, err)
	received := collect(out)
	must(t, s.Start(program))
	for _, mark := range []string{"\xe6\xbc", "漢\r\n\xf0", "\xf0\x9f", "\xf0\x9f\x8e", "🎇", "ready\r\n"} {
		until(t, mark, func() bool { return strings.HasSuffix(received.String(), mark) })
		if strings.HasPrefix(mark, "ready") {
			break
		}
		_, err = io.WriteString(in, "\n")
		must(t, err)
	}
	must(t, s.WindowChange(33, 101))
	until(t, "the new size", func() bool { // a shell runs its trap when it has read a line
		_, err := io.WriteString(in, "\n")
		return err != nil || strings.Contains(received.String(), "33 101\r\n")
	})
	_, err = io.WriteString(in, "q\n")
	must(t, err)
	var exit *xssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 4 {
		t.Errorf("%v", err)
	}
	must(t, c.Close())
	events, drawn := cast(t, w.recorded(t), 1)
	if drawn != received.String() || !strings.Contains(drawn, "漢字") || !strings.Contains(drawn, "🎇") {
		t.Errorf("the cast plays\n%q\nthe terminal received\n%q", drawn, received)
	}
	resized, told := -1, -1
	for i, e := range events {
		switch {
		case e == event{"r", "101x33"}:
			resized = i
		case e.code == "o" && strings.Contains(e.data, "33 101"):
			told = i
		}
	}
	if resized < 0 || told < resized || events[len(events)-1] != (event{"x", "4"}) {
		t.Errorf("resized at %d, drawn at %d, of %q", resized, told, events)
	}
}

// What OpenSSH's client wrote to its terminal is what the cast plays, however the
// target's bytes were cut.
func TestCastPlaysWhatOpenSSHWrote(t *testing.T) {
	w := newWorld(t, setup{})
	text := filepath.Join(w.sshd.Dir, "text")
	must(t, os.WriteFile(text, []byte(strings.Repeat("漢字 é 🎉 and a line\n", 40_000)), 0o644))
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-tt", "-e", "none", "ops@web-1@gate", "cat "+text)...)
	if c.done() != 0 {
		t.Fatal(c.stderr)
	}
	if _, drawn := cast(t, w.recorded(t), 1); drawn != c.stdout.String() || len(drawn) < 1<<20 {
		t.Errorf("the cast plays %d bytes, the terminal received %d", len(drawn), len(c.stdout.String()))
	}
}
