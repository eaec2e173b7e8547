package ssh_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// content is a file's worth of bytes that no text is, and their digest.
func content(t *testing.T, path string) (data []byte, sum string) {
	t.Helper()
	data = make([]byte, 3<<20+17)
	random := rand.NewChaCha8([32]byte{7})
	_, err := random.Read(data)
	must(t, err)
	must(t, os.WriteFile(path, data, 0o644))
	digest := sha256.Sum256(data)
	return data, hex.EncodeToString(digest[:])
}

func TestFilesAreRecordedByNameSizeAndDigest(t *testing.T) {
	for _, kind := range []struct {
		name    string
		role    string
		program string
		args    []string // before the two places
		up      bool
		file    string // as the record names it
	}{
		{"scp up", "copier", "scp", nil, true, "DIR/there"},
		{"scp down", "copier", "scp", nil, false, "DIR/here"},
		// What is there already is not seen, and the client may call its file anything.
		{"scp -O up", "runner", "scp", []string{"-O"}, true, "DIR/there, or DIR/there/here"},
		{"scp -O down", "runner", "scp", []string{"-O"}, false, "DIR/here"},
		{"scp -O -r -p up", "runner", "scp", []string{"-O", "-r", "-p"}, true, "DIR/there, or DIR/there/here"},
		{"sftp get", "copier", "sftp", nil, false, "DIR/here"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			w := newWorld(t, setup{})
			here, there := filepath.Join(w.sshd.Dir, "here"), filepath.Join(w.sshd.Dir, "there")
			from, to := here, kind.role+"@web-1@gate:"+there
			made, direction := there, "up"
			if !kind.up {
				from, to, made, direction = kind.role+"@web-1@gate:"+here, there, there, "down"
			}
			data, sum := content(t, here)
			args := append([]string{"-F", w.config}, w.certificate(t, gatetest.Alice)...)
			args = append(append(args, kind.args...), from, to)
			if c := w.run(t, kind.program, args...); c.done() != 0 {
				t.Fatalf("stderr:\n%s\nsshd:\n%s", c.stderr, w.sshd.Log())
			}
			if got, err := os.ReadFile(made); err != nil || !bytes.Equal(got, data) {
				t.Errorf("moved %d bytes of %d: %v", len(got), len(data), err)
			}
			name := strings.ReplaceAll(kind.file, "DIR", w.sshd.Dir)
			var files []audit.File
			for _, line := range w.recorded(t) {
				if f, ok := line.Track.(audit.File); ok {
					files = append(files, f)
				}
			}
			if len(files) != 1 || files[0].Direction != direction || files[0].Size != int64(len(data)) || files[0].SHA256 != sum || files[0].Name != name {
				t.Errorf("recorded: %+v; wanted %s %s of %d bytes, %s", files, direction, name, len(data), sum)
			}
		})
	}
}

// Where the policy asks for it, the recording has the very bytes that were moved.
func TestFilesAreRecordedWithTheirBytes(t *testing.T) {
	w := newWorld(t, setup{})
	here, there := filepath.Join(w.sshd.Dir, "here"), filepath.Join(w.sshd.Dir, "there")
	data, _ := content(t, here)
	data = data[:300<<10+17]
	must(t, os.WriteFile(here, data, 0o644))
	args := append([]string{"-F", w.config}, w.certificate(t, gatetest.Alice)...)
	for _, words := range [][]string{
		{"scp", here, "ops@kept@gate:" + there}, {"scp", "ops@kept@gate:" + here, there}, {"scp", "-O", here, "ops@kept@gate:" + there}, {"scp", "-O", "ops@kept@gate:" + here, there}, {"scp", here, "ops@web-1@gate:" + there},
	} {
		must(t, os.RemoveAll(there))
		if c := w.run(t, words[0], append(args[:len(args):len(args)], words[1:]...)...); c.done() != 0 {
			t.Fatalf("%v: stderr:\n%s", words, c.stderr)
		}
	}
	until(t, "the end of all", func() bool { return len(ended(t, w)) == 5 })
	for _, r := range ended(t, w) {
		var kept bytes.Buffer
		var file audit.File
		for _, line := range w.recordedAs(t, r.ID) {
			switch track := line.Track.(type) {
			case audit.Piece:
				if track.N != 1 || track.Offset != int64(kept.Len()) || file.Name != "" {
					t.Errorf("a piece of file %d at %d, after %d bytes", track.N, track.Offset, kept.Len())
				}
				kept.Write(track.Data)
			case audit.File:
				file = track
			}
		}
		if asked := r.Key.Target == "kept"; asked != bytes.Equal(kept.Bytes(), data) || asked != (file.N == 1) || !asked && kept.Len() > 0 {
			t.Errorf("%s: %d bytes of %d are on the record, of file %+v", r.Key.Target, kept.Len(), len(data), file)
		}
	}
}

func ended(t *testing.T, w *world) []session.Record {
	t.Helper()
	list, err := w.Sessions(t.Context(), w.SignIn(t, gatetest.Sam), session.Filter{State: "ended"})
	must(t, err)
	return list
}

