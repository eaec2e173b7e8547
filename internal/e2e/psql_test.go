package e2e

import (
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A terminal is a person's: psql runs in it, and what it says can be waited for.
type terminal struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *output // stdout and stderr, as the person sees them
	ended chan struct{}
	err   error // read after ended
}

// psql starts psql as the role. Extra environment, such as PGOPTIONS=..., comes last.
func (d *demo) psql(t *testing.T, role string, env []string, args ...string) *terminal {
	t.Helper()
	return start(t, env, "psql", append([]string{"-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", d.conninfo(t, role)}, args...)...)
}

// conninfo is what libpq connects with.
func (d *demo) conninfo(t *testing.T, role string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(d.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	return "host=" + host + " port=" + port + " user=" + role + " dbname=orders sslmode=verify-full sslrootcert=" + d.CA
}

func start(t *testing.T, env []string, name string, args ...string) *terminal {
	t.Helper()
	term := &terminal{cmd: exec.Command(name, args...), out: &output{}, ended: make(chan struct{})}
	term.cmd.Env = append(append(os.Environ(), "LC_ALL=C", "HOME="+t.TempDir()), env...)
	term.cmd.Stdout, term.cmd.Stderr = term.out, term.out
	var err error
	if term.in, err = term.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		term.err = term.cmd.Wait()
		close(term.ended)
	})
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill() // it may have ended
		waiting.Wait()
	})
	return term
}

// says waits until the terminal shows a text, and returns all that it shows.
func (term *terminal) says(t *testing.T, text string) string {
	t.Helper()
	return term.saysWithin(t, patience, text)
}

func (term *terminal) saysWithin(t *testing.T, patience time.Duration, text string) string {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		if shown := term.out.String(); strings.Contains(shown, text) {
			tick.Stop()
			return shown
		}
		select {
		case <-term.ended:
			if shown := term.out.String(); strings.Contains(shown, text) {
				return shown
			}
			t.Fatalf("ended (%v) without %q; it shows:\n%s", term.err, text, term.out)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q within %v; it shows:\n%s", text, patience, term.out)
		}
	}
}

// ends waits until the program has ended, and returns what the terminal shows.
func (term *terminal) ends(t *testing.T) (string, error) {
	t.Helper()
	select {
	case <-term.ended:
		return term.out.String(), term.err
	case <-time.After(patience):
		t.Fatalf("still running; it shows:\n%s", term.out)
		return "", nil
	}
}

// types types a line.
func (term *terminal) types(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(term.in, line+"\n"); err != nil {
		t.Fatalf("type %q: %v; it shows:\n%s", line, err, term.out)
	}
}

var (
	linkForm   = regexp.MustCompile(`https://\S+/h/[A-Za-z0-9_-]+`)
	phraseForm = regexp.MustCompile(`your phrase is\s+(\w+ \w+)`)
)

// link waits for the link that a held connection shows, and its phrase.
func (term *terminal) link(t *testing.T) (link, phrase string) {
	t.Helper()
	term.says(t, "your phrase is")
	eventually(t, "link and phrase", func() bool {
		shown := term.out.String()
		link = linkForm.FindString(shown)
		if m := phraseForm.FindStringSubmatch(shown); m != nil {
			phrase = m[1]
		}
		return link != "" && phrase != ""
	})
	return link, phrase
}
