package ssh_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	xssh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// Other clients than OpenSSH: they are held, told and let in alike.

func (w *world) hostKey(t *testing.T) xssh.PublicKey {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "host.pub"))
	must(t, err)
	key, _, _, _, err := xssh.ParseAuthorizedKey(text)
	must(t, err)
	return key
}

// held takes a client through sign-in and approval, and checks what it got.
func (w *world) held(t *testing.T, c *client) {
	t.Helper()
	w.confirm(t, c, w.SignIn(t, gatetest.Alice), "INC-7")
	w.decide(t, session.Verdict{Yes: true})
	if code := c.done(); code != 7 || !strings.Contains(c.stdout.String(), "hello") {
		t.Fatalf("exit %d, stdout:\n%s\nstderr:\n%s", code, c.stdout, c.stderr)
	}
	if got := played(w.recorded(t), "channel 1"); got != "hello\n" {
		t.Errorf("the recording plays %q", got)
	}
}

func TestDropbearsClient(t *testing.T) {
	w := newWorld(t, setup{})
	must(t, os.Mkdir(filepath.Join(w.dir, ".ssh"), 0o700))
	line := "127.0.0.1 " + string(xssh.MarshalAuthorizedKey(w.hostKey(t)))
	must(t, os.WriteFile(filepath.Join(w.dir, ".ssh", "known_hosts"), []byte(line), 0o600))
	w.held(t, w.run(t, "dbclient", "-y", "-p", port(w.addr), "-l", "deploy@web-1", "127.0.0.1", "echo hello; exit 7"))
}

func TestPlink(t *testing.T) {
	w := newWorld(t, setup{})
	w.held(t, w.run(t, "plink", "-batch", "-ssh", "-no-antispoof", "-hostkey", xssh.FingerprintSHA256(w.hostKey(t)), "-P", port(w.addr), "-l", "deploy@web-1", "127.0.0.1", "echo hello; exit 7"))
}

const paramiko = `
import sys, paramiko
def banner(self, m):
    sys.stderr.write(m.get_text()); sys.stderr.flush()
paramiko.auth_handler.AuthHandler._client_handler_table[53] = banner
port, user, token = int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
c = paramiko.SSHClient()
c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
if token:
    c.connect("127.0.0.1", port, user, password=token, look_for_keys=False, allow_agent=False)
    t = c.get_transport()
else:
    t = paramiko.Transport(("127.0.0.1", port))
    t.start_client()
    t.auth_timeout = 60
    t.auth_interactive(user, lambda title, instructions, prompts: [])
ch = t.open_session()
ch.exec_command("echo hello; exit 7")
sys.stdout.write(ch.makefile().read().decode())
sys.exit(ch.recv_exit_status())
`

func TestParamiko(t *testing.T) {
	w := newWorld(t, setup{})
	w.held(t, w.run(t, "/usr/bin/python3", "-c", paramiko, port(w.addr), "deploy@web-1"))
}

func TestParamikoSendsATokenAsItsPassword(t *testing.T) {
	w := newWorld(t, setup{})
	if c := w.ssh(t, append(w.certificate(t, gatetest.Alice), "ops@web-1@gate", "true")...); c.done() != 0 {
		t.Fatal(c.stderr)
	}
	token, _, err := w.GrantToken(t.Context(), w.SignIn(t, gatetest.Alice), w.grants(t)[0].ID)
	must(t, err)
	c := w.run(t, "/usr/bin/python3", "-c", paramiko, port(w.addr), "ops+token@web-1", token.Reveal())
	if code := c.done(); code != 7 || c.stdout.String() != "hello\n" {
		t.Errorf("exit %d, stdout %q, stderr:\n%s", code, c.stdout, c.stderr)
	}
}

func TestAnsible(t *testing.T) {
	w := newWorld(t, setup{})
	args := append([]string{"-F", w.config}, w.certificate(t, gatetest.Alice)...)
	inventory := filepath.Join(w.dir, "inventory")
	must(t, os.WriteFile(inventory, []byte("web ansible_host=gate ansible_user=ops@web-1 ansible_python_interpreter=/usr/bin/python3 ansible_remote_tmp="+w.sshd.Dir+"/tmp\n"), 0o600))
	t.Setenv("ANSIBLE_SSH_ARGS", strings.Join(args, " ")+" -o ControlMaster=auto -o ControlPersist=5s")
	t.Setenv("ANSIBLE_SSH_CONTROL_PATH_DIR", w.dir+"/cp")
	c := w.run(t, "ansible", "-i", inventory, "web", "-m", "ping")
	if c.done() != 0 || !strings.Contains(c.stdout.String(), `"ping": "pong"`) {
		t.Errorf("stdout:\n%s\nstderr:\n%s", c.stdout, c.stderr)
	}
}
