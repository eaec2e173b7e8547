package ssh

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

var update = flag.Bool("update", false, "record anew what OpenSSH's client asks of channels, and what programs draw")

const (
	requestsFile = "testdata/openssh/requests.transcript" // TYPE and a Go string, one request a line
	drawnFiles   = "testdata/drawn/*"                     // what a program wrote to its terminal
)

// recordedRequests are what OpenSSH's client asked of session channels.
func recordedRequests(t testing.TB) (list []*ssh.Request) {
	t.Helper()
	text, err := os.ReadFile(requestsFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		kind, quoted, _ := strings.Cut(strings.TrimSpace(line), " ")
		payload, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, &ssh.Request{Type: kind, Payload: []byte(payload)})
	}
	return list
}

// What OpenSSH asks for is read whole, and what goes on to the target is the same bytes.
func TestOpenSSHsRequests(t *testing.T) {
	if *update {
		recordRequests(t)
		recordDrawn(t)
	}
	seen := map[string]bool{}
	for _, r := range recordedRequests(t) {
		seen[r.Type] = true
		var again []byte
		ok := true
		switch r.Type {
		case "pty-req":
			var v ptyRequest
			ok, again = read(r, &v), ssh.Marshal(v)
			ok = ok && v.Term == "xterm-256color"
		case "env":
			var v envRequest
			ok, again = read(r, &v), ssh.Marshal(v)
			ok = ok && passes(v.Name)
		case "auth-agent-req@openssh.com":
			again = r.Payload
		default:
			_, _, payload, known := (&pair{}).wants(r)
			ok = known
			if payload != nil {
				again = ssh.Marshal(payload)
			}
		}
		if !ok || string(again) != string(r.Payload) {
			t.Errorf("%s %q goes on as %q", r.Type, r.Payload, again)
		}
	}
	for _, kind := range []string{"pty-req", "env", "shell", "exec", "subsystem", "auth-agent-req@openssh.com"} {
		if !seen[kind] {
			t.Errorf("no %s was recorded", kind)
		}
	}
}

// What an editor and a shell drew leaves the terminal where words can be said, however
// it was cut.
func TestDrawnScreens(t *testing.T) {
	for _, screen := range drawn(t) {
		for _, size := range []int{1, 7, len(screen) + 1} {
			tty := &tty{}
			for piece := range slices.Chunk(screen, size) {
				tty.see(piece)
			}
			if got := tty.words("hello"); got != "\r\nhello\r\n" || tty.leave() != "" {
				t.Errorf("in pieces of %d: %q, leaves by %q", size, got, tty.leave())
			}
		}
	}
}

func drawn(t testing.TB) (screens [][]byte) {
	t.Helper()
	files, err := filepath.Glob(drawnFiles)
	if err != nil || len(files) < 2 {
		t.Fatalf("%d screens: %v", len(files), err)
	}
	for _, path := range files {
		screen, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		screens = append(screens, screen)
	}
	return screens
}

// recordRequests has OpenSSH's client ask a server that says yes to everything.
func recordRequests(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nothing is left to say
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer(t))
	var text strings.Builder
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{
		{"-tt", "x"}, {"-T", "x"}, {"x", "echo hello; exit 7"}, {"-s", "x", "sftp"}, {"-A", "-tt", "x", "git-upload-pack 'site.git'"}, {"-o", "SetEnv=LC_NAME=C LANG=en_US.UTF-8", "x", "true"},
	} {
		args := append([]string{
			"-F", "/dev/null", "-p", port, "-o", "HostName=127.0.0.1", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		}, words...)
		cmd := exec.Command("ssh", args...)
		cmd.Env = append(os.Environ(), "TERM=xterm-256color")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		conn, err := listener.Accept()
		if err == nil {
			err = serveOne(conn, config, &text)
		}
		if err = errors.Join(err, cmd.Wait()); err != nil {
			t.Fatalf("%v: %v", words, err)
		}
	}
	save(t, requestsFile, []byte(text.String()))
}

// serveOne serves the one channel of a connection, and writes down what is asked of it.
func serveOne(conn net.Conn, config *ssh.ServerConfig, text *strings.Builder) error {
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(requests)
	for channel := range channels {
		ch, asked, err := channel.Accept()
		if err != nil {
			return err
		}
		for r := range asked {
			fmt.Fprintf(text, "%s %q\n", r.Type, r.Payload)
			if err := r.Reply(true, nil); err != nil {
				return err
			}
			if r.Type == "shell" || r.Type == "exec" || r.Type == "subsystem" {
				_, err = ch.SendRequest("exit-status", false, make([]byte, 4))
				err = errors.Join(err, ch.Close())
				_ = server.Wait() // says that the client has gone
				return err
			}
		}
	}
	return nil
}

// recordDrawn has programs draw on a terminal of script(1).
func recordDrawn(t *testing.T) {
	t.Helper()
	for name, input := range map[string]string{"vi": "ione line\r漢字\x1b:q!\r", "bash --norc": "ls --color=always /etc/ssh\rprintf '\\033[31mred\\033[0m\\n'\rexit\r"} {
		cmd := exec.Command("script", "-qec", name, "/dev/null")
		cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8", "PS1=$ ")
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		save(t, "testdata/drawn/"+strings.Fields(name)[0], out)
	}
}

func save(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}
