package ssh

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/gatetest"
)

// recorder is a real one, of a session of its own.
func recorder(t testing.TB) *record {
	t.Helper()
	f := gatetest.New(t, gatetest.Options{})
	rec, err := f.Recordings.Start(t.Context(), audit.Meta{Session: "fuzzfuzzfuzzfuzzfuzzfu", Protocol: Name, Target: "web-1", Role: "ops", Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = rec.Seal(t.Context(), "closed") }) // the fixture's own checks follow
	return &record{to: rec}
}

// packet is one SFTP packet.
func packet(kind byte, parts ...any) []byte {
	body := []byte{kind}
	for _, part := range parts {
		switch v := part.(type) {
		case uint32:
			body = append(body, ssh.Marshal(struct{ N uint32 }{v})...)
		case uint64:
			body = append(body, ssh.Marshal(struct{ N uint64 }{v})...)
		case string:
			body = append(body, ssh.Marshal(struct{ S string }{v})...)
		}
	}
	return append(ssh.Marshal(struct{ N uint32 }{uint32(len(body))}), body...)
}

// FuzzSFTP feeds both directions with anything, cut anywhere: it must neither panic
// nor remember without bound, and how the bytes were cut must not matter.
func FuzzSFTP(f *testing.F) {
	up := append(packet(sftpInit, uint32(3)), packet(sftpOpen, uint32(1), "/x", uint32(2), uint32(0))...)
	up = append(up, packet(sftpWrite, uint32(2), "h", uint64(0), "data")...)
	up = append(up, packet(sftpClose, uint32(3), "h")...)
	down := append(packet(sftpVersion, uint32(3)), packet(sftpHandle, uint32(1), "h")...)
	f.Add(up, down, uint8(3))
	f.Add(packet(sftpExtended, uint32(1), "posix-rename@openssh.com", "a", "b"), packet(sftpVersion, uint32(6)), uint8(1))
	f.Add([]byte("\xff\xff\xff\xff"), []byte{0, 0, 0, 0, 0}, uint8(255))
	rec := recorder(f)
	f.Fuzz(func(t *testing.T, up, down []byte, cut uint8) {
		whole, pieces := newSFTP(rec, 1), newSFTP(rec, 1)
		errDown, errUp := whole.down(down), whole.up(up)
		var cutDown, cutUp error
		for _, p := range chop(down, cut) {
			if cutDown = pieces.down(p); cutDown != nil {
				break
			}
		}
		for _, p := range chop(up, cut) {
			if cutUp = pieces.up(p); cutUp != nil {
				break
			}
		}
		if (errDown == nil) != (cutDown == nil) || (errUp == nil) != (cutUp == nil) {
			t.Fatalf("whole: %v, %v; in pieces: %v, %v", errDown, errUp, cutDown, cutUp)
		}
		if len(whole.handles) != len(pieces.handles) || len(whole.pending) != len(pieces.pending) {
			t.Fatalf("whole: %d, %d; in pieces: %d, %d", len(whole.handles), len(whole.pending), len(pieces.handles), len(pieces.pending))
		}
		if err := whole.close(); err != nil {
			t.Fatal(err)
		}
	})
}

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

// FuzzTerminal draws anything: it must not panic, and cuts must not matter.
func FuzzTerminal(f *testing.F) {
	f.Add([]byte("\x1b[?1049h\x1b]2;x\x07"), []byte("ls\r"), uint8(2))
	f.Fuzz(func(t *testing.T, drawn, typed []byte, cut uint8) {
		whole, pieces := newTTY(true), newTTY(true)
		whole.see(drawn)
		for _, p := range chop(drawn, cut) {
			pieces.see(p)
		}
		if whole.words("x") != pieces.words("x") || whole.leave() != pieces.leave() {
			t.Fatalf("%q, in pieces %q", whole.words("x"), pieces.words("x"))
		}
		whole.typed(typed)
		whole.echoed(drawn)
	})
}

func TestSFTPVersionsThatAreNotReadAreRefused(t *testing.T) {
	s := newSFTP(recorder(t), 1)
	if err := s.down(packet(sftpVersion, uint32(3))); err != nil {
		t.Errorf("version 3: %v", err)
	}
	if err := s.down(packet(sftpVersion, uint32(6))); !errors.Is(err, errBadStream) {
		t.Errorf("version 6: %v", err)
	}
}
