package ssh_test

import (
	"bufio"
	"io"
	"testing"

	xssh "golang.org/x/crypto/ssh"
)

// Where the scope names them, a real sshd reaches the user's agent and display, and the
// recording says when.
func TestAgentAndX11WhereTheScopeNamesThem(t *testing.T) {
	w := newWorld(t, setup{sshd: []string{"X11Forwarding yes", "XAuthLocation /bin/true"}})
	c := w.dial(t, "lender@web-1")
	back := c.HandleChannelOpen("x11")
	s, err := c.NewSession()
	must(t, err)
	defer s.Close() //nolint:errcheck // closed by its end
	x11 := xssh.Marshal(struct {
		Single           bool
		Protocol, Cookie string
		Screen           uint32
	}{false, "MIT-MAGIC-COOKIE-1", "00112233445566778899aabbccddeeff", 0})
	if ok, err := s.SendRequest("x11-req", true, x11); !ok || err != nil {
		t.Fatalf("the display is not lent: %v", err)
	}
	if ok, err := s.SendRequest("auth-agent-req@openssh.com", true, nil); !ok || err != nil {
		t.Errorf("the agent is not lent: %v", err)
	}
	out, err := s.StdoutPipe()
	must(t, err)
	must(t, s.Start(`bash -c 'test -S "$SSH_AUTH_SOCK" && echo agent; d=${DISPLAY##*:}; exec 3<>/dev/tcp/127.0.0.1/$((6000+${d%.*})); echo "from the target" >&3; head -n 1 <&3'`))
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "agent\n" {
		t.Fatalf("%q, %v", line, err)
	}
	display, requests, err := (<-back).Accept()
	must(t, err)
	go xssh.DiscardRequests(requests)
	line, err := bufio.NewReader(display).ReadString('\n')
	if err != nil || line != "from the target\n" {
		t.Fatalf("the display hears %q, %v", line, err)
	}
	_, err = io.WriteString(display, "from the display\n")
	must(t, err)
	if line, err := lines.ReadString('\n'); err != nil || line != "from the display\n" {
		t.Fatalf("the target hears %q, %v", line, err)
	}
	must(t, s.Wait())
	must(t, c.Close())
	if list := w.recorded(t); !said(list, "query", "back", "the client's display") {
		t.Errorf("recorded: %+v", list)
	}
}
