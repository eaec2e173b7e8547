package ssh_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/gatetest"
)

const pipelineRule = `
rule "ci" {
  target  = { name = "web-1" }
  role    = ["ops"]
  who     = { claims = { repository = "shop/app", ref = "refs/heads/main" } }
  longest = "10m"
}
`

func TestPipelinesTokenIsThePassword(t *testing.T) {
	ci := gatetest.NewCI(t)
	w := newWorld(t, setup{ci: ci})
	c := w.run(t, "/usr/bin/python3", "-c", paramiko, port(w.addr), "ops+token@web-1", ci.Token(t, nil).Reveal())
	if code := c.done(); code != 7 || c.stdout.String() != "hello\n" {
		t.Errorf("exit %d, stdout %q, stderr:\n%s", code, c.stdout, c.stderr)
	}
	// OpenSSH's client cuts a password at 1,023 bytes; a shorter JWT passes.
	short := ci.Token(t, map[string]any{"workflow_ref": "x"}).Reveal()
	if len(short) > 1000 {
		t.Fatalf("the short token has %d bytes", len(short))
	}
	ask := filepath.Join(w.dir, "askpass")
	t.Setenv("SSH_ASKPASS", ask)
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")
	for token, want := range map[string]string{
		short: "",
		ci.Token(t, map[string]any{"workflow_ref": "x", "aud": "https://other.example.com"}).Reveal(): "sallyport: that workload token proves nothing here",
	} {
		must(t, os.WriteFile(ask, []byte("#!/bin/sh\necho "+token+"\n"), 0o700))
		c := w.ssh(t, "ops+token@web-1@gate", "echo in")
		code := c.done()
		if want == "" && (code != 0 || c.stdout.String() != "in\n") || want != "" && (code != 255 || !strings.Contains(c.stderr.String(), want)) {
			t.Errorf("exit %d, stdout %q, stderr:\n%s", code, c.stdout, c.stderr)
		}
	}
}
