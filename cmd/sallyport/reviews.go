package main

import (
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/session"
)

func newReviews() *cobra.Command {
	list := listing[session.Broken]{
		path: "/api/v1/reviews", key: "reviews", none: "There are no such reviews.",
		head: []string{"REVIEW", "STATE", "USER", "TARGET", "ROLE", "SINCE", "DUE", "REASON"},
		row: func(r session.Broken) []string {
			state := r.State
			switch {
			case r.Active:
				state = "active"
			case r.Late:
				state = "overdue"
			}
			return []string{r.ID, state, r.User.String(), r.Key.Target, r.Key.Role, cli.Clock(r.Opened), cli.Clock(r.Due), cli.OrDash(r.Reason)}
		},
	}
	return cli.Group("reviews", "See who broke the glass, and review it", "  sallyport reviews list --state open\n  sallyport reviews done 7Q2KMX --word \"two rows put back; fine\"",
		list.command("List the break-glass grants that you may see, and their reviews", "  sallyport reviews list\n  sallyport reviews list --state open --json", "open or done"),
		action{
			kind: "reviews", do: "done", use: "done REVIEW --word TEXT", short: "Say what you found, and close a review",
			example: "  sallyport reviews done 7Q2KMX --word \"two rows put back; fine\"", done: "Review %s is done.",
			body: func(c *cobra.Command) func() map[string]any {
				word := c.Flags().String("word", "", "what you found, kept on the record")
				return func() map[string]any { return map[string]any{"word": *word} }
			},
		}.command(),
	)
}
