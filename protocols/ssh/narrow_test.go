package ssh_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// What an approver leaves out of a rule without limits is not open at the target.
func TestYesToFewerSubChannelsHolds(t *testing.T) {
	w := newWorld(t, setup{})
	here := netip.MustParseAddr("127.0.0.1")
	_, err := w.Ask(t.Context(), w.SignIn(t, gatetest.Alice), here, session.NewRequest{Target: "web-1", Role: "deploy"})
	must(t, err)
	w.decide(t, session.Verdict{Yes: true, Scope: policy.Scope{Channels: []string{"exec"}}})
	c := w.dial(t, "deploy@web-1")
	if out, said, err := runs(t, c, command("echo in")); err != nil || strings.TrimSpace(out) != "in" {
		t.Errorf("what was given does not run: %v, %q, %q", err, out, said)
	}
	if out, said, status := subsystem(t, c, "sftp", ""); status != 255 || !strings.Contains(said, "sallyport: the grant allows no sftp here") {
		t.Errorf("sftp: status %d, %q, %q", status, out, said)
	}
	if _, said, err := runs(t, c, shell); err == nil || !strings.Contains(said, "sallyport: the grant allows no shell here") {
		t.Errorf("a shell: %v, %q", err, said)
	}
}
