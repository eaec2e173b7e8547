package author

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/sallyport/sallyport/policy"
)

// A Finding is something wrong, or suspicious, in a file of a policy.
type Finding struct {
	Severity string `json:"severity"` // "error", "warning", or "note": worth knowing, and probably meant
	File     string `json:"file"`
	Line     int    `json:"line"` // from 1; 0: about the whole file
	Column   int    `json:"column"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	Source   string `json:"source,omitempty"` // the line itself
}

// Check returns everything that is wrong with d, and where nothing is, what looks like
// a mistake: rules that never decide, and rules that nobody can approve.
func Check(d *policy.Draft) []Finding {
	findings := make([]Finding, 0, len(d.Diags))
	add := func(severity, summary, detail string, at *hcl.Range) {
		f := Finding{Severity: severity, Summary: summary, Detail: detail}
		if at != nil {
			f.File, f.Line, f.Column = at.Filename, at.Start.Line, at.Start.Column
			f.Source = sourceLine(d.Files[f.File], f.Line)
		}
		findings = append(findings, f)
	}
	for _, diag := range d.Diags {
		add(choose(diag.Severity == hcl.DiagWarning, "warning", "error"), diag.Summary, diag.Detail, diag.Subject)
	}
	if !d.Diags.HasErrors() {
		lint(d.Rules(), func(severity string, r policy.Rule, summary, detail string) { add(severity, summary, detail, &r.Range) })
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column)
	})
	return findings
}

// Errors counts those that keep a policy from being loaded.
func Errors(findings []Finding) int {
	n := 0
	for _, f := range findings {
		if f.Severity == "error" {
			n++
		}
	}
	return n
}

func sourceLine(text []byte, line int) string {
	for range line - 1 {
		_, rest, found := bytes.Cut(text, []byte("\n"))
		if !found {
			return ""
		}
		text = rest
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	return string(first)
}

// Print writes findings for people, each with its line of the source.
func Print(w io.Writer, findings []Finding) error {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s: %s: %s\n", f.place(), f.Severity, f.Summary)
		if f.Source != "" {
			number := fmt.Sprintf("%5d", f.Line)
			fmt.Fprintf(&b, "%s | %s\n%s | %s^\n", number, visible(f.Source), strings.Repeat(" ", len(number)), indent(f.Source, f.Column))
		}
		fmt.Fprintf(&b, "        %s\n\n", visible(f.Detail))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (f Finding) place() string {
	if f.Line == 0 {
		return f.File
	}
	return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
}

// indent keeps tabs, so that the mark stands below its column.
func indent(line string, column int) string {
	var b strings.Builder
	for i, r := range []rune(line) {
		if i >= column-1 {
			break
		}
		if r == '\t' {
			b.WriteRune(r)
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// visible keeps what a file holds from painting on the reader's terminal.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069) {
			return '\uFFFD'
		}
		return r
	}, s)
}
