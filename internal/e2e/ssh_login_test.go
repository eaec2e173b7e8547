package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// agent starts an ssh-agent, which ends with the test.
func agent(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent")
	cmd := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // ended by the signal, which it says
	eventually(t, "the ssh-agent", func() bool { _, err := os.Stat(socket); return err == nil })
	return socket
}

// sshConfig is what `sallyport ssh-config` prints of these targets, in a file.
func (d *demo) sshConfig(t *testing.T, home string, targets ...string) string {
	t.Helper()
	text, err := d.sallyport(t, home, append([]string{"ssh-config"}, targets...)...)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ssh_config")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// allowed has Bob say yes to Alice's next request for web-1, and waits until it has worked.
func (d *demo) allowed(t *testing.T, term *terminal) string {
	t.Helper()
	term.says(t, "waiting for 1 of")
	bob := d.signedIn(t, "bob@example.com")
	bob.decide(t, bob.pending(t, "alice@example.com").ID, "yes", map[string]string{"for": "5m"})
	shown, err := term.ends(t)
	if err != nil {
		t.Fatalf("(%v) it shows:\n%s", err, shown)
	}
	return shown
}

// The certificate of `sallyport login`, by the lines of `sallyport ssh-config`: where
// nobody can be asked (BatchMode, ansible), and shown straight to the target.
func TestSSHByTheCertificateOfLogin(t *testing.T) {
	d := sharedDemo(t)
	if d.SSH == "" {
		t.Fatal("the demo has no web-1")
	}
	home := d.login(t, "alice@example.com")
	config := d.sshConfig(t, home, "web-1")
	text, err := os.ReadFile(config)
	if err != nil || strings.Contains(string(text), "*") {
		t.Errorf("ssh-config: %v\n%s", err, text)
	}
	shown := d.allowed(t, start(t, nil, "ssh", "-F", config, "-o", "BatchMode=yes", "deploy@web-1", "echo in by jump"))
	if !strings.Contains(shown, "\nin by jump\n") || strings.Contains(shown, "your phrase is") {
		t.Errorf("it shows:\n%s", shown)
	}
	shown, err = start(t, nil, "ssh", "-F", config, "-o", "BatchMode=yes", "deploy@web-1@localhost", "echo in by name").ends(t)
	if err != nil || !strings.Contains(shown, "in by name") {
		t.Errorf("ROLE@TARGET@GATE (%v):\n%s", err, shown)
	}
	dir := t.TempDir()
	env := []string{"LC_ALL=C.UTF-8", "ANSIBLE_SSH_ARGS=-F " + config, "ANSIBLE_SSH_CONTROL_PATH_DIR=" + dir, "ANSIBLE_LOCAL_TEMP=" + dir}
	inventory := filepath.Join(dir, "inventory")
	line := "web-1 ansible_user=deploy ansible_python_interpreter=/usr/bin/python3\n"
	if err := os.WriteFile(inventory, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if shown, err := start(t, env, "ansible", "-i", inventory, "web-1", "-m", "ping").ends(t); err != nil || !strings.Contains(shown, `"ping": "pong"`) {
		t.Errorf("ansible (%v):\n%s", err, shown)
	}
	d.straight(t, home)
}

// straight shows a login certificate to the target's own sshd, which knows only the
// session CA.
func (d *demo) straight(t *testing.T, home string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.Dir, "web-1", "sshd_config"))
	if err != nil {
		t.Fatal(err)
	}
	at := regexp.MustCompile(`(?m)^ListenAddress (\S+):(\d+)$`).FindStringSubmatch(string(text))
	key, err := os.ReadFile(filepath.Join(d.Dir, "web-1", "host.pub"))
	if err != nil { // the demo keeps no public half
		out, err := exec.Command("ssh-keygen", "-y", "-f", filepath.Join(d.Dir, "web-1", "host")).Output()
		if err != nil {
			t.Fatal(err)
		}
		key = out
	}
	known := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(known, fmt.Appendf(nil, "[%s]:%s %s", at[1], at[2], key), 0o600); err != nil {
		t.Fatal(err)
	}
	certificate, err := exec.Command("ssh-keygen", "-L", "-f", filepath.Join(home, "id-cert.pub")).CombinedOutput()
	if err != nil || !strings.Contains(string(certificate), "user certificate") || !strings.Contains(string(certificate), "sallyport-login") {
		t.Fatalf("%v: %s", err, certificate)
	}
	// The account that there is, which is the one that the gate itself logs in to; and others.
	targets, err := os.ReadFile(filepath.Join(d.Dir, "policy", "policy", "targets.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`role "deploy" \{\s+account = "([^"]+)"`).FindStringSubmatch(string(targets))
	if own == nil {
		t.Fatalf("no account of web-1 in:\n%s", targets)
	}
	for _, account := range []string{own[1], "root", "sallyport-login"} {
		shown, err := start(t, nil, "ssh", "-F", "/dev/null", "-v", "-p", at[2], "-o", "BatchMode=yes", "-o", "UserKnownHostsFile="+known, "-o", "StrictHostKeyChecking=yes",
			"-o", "IdentitiesOnly=yes", "-i", filepath.Join(home, "id"), account+"@"+at[1], "echo inside").ends(t)
		if err == nil || !strings.Contains(shown, "Permission denied") || strings.Contains(shown, "\ninside\n") || !strings.Contains(shown, "Offering public key: "+filepath.Join(home, "id")+" ED25519-CERT") {
			t.Errorf("%s straight to the target (%v):\n%s", account, err, shown)
		}
	}
}

// The ssh-agent holds the certificate from login to logout, and that is enough for ssh.
func TestLoginLoadsTheAgent(t *testing.T) {
	d := sharedDemo(t)
	socket := agent(t)
	t.Setenv("SSH_AUTH_SOCK", socket)
	held := func() string {
		out, _ := exec.Command("ssh-add", "-l").CombinedOutput() // it fails where there are none
		return string(out)
	}
	home := d.login(t, "alice@example.com")
	if got := held(); !strings.Contains(got, "sallyport alice@example.com (ED25519-CERT)") {
		t.Fatalf("the agent holds %s", got)
	}
	var setup struct {
		File string `json:"known_hosts_file"`
		Gate string `json:"gate"`
	}
	out, err := d.sallyport(t, home, "ssh-config", "--json")
	if err != nil || json.Unmarshal([]byte(out), &setup) != nil || setup.Gate != d.SSH {
		t.Fatalf("ssh-config: %v %s", err, out)
	}
	host, port, _ := strings.Cut(d.SSH, ":")
	args := []string{"-F", "/dev/null", "-p", port, "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=" + setup.File, "-o", "StrictHostKeyChecking=yes", "deploy@web-1@" + host, "echo by agent"}
	if shown := d.allowed(t, start(t, nil, "ssh", args...)); !strings.Contains(shown, "\nby agent\n") {
		t.Errorf("it shows:\n%s", shown)
	}
	if _, err := d.sallyport(t, home, "logout"); err != nil {
		t.Error(err)
	}
	if got := held(); !strings.Contains(got, "no identities") {
		t.Errorf("after logout the agent holds %s", got)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) != 0 {
		t.Errorf("after logout there is %v, %v", left, err)
	}
}
