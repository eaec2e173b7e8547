package sftp_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/internal/sftp"
)

var update = flag.String("update", "", "record OpenSSH's conversations anew, in this folder, which is made and removed")

// A transcript is a conversation of OpenSSH's client and server, one line for each run
// of bytes: "> " and a Go string from the client, "< " and one from the server.
func transcript(t testing.TB, path string) (steps []step) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		p, err := strconv.Unquote(strings.TrimSpace(line[2:]))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		steps = append(steps, step{line[0] == '>', []byte(p)})
	}
	return steps
}

// TestOpenSSH plays what OpenSSH's programs said: nothing of it is refused, and it is
// told as it was.
func TestOpenSSH(t *testing.T) {
	if *update != "" {
		record(t, *update)
	}
	files, err := filepath.Glob("testdata/openssh/*.transcript")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d transcripts: %v", len(files), err)
	}
	for _, path := range files {
		r := &told{}
		w := sftp.New(r)
		for _, s := range transcript(t, path) {
			side := w.Down
			if s.up {
				side = w.Up
			}
			if err := side(s.p); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, golden := strings.Join(r.list, "\n")+"\n", strings.TrimSuffix(path, "transcript")+"told"
		if *update != "" {
			save(t, golden, []byte(got))
		}
		want, err := os.ReadFile(golden)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\n%swanted\n%s", path, err, got, want)
		}
	}
}

func save(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

const batch = `mkdir d
put small d/a
put big d/b
get d/b back
rename d/a d/c
chmod 600 d/c
ln -s d/c l
ls -l d
rm d/c
rm d/b
rm l
rmdir d
-get nothing
df
`

// record has OpenSSH's programs talk to its own server, through this program (TestMain).
func record(t *testing.T, dir string) {
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(filepath.Join(dir, "tree"), 0o755), os.MkdirAll("testdata/openssh", 0o755)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	save(t, filepath.Join(dir, "small"), []byte("a line\n"))
	save(t, filepath.Join(dir, "big"), bytes.Repeat([]byte("many lines\n"), 3_500))
	save(t, filepath.Join(dir, "tree", "leaf"), []byte("green\n"))
	save(t, filepath.Join(dir, "batch"), []byte(batch))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, words := range map[string][]string{
		"sftp": {"sftp", "-b", "batch", "-D", self}, "scp-up": {"scp", "-D", self, "big", "x:" + dir + "/there"}, "scp-down": {"scp", "-D", self, "x:" + dir + "/big", "here"},
		"scp-folder": {"scp", "-r", "-p", "-D", self, "tree", "x:" + dir + "/folder"},
	} {
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir = dir
		into, err := filepath.Abs("testdata/openssh/" + name + ".transcript")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(os.Environ(), "TRANSCRIPT="+into)
		out, err := cmd.CombinedOutput()
		var ended *exec.ExitError // scp may end this program before it does so by itself
		if err != nil && !errors.As(err, &ended) {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestMain is also the server that record gives to OpenSSH's programs.
func TestMain(m *testing.M) {
	path := os.Getenv("TRANSCRIPT")
	if path == "" {
		os.Exit(m.Run())
	}
	if err := serve(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	cmd := exec.Command("/usr/lib/openssh/sftp-server")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var mu sync.Mutex
	carry := func(to io.Writer, from io.Reader, mark string) {
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			mu.Lock()
			if n > 0 {
				fmt.Fprintf(f, "%s %q\n", mark, buf[:n])
			}
			mu.Unlock()
			if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
				return
			}
		}
	}
	go func() {
		carry(in, os.Stdin, ">")
		in.Close()
	}()
	carry(os.Stdout, out, "<")
	return errors.Join(cmd.Wait(), f.Close())
}
