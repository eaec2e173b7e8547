package ssh

import (
	"bytes"
	"strings"
	"testing"
)

// Each trial is typed and shown by turns, keys first.
func TestEchoGivesOutOnlyWhatWasShownInOneRun(t *testing.T) {
	for name, trial := range map[string]struct {
		turns []string
		want  string
	}{
		"as typed":             {[]string{"", "$ ", "l", "l", "s", "s", "\r", "\r\nfile\r\n$ "}, "ls"},
		"in one piece":         {[]string{"ls\r", "ls\r\nfile\r\n$ "}, "ls"},
		"a line break alone":   {[]string{"ls\n", "ls\n"}, "ls"},
		"rubbed out":           {[]string{"lx", "lx", "\x7f", "\b \b", "s\r", "s\r\n"}, "ls"},
		"by readline":          {[]string{"lx\x7f", "lx\b\x1b[", "s\r", "Ks\r\n"}, "ls"},
		"more than there is":   {[]string{"\x7f\x7f", "\a\a$ ", "ls\r", "ls\r\n"}, "ls"},
		"wide":                 {[]string{"漢é\r", "漢é\r\n"}, "漢é"},
		"wide, and rubbed out": {[]string{"漢\x7fa\r", "漢\b\b\x1b[Ka\r\n"}, ""},
		"two lines":            {[]string{"a\rb\r", "a\r\nb\r\na\r\nb\r\n"}, "a b"},
		"wrapped by readline":  {[]string{"a", "a", "bc", "b \rc", "", " \r", "d\r", "d\r\n"}, "abcd"},
		"wrapped at its end":   {[]string{"1\r", "1 \r\n"}, ""},
		"given up":             {[]string{"sleep", "sleep", "\x03", "^C\r\n$ ", "ls\r", "ls\r\n"}, "ls"},
		"edited":               {[]string{"ls\x1b[D", "ls\b", "a\r", "as\b\r\n$ ", "id\r", "id\r\n"}, "id"},
		"completed":            {[]string{"cat /e\t", "cat /etc/", "x\r", "x\r\n"}, ""},
		"nothing":              {[]string{"\r", "\r\n$ "}, ""},
		"hidden":               {[]string{"", "PIN: ", "1234\r", "\r\n1234 is wrong\r\n"}, ""},
		"among others":         {[]string{"", "PIN: ", "1234\r", "checking 10.2.3.4\r\n"}, ""},
		"in a longer line":     {[]string{"1\r", "1 try left\r\n1\r\n"}, ""},
		"behind something":     {[]string{"1234\r", "no: 1234\r\n"}, ""},
		"with stars":           {[]string{"1", "*", "2", "*", "\r", "\r\n12\r\n"}, ""},
		"cut in two":           {[]string{"12", "12", "", "job done", "34\r", "34\r\n"}, ""},
		"hidden from some on":  {[]string{"tops", "tops", "3cret\r", "\r\ncret\r\n", "ls\r", "ls\r\n"}, "ls"},
		"on a redrawn screen":  {[]string{"1234\r", "\x1b[1;1H1\x1b[2;1H2\x1b[3;1H3\x1b[4;1H4\r\n"}, ""},
		"an earlier password":  {[]string{"1234\r", "\x1b[2J", "", "1234\r\n"}, ""},
		"longer than typing":   {[]string{strings.Repeat("x", 5000) + "\r", strings.Repeat("x", 5000) + "\r\n"}, ""},
	} {
		e := &echo{}
		var got [][]byte
		for i, turn := range trial.turns {
			if i%2 == 0 {
				e.typed([]byte(turn))
				continue
			}
			for _, c := range []byte(turn) { // however it is cut
				for _, line := range e.shown([]byte{c}) {
					got = append(got, bytes.TrimSuffix(line, []byte("\r")))
				}
			}
		}
		if lines := string(bytes.Join(got, []byte(" "))); lines != trial.want {
			t.Errorf("%s: %q is recorded, want %q", name, lines, trial.want)
		}
	}
}
