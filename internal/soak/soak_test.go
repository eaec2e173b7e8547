package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// docs/soak.md begins with what the program writes before its figures.
func TestPageSaysWhatTheProgramDoes(t *testing.T) {
	text, err := os.ReadFile("../../docs/soak.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), about) {
		t.Error("docs/soak.md does not begin as internal/soak/soak.md does; copy that")
	}
}

const crowded = `package main

import (
	"fmt"
	"runtime"
)

var kept = make([]byte, 100<<20)

func main() {
	for range 1000 {
		go func() { select {} }()
	}
	kept[0] = 1
	runtime.GC()
	fmt.Println("ready")
	_, _ = fmt.Scanln()
	fmt.Println(kept[0])
}
`

// What is read is of the process that is looked at. (A test's own program has no symbols.)
func TestInsideOfAProcess(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(crowded), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "crowded")
	if out, err := exec.Command("go", "build", "-o", program, filepath.Join(dir, "main.go")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(program)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Error(err)
	}
	if n, heap, err := inside(cmd.Process.Pid); err != nil || n < 1000 || n > 1100 || heap < 100 || heap > 110 {
		t.Errorf("%v goroutines and %v MiB in use (%v), want a few more than 1000, and than 100", n, heap, err)
	}
	_ = in.Close()
	_ = cmd.Wait() // however it ends
}
