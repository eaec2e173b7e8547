package guards

import (
	"bytes"
	"fmt"
	"strings"
)

// Page is docs/guards.md: each guard, the bug it stands against and who notices.
func Page(outcomes []Outcome) []byte {
	var b bytes.Buffer
	noticed := 0
	for _, o := range outcomes {
		if o.Err == nil {
			noticed++
		}
	}
	b.WriteString("# Guards\n\n")
	b.WriteString("A guard is a line that refuses. Each was turned off, alone, and the named test had to fail.\n")
	b.WriteString("This page is written by a run: `go run ./internal/guards/run --all --write docs/guards.md`.\n\n")
	fmt.Fprintf(&b, "%d of %d guards are noticed. Where the last column says \"hangs\", only the time limit ended the test.\n", noticed, len(outcomes))
	area := ""
	for _, o := range outcomes {
		a, name, _ := strings.Cut(o.Guard.Name, ".")
		if a != area {
			fmt.Fprintf(&b, "\n## %s\n\n| guard | stands against | test | off |\n|---|---|---|---|\n", a)
			area = a
		}
		off := o.How
		if o.Err != nil {
			off, _, _ = strings.Cut(o.Err.Error(), ":")
			off = "**" + off + "**"
		}
		test := o.Guard.Test
		if p := strings.TrimPrefix(o.Guard.Package, "./"); p != a {
			test = p + " " + test
		}
		fmt.Fprintf(&b, "| %s | %s | `%s` | %s |\n", name, cell(o.Guard.Class), cell(test), off)
	}
	return b.Bytes()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