func TestSFTPOperationsAreRecorded(t *testing.T) {
	w := newWorld(t, setup{})
	must(t, os.WriteFile(filepath.Join(w.sshd.Dir, "a"), []byte("a"), 0o644))
	batch := filepath.Join(w.dir, "batch")
	must(t, os.WriteFile(batch, []byte("mkdir d\nrename a b\nrm b\nrmdir d\nls\n"), 0o644))
	args := append([]string{"-F", w.config}, w.certificate(t, gatetest.Alice)...)
	must(t, os.Chmod(w.sshd.Dir, 0o777))
	if c := w.run(t, "sftp", append(args, "-b", batch, "copier@web-1@gate:"+w.sshd.Dir)...); c.done() != 0 {
		t.Fatalf("stdout:\n%s\nstderr:\n%s", c.stdout, c.stderr)
	}
	list := w.recorded(t)
	for _, words := range [][]string{{"mkdir", "/d"}, {"posix-rename@openssh.com", "/a", "/b"}, {"remove", "/b"}, {"rmdir", "/d"}, {"list", w.sshd.Dir}} {
		if !said(list, "query", append(words, "sftp")...) {
			t.Errorf("%v is not recorded in %+v", words, list)
		}
	}
}

func TestRsyncAndGit(t *testing.T) {
	w := newWorld(t, setup{})
	here := filepath.Join(w.sshd.Dir, "here")
	data, _ := content(t, here)
	args := append([]string{"-F", w.config}, w.certificate(t, gatetest.Alice)...)
	shell := "ssh " + strings.Join(args, " ")
	if c := w.run(t, "rsync", "-e", shell, "runner@web-1@gate:"+here, w.dir+"/copy"); c.done() != 0 {
		t.Fatalf("rsync: %s", c.stderr)
	}
	if got, err := os.ReadFile(w.dir + "/copy"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("rsync moved %d bytes: %v", len(got), err)
	}
	repo := filepath.Join(w.sshd.Dir, "repo")
	for _, words := range [][]string{
		{"init", "-q", repo},
		{"-C", repo, "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "first"},
	} {
		if out, err := exec.Command("git", words...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", words, err, out)
		}
	}
	must(t, os.WriteFile(filepath.Join(w.sshd.Dir, ".gitconfig"), []byte("[safe]\n\tdirectory = *\n"), 0o644))
	c := w.run(t, "git", "-c", "core.sshCommand="+shell, "clone", "-q", "runner@web-1@gate:"+repo, w.dir+"/clone")
	if c.done() != 0 {
		t.Fatalf("git: %s", c.stderr)
	}
	if _, err := os.Stat(w.dir + "/clone/.git/HEAD"); err != nil {
		t.Error(err)
	}
}

func TestTerminalIsRecordedAsItWasDrawn(t *testing.T) {
	w := newWorld(t, setup{})
	script := `stty -echo; printf '\033[?1049h\033[2Jwide: 漢字 é\r\n'; printf '\033[?1049l'; stty echo; echo done; exit 3` + "\n"
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-tt", "-e", "none", "ops@web-1@gate", "sh")...)
	_, err := io.WriteString(c.stdin, script)
	must(t, err)
	if code := c.done(); code != 3 {
		t.Errorf("exit %d: %s", code, c.stderr)
	}
	list := w.recorded(t)
	if got := played(list, "channel 1"); got != c.stdout.String() {
		t.Errorf("the recording plays\n%q\nthe terminal received\n%q", got, c.stdout)
	}
	if !strings.Contains(c.stdout.String(), "漢字") {
		t.Errorf("stdout %q", c.stdout)
	}
	if !said(list, "terminal", "Code:x") || !said(list, "terminal", "Code:r") {
		t.Errorf("recorded: %+v", list)
	}
}

func TestTypedWordsAreRecordedOnlyWhereTheyShow(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-tt", "-e", "none", "ops@web-1@gate", "printf 'name: '; read n; stty -echo; printf 'password: '; read p; stty echo; echo hello $n")...)
	c.types(t, "name: ", "wonderland\n")
	c.types(t, "password: ", "tops3cret\n")
	if c.done() != 0 {
		t.Errorf("stderr: %s", c.stderr)
	}
	if typed := w.typed(t, "tops3cret"); typed != "wonderland\r" {
		t.Errorf("typed: %q", typed)
	}
}

// What a program says behind a hidden word may have its characters, one by one.
func TestHiddenPINIsNotFoundInTheOutput(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-tt", "-e", "none", "ops@web-1@gate", "exec bash --norc --noprofile -i")...)
	c.types(t, `\$ $`, "PS1='> '\r")
	c.types(t, "\n.*> $", "ech")
	c.types(t, "> ech$", "x")
	c.types(t, "> echx$", "\x7f")
	c.types(t, `x\x08( \x08|\x1b\[K)$`, "o up\r")
	c.types(t, "\rup\r\n.*> $", `read -sp "PIN: " p; echo "checking 10.2.3.4"`+"\r")
	c.types(t, "\rPIN: $", "1234\r")
	c.types(t, "checking 10.2.3.4\r\n.*> $", "exit 0\r")
	if c.done() != 0 {
		t.Errorf("stdout %q, stderr: %s", c.stdout, c.stderr)
	}
	if typed := w.typed(t, "1234"); typed != "PS1='> '\recho up\rread -sp \"PIN: \" p; echo \"checking 10.2.3.4\"\rexit 0\r" {
		t.Errorf("typed: %q", typed)
	}
}

// What a shell or command reads without a terminal is what it was told to do.
func TestInputWithoutATerminalIsRecorded(t *testing.T) {
	for name, trial := range map[string]struct {
		args []string
		want string // of the input
		note string
	}{
		"a command":            {[]string{"ops@web-1@gate", "sh"}, "echo up; rm -f /nonexistent\n", ""},
		"a shell":              {[]string{"-T", "ops@web-1@gate"}, "echo up; rm -f /nonexistent\n", ""},
		"by its digest":        {[]string{"ops@bulk@gate", "sh"}, "", "channel 1: input of 28 bytes"},
		"where nobody asks it": {[]string{"ops@kept@gate", "sh"}, "", "channel 1: input of 28 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, setup{})
			c := w.ssh(t, append(w.certificate(t, gatetest.Alice), trial.args...)...)
			_, err := io.WriteString(c.stdin, "echo up; rm -f /nonexistent\n")
			must(t, errors.Join(err, c.stdin.Close()))
			if c.done() != 0 || c.stdout.String() != "up\n" {
				t.Errorf("stdout %q, stderr: %s", c.stdout, c.stderr)
			}
			list := w.recorded(t)
			var input bytes.Buffer
			for _, line := range list {
				if e, ok := line.Track.(audit.Terminal); ok && e.Code == "i" {
					input.Write(e.Data)
				}
			}
			if input.String() != trial.want || said(list, "note", "input of") != (trial.note != "") || trial.note != "" && !said(list, "note", trial.note) {
				t.Errorf("input %q, recorded: %+v", &input, list)
			}
		})
	}
}

