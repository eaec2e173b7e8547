package ssh

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func chop(data []byte, cut uint8) (pieces [][]byte) {
	n := int(cut) + 1
	for len(data) > n {
		pieces = append(pieces, data[:n])
		data = data[n:]
	}
	return append(pieces, data)
}

// FuzzRequests reads channel requests from anything: what is read must be what goes on.
func FuzzRequests(f *testing.F) {
	f.Add("exec", ssh.Marshal(execRequest{"ls"}))
	f.Add("pty-req", ssh.Marshal(ptyRequest{Term: "xterm", Columns: 80, Rows: 24}))
	f.Add("env", ssh.Marshal(envRequest{"LC_ALL", "C"}))
	for _, r := range recordedRequests(f) {
		f.Add(r.Type, r.Payload)
	}
	f.Add("x11-req", ssh.Marshal(x11Request{Protocol: "MIT-MAGIC-COOKIE-1"}))
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		p := &pair{started: make(chan struct{})}
		request := &ssh.Request{Type: kind, Payload: payload}
		if kind, what, out, ok := p.wants(request); ok {
			if kind == channelShell && out != nil {
				t.Fatal("a shell with a payload")
			}
			if out != nil && string(ssh.Marshal(out)) != string(payload) {
				t.Fatalf("%s %q goes on as %q", kind, what, ssh.Marshal(out))
			}
		}
		for _, into := range []any{&ptyRequest{}, &windowChange{}, &envRequest{}, &signal{}, &breakRequest{}, &x11Request{}, &direct{}, &directLocal{}, &listening{}, &listeningLocal{}} {
			read(request, into)
		}
	})
}

// FuzzTerminal draws anything: it must not panic, and cuts must not matter. What was
// typed meanwhile is given out only where it was drawn in one run.
func FuzzTerminal(f *testing.F) {
	f.Add([]byte("\x1b[?1049h\x1b]2;x\x07"), []byte("ls\r"), uint8(2))
	f.Add([]byte("lx\b \bs\r\n"), []byte("lx\x7fs\r"), uint8(99))
	f.Add([]byte("ab \rcx\b\x1b[Kd\r\n"), []byte("abcx\x7fd\r"), uint8(99))
	f.Add([]byte("1.2.3.4\r\n"), []byte("1234\r"), uint8(99))
	for _, screen := range drawn(f) {
		f.Add(screen, []byte("ione line\r"), uint8(7))
	}
	f.Fuzz(func(t *testing.T, drawn, typed []byte, cut uint8) {
		if len(drawn) > 4096 {
			return // rubOut below takes its time with more
		}
		whole, pieces := &tty{}, &tty{}
		whole.see(drawn)
		for _, p := range chop(drawn, cut) {
			pieces.see(p)
		}
		if whole.words("x") != pieces.words("x") || whole.leave() != pieces.leave() {
			t.Fatalf("%q, in pieces %q", whole.words("x"), pieces.words("x"))
		}
		text := rubOut(drawn)
		unwrapped := rubOut([]byte(strings.NewReplacer(" \r\n", " \r\n", " \r", "").Replace(string(drawn))))
		e := &echo{}
		keys := chop(typed, cut)
		for i, p := range chop(drawn, cut) {
			if i < len(keys) {
				e.typed(keys[i])
			}
			for _, line := range e.shown(p) {
				if line = bytes.TrimSuffix(line, []byte("\r")); !bytes.Contains(text, line) && !bytes.Contains(unwrapped, line) || len(line) == 0 {
					t.Fatalf("%q is given out, and was not drawn", line)
				}
			}
		}
	})
}

func rubOut(text []byte) []byte {
	for rubbedOut.Match(text) {
		text = rubbedOut.ReplaceAll(text, nil)
	}
	return text
}

// rubbedOut is a character that was drawn, and taken away again.
var rubbedOut = regexp.MustCompile(`[ -~](\x08 \x08|\x08\x1b\[K)`)
