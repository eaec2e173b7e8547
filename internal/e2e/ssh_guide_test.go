package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// docs/ssh.md, typed word for word at the demo's machine: one yes, and then everything
// that speaks SSH.
func TestSSHGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/ssh.md")
	if err != nil {
		t.Fatal(err)
	}
	d := sharedDemo(t)
	home := d.login(t, "alice@example.com")
	bin, here, there := t.TempDir(), t.TempDir(), anybodys(t)
	config := filepath.Join(bin, "sallyport.conf")
	// Clients read ~/.ssh of the account that runs them, whatever HOME says; the test's is elsewhere.
	for _, name := range []string{"ssh", "scp"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		script := fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", path, config)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
	}
	if err := os.Symlink(binary, filepath.Join(bin, "sallyport")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(here, "notes.txt"), []byte("a note\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	host, _, _ := strings.Cut(d.SSH, ":")
	who := newcomer{
		words: strings.NewReplacer("~/.ssh/sallyport.conf", config, "/srv", there, "gate.example.com", host),
		env: []string{
			"PATH=" + bin + ":" + os.Getenv("PATH"), "SALLYPORT_HOME=" + home, "LC_ALL=C.UTF-8", "ANSIBLE_LOCAL_TEMP=" + here,
			"ANSIBLE_SSH_CONTROL_PATH_DIR=" + here, "ANSIBLE_REMOTE_TEMP=" + there + "/ansible", "ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3",
		},
	}
	t.Chdir(here)
	guide := section(t, string(text), "A certificate, once a day")
	who.done(t, shown(t, guide, "sallyport ssh-config")[0], "")
	first, rest := "", []string(nil)
	for line := range strings.Lines(guide) {
		word, _, _ := strings.Cut(line, " ")
		switch word {
		case "ssh", "scp", "rsync", "git", "ansible":
			if first == "" {
				first = strings.TrimSpace(line)
				continue
			}
			rest = append(rest, strings.TrimSpace(line))
		}
	}
	if len(rest) < 7 {
		t.Fatalf("the guide has %q", rest)
	}
	if shown := d.allowed(t, who.types(t, first)); !strings.Contains(shown, "load average") {
		t.Errorf("%s shows:\n%s", first, shown)
	}
	for _, line := range rest {
		want := ""
		switch {
		case strings.HasPrefix(line, "ansible"):
			want = `"ping": "pong"`
		case strings.Contains(line, "ls -l"):
			want = "total"
		}
		who.done(t, line, want)
	}
	for _, name := range []string{"copy.txt", filepath.Join(there, "notes.txt"), filepath.Join(there, "rsynced.txt")} {
		if got, err := os.ReadFile(name); err != nil || string(got) != "a note\n" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	sam := d.login(t, "sam@example.com")
	who.done(t, shown(t, string(text), "sallyport recordings list")[0], "web-1", "SALLYPORT_HOME="+sam)
}

// anybodys is a folder that the machine's account may write to.
func anybodys(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "guide")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // see above
		t.Fatal(err)
	}
	return dir
}
