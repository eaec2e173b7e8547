package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/policycmd"
	"github.com/sallyport/sallyport/internal/cli"
)

const about = `Sallyport is a gate in front of databases, machines and web applications: it learns who calls, holds the
connection until the people whom the policy asks for have agreed, records what
happens, and cuts at the end.

Exit codes: 0 done; 1 refused or failed, and for verify: tampered; 2 typed
wrongly, and for verify: it could not be checked.`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use: "sallyport", Short: "Hold, approve, record and cut access", Long: about,
		Example:      "  sallyport demo\n  sallyport login --server https://gate.example.com\n  sallyport requests list",
		SilenceUsage: true, SilenceErrors: true, SuggestionsMinimumDistance: 2,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		Args:              cobra.NoArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddGroup(
		&cobra.Group{ID: "use", Title: "Use a gate:"},
		&cobra.Group{ID: "run", Title: "Run a gate:"},
		&cobra.Group{ID: "record", Title: "Check the record:"},
	)
	root.AddCommand(inGroup("use", newLogin(), newLogout(), newWhoami(), newToken(), newSSHConfig(), newRequests(), newGrants(), newReviews(), newSessions(), newUsers())...)
	root.AddCommand(inGroup("run", newDemo(), newServe(), newCheck(), newInit(), policycmd.New(policycmd.Builtin{Protocols: protocolNames(), Scopes: scopes(), Check: checkTargets}))...)
	root.AddCommand(inGroup("record", newAudit(), newRecordings())...)
	root.AddCommand(newVersion())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return cli.Usage(c, err) })
	checkArgs(root)
	return root
}

func inGroup(id string, commands ...*cobra.Command) []*cobra.Command {
	for _, c := range commands {
		c.GroupID = id
	}
	return commands
}

// checkArgs gives every command's wrong arguments the exit code of wrong usage, and
// a command that only has sub-commands an error for words it does not know.
func checkArgs(c *cobra.Command) {
	check := c.Args
	if check == nil {
		check = cobra.NoArgs
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return cli.Usage(c, unknown(c, args, err))
		}
		return nil
	}
	for _, sub := range c.Commands() {
		checkArgs(sub)
	}
}

// unknown says a mistyped sub-command with what was meant.
func unknown(c *cobra.Command, args []string, err error) error {
	if !c.HasSubCommands() || len(args) == 0 {
		return err
	}
	said := fmt.Sprintf("there is no %q in %s", args[0], c.CommandPath())
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		said += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return errors.New(said)
}
