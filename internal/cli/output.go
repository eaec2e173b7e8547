package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// JSONFlag adds --json, which every command that reads has.
func JSONFlag(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print JSON, for programs")
}

// PrintJSON prints v for programs, in lines that people can read too.
func PrintJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// A Table lines up columns. Cells come from other people: control characters are
// shown escaped, so that no name or reason can paint on the reader's terminal.
type Table struct{ w *tabwriter.Writer }

// NewTable begins a table with its head.
func NewTable(w io.Writer, head ...string) *Table {
	t := &Table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.Row(head...)
	return t
}

// Row adds a line.
func (t *Table) Row(cells ...string) {
	for i, cell := range cells {
		cells[i] = Safe(cell)
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t")) //nolint:errcheck // Flush reports it
}

// Flush prints the table.
func (t *Table) Flush() error { return t.w.Flush() }

// Safe shows control, direction and zero-width characters as \u{...}.
func Safe(s string) string {
	hostile := func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co) || r == unicode.ReplacementChar
	}
	if strings.IndexFunc(s, hostile) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hostile(r) {
			fmt.Fprintf(&b, "\\u{%x}", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Clock writes a time for tables, in UTC with seconds.
func Clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// OrDash puts a dash where there is nothing to say.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
