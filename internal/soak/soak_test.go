package main

import (
	"os"
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
