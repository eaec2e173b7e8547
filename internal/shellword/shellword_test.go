package shellword

import (
	"os/exec"
	"testing"
)

func TestQuote(t *testing.T) {
	for _, s := range []string{"", "plain/word.1", "two words", "it's", `a"b\c`, "$(id)", "`id`", "-n", "a\nb", "*?[~#;&|<>()"} {
		out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "printf '%s.' "+Quote(s)).Output()
		if err != nil || string(out) != s+"." {
			t.Errorf("a shell reads %s as %q (%v), want %q", Quote(s), out, err, s)
		}
	}
	if got := Quote("a/b-c"); got != "a/b-c" {
		t.Errorf("quoted without need: %s", got)
	}
}