// types waits for what the client shows, and types then.
func (c *client) types(t *testing.T, shown, keys string) {
	t.Helper()
	c.stdout.wait(t, shown)
	_, err := io.WriteString(c.stdin, keys)
	must(t, err)
}

// typed is what the recording says was typed; hidden is nowhere in it.
func (w *world) typed(t *testing.T, hidden string) string {
	t.Helper()
	var typed bytes.Buffer
	for _, line := range w.recorded(t) {
		if e, ok := line.Track.(audit.Terminal); ok && e.Code == "i" {
			typed.Write(e.Data)
		}
		if bytes.Contains(line.Raw, []byte(hidden)) {
			t.Errorf("a hidden word is on the record: %s", line.Raw)
		}
	}
	return typed.String()
}

func TestForwards(t *testing.T) {
	echo := echoServer(t)
	w := newWorld(t, setup{forward: echo})
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-W", echo, "tunnel@web-1@gate")...)
	_, err := io.WriteString(c.stdin, "hello")
	must(t, err)
	must(t, c.stdin.Close())
	if c.done() != 0 || c.stdout.String() != "hello" {
		t.Errorf("stdout %q, stderr:\n%s", c.stdout, c.stderr)
	}
	if list := w.recorded(t); !said(list, "query", "forward", echo) || !said(list, "done", "closed", "Bytes:10") {
		t.Errorf("recorded: %+v", list)
	}
}

func TestRemoteForward(t *testing.T) {
	w := newWorld(t, setup{})
	echo := echoServer(t)
	far := listenNowhere(t)
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "-v", "-N", "-R", far+":"+echo, "ops@web-1@gate")...)
	c.stderr.wait(t, "remote forward success")
	conn, err := net.Dial("tcp", far)
	must(t, err)
	defer conn.Close()
	_, err = fmt.Fprint(conn, "hello")
	must(t, err)
	got := make([]byte, 5)
	_, err = io.ReadFull(conn, got)
	must(t, err)
	if string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	must(t, c.cmd.Process.Kill())
	list := w.recorded(t)
	if !said(list, "query", "listen", far) || !said(list, "query", "back", far) {
		t.Errorf("recorded: %+v", list)
	}
}

func TestOutputByItsDigest(t *testing.T) {
	w := newWorld(t, setup{})
	data, sum := content(t, filepath.Join(w.sshd.Dir, "here"))
	c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@bulk@gate", "cat "+w.sshd.Dir+"/here; echo said >&2")...)
	if c.done() != 0 || c.stdout.String() != string(data) {
		t.Fatalf("%d bytes of %d; stderr:\n%s", len(c.stdout.String()), len(data), c.stderr)
	}
	list := w.recorded(t)
	if played(list, "channel 1") != "" || played(list, "channel 1 stderr") != "said\n" || !said(list, "note", "channel 1: output of", sum) {
		t.Errorf("recorded: %+v", list)
	}
}
