package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var guideBlock = regexp.MustCompile("(?s)(?:`(policy/[a-z/.]+)`:\n\n)?```(sh|sh fails|hcl)\n(.*?)```\n")

// The guide is typed as it stands, from the empty folder to the new trust root.
func TestGuideToThePolicy(t *testing.T) {
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	bin, dir := t.TempDir(), t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "sallyport"), ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ran, wrote := 0, 0
	for _, m := range guideBlock.FindAllStringSubmatch(string(text), -1) {
		if m[2] == "hcl" {
			wrote++
			file := filepath.Join(dir, filepath.FromSlash(m[1]))
			if m[1] == "" {
				t.Fatalf("no file is named for %q", m[3])
			}
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(m[3]), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		ran++
		cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", m[3])
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+bin)
		out, err := cmd.CombinedOutput()
		if (err == nil) == (m[2] == "sh fails") {
			t.Fatalf("%v\n%s\n%s", err, m[3], out)
		}
		if m[2] == "sh fails" && !strings.Contains(string(out), "1 of 2 signatures on release 1") {
			t.Errorf("refused with %q", out)
		}
		if strings.Contains(m[3], "cd policy") {
			dir = filepath.Join(dir, "policy")
		}
	}
	if ran < 9 || wrote != 5 {
		t.Errorf("ran %d blocks and wrote %d files", ran, wrote)
	}
}
