// Package cli is what all of a program's commands do alike: how they end, and how they
// print what other people wrote.
package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes, the same for every verb; they are in the help of the root command.
const (
	Failed   = 1 // refused, failed, or (verify) tampered
	Mistyped = 2 // typed wrongly, or (verify) could not be checked
)

// Exit is an error that ends the program with a code of its own.
type Exit struct {
	Code int
	Err  error // nil: everything has been said
}

func (e *Exit) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

func (e *Exit) Unwrap() error { return e.Err }

// Usage says that a command was typed wrongly, and what to type for help.
func Usage(c *cobra.Command, err error) error {
	return &Exit{Code: Mistyped, Err: fmt.Errorf("%w; type: %s --help", err, c.CommandPath())}
}

// Group makes a command that only has sub-commands.
func Group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Example: example, Args: cobra.NoArgs, SuggestionsMinimumDistance: 2,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(commands...)
	return c
}
