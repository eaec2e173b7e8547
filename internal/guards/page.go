package guards

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// untried is what a page says of a guard that no run has turned off yet.
const untried = "**not tried**"

var lastRun = regexp.MustCompile(`(?m)^The last run of all .*\n`)

// Page is docs/guards.md: each of the guards, the bug it stands against and who notices.
// What was not tried in this run stands as it did on the page before, where its test is
// still the same. A run of all of them says how long it took, which stays until the next.
func Page(before []byte, all []Guard, outcomes []Outcome, took time.Duration) []byte {
	rows := rowsOf(before)
	run := lastRun.FindString(string(before))
	if len(outcomes) == len(all) {
		run = fmt.Sprintf("The last run of all tried %d guards in %d minutes.\n", len(all), int(took.Minutes()+0.5))
	}
	for _, o := range outcomes {
		off := o.How
		if o.Err != nil {
			off, _, _ = strings.Cut(o.Err.Error(), ":")
			off = "**" + off + "**"
		}
		rows[row(o.Guard)] = off
	}
	var b bytes.Buffer
	noticed, last := 0, ""
	for _, g := range slices.SortedStableFunc(slices.Values(all), func(x, y Guard) int { return strings.Compare(area(x), area(y)) }) {
		a, name, _ := strings.Cut(g.Name, ".")
		if a != last {
			fmt.Fprintf(&b, "\n## %s\n\n| guard | stands against | test | off |\n|---|---|---|---|\n", a)
			last = a
		}
		off := rows[row(g)]
		switch {
		case off == "":
			off = untried
		case !strings.HasPrefix(off, "**"):
			noticed++
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, cell(g.Class), where(g), off)
	}
	return fmt.Appendf(nil, `# Guards

A guard is a line that refuses. Each was turned off, alone, and the named test had to fail.
This page is written by runs: %[1]sgo run ./internal/guards/run --write docs/guards.md --all%[1]s, or with names for their rows.

%[2]d of %[3]d guards are noticed. Where the last column says "hangs", only the time limit ended the test; where it says "fails at times", its first trial was passed.
%[5]s%[4]s`, "`", noticed, len(all), b.Bytes(), run)
}

// Untried keeps the guards that, by the page, nobody has noticed.
func Untried(page []byte, all []Guard) []Guard {
	rows := rowsOf(page)
	return keep(all, func(g Guard) bool { off := rows[row(g)]; return off == "" || strings.HasPrefix(off, "**") })
}

// area is the folder that a guard's name begins with.
func area(g Guard) string {
	a, _, _ := strings.Cut(g.Name, ".")
	return a
}

// row is what a guard is known by on a page.
func row(g Guard) string { return g.Name + " " + where(g) }

func where(g Guard) string {
	test := g.Test
	if strings.TrimPrefix(g.Package, "./") != area(g) {
		test = strings.TrimPrefix(g.Package, "./") + " " + test
	}
	return "`" + cell(test) + "`"
}

// rowsOf reads what a page says of each guard.
func rowsOf(page []byte) map[string]string {
	rows := map[string]string{}
	under := ""
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if a, ok := strings.CutPrefix(line, "## "); ok {
			under = a
		}
		if cells := strings.Split(strings.Trim(line, "| "), " | "); len(cells) >= 4 {
			rows[under+"."+cells[0]+" "+cells[len(cells)-2]] = cells[len(cells)-1]
		}
	}
	return rows
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
