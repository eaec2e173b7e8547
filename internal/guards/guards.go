// Package guards lists the lines of the gate that refuse something, each with the test
// that must notice when the line is gone, and turns them off one by one to see whether
// the test does.
//
// A line is turned off by an overlay (go test -overlay): the tree is never changed.
// The named test must pass as the tree is and fail with the guard off. A text that is
// not found exactly once, a replacement that does not compile and a test that did not
// run are errors, never passes. A guard that no test notices is a hole. The canary is a
// change that changes nothing: a test that fails on it would fail on anything.
//
//	go run ./internal/guards/run identity/oidc   # by name or by its beginning
//	go run ./internal/guards/run --all
package guards

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A Guard is one refusing piece of a line and how to turn it off.
type Guard struct {
	Name    string // the package's folder, a dot, and what is refused
	File    string // from the root, slash separated
	Text    string // stands exactly once in File
	Off     string // what replaces Text: it must compile, and refuse no longer
	Package string // of the test that must notice, from the root, "./" first
	Test    string // as go test -run names it, with its subtest where there is one
	Class   string // as docs/threats.md has them: the bug that is back without the guard
}

// All are the guards of the whole tree.
func All() []Guard {
	return slices.Concat(lists...)
}

// Canary changes nothing and must be noticed by nobody.
func Canary() Guard {
	return Guard{
		Name:    "canary",
		File:    "identity/token.go",
		Text:    "if len(t) != tokenLength {",
		Off:     "if !(len(t) == tokenLength) {",
		Package: "./identity",
		Test:    "TestTokenWithTypoIsNoToken",
		Class:   "none",
	}
}

// Find gives the file's text with the guard off, or says why that cannot be done.
func (g Guard) Find(root string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(g.File)))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(data, []byte(g.Text)); n != 1 {
		return nil, fmt.Errorf("its text is %d times in %s, want once", n, g.File)
	}
	if g.Off == g.Text {
		return nil, fmt.Errorf("its replacement is the text itself")
	}
	return bytes.Replace(data, []byte(g.Text), []byte(g.Off), 1), nil
}

// Check says what is wrong with the guard without running anything.
func (g Guard) Check(root string) error {
	if g.Name == "" || g.Class == "" || !strings.HasPrefix(g.Package, "./") {
		return fmt.Errorf("it needs a name, a class and a package that begins with ./")
	}
	if _, err := g.Find(root); err != nil {
		return err
	}
	name, _, _ := strings.Cut(g.Test, "/")
	declared := regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(name) + `\(t \*testing\.T\)`)
	files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(g.Package), "*_test.go"))
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if declared.Match(data) {
			return nil
		}
	}
	return fmt.Errorf("no %s in %s", name, g.Package)
}
