package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/session"
)

func newGrants() *cobra.Command {
	list := listing[session.Grant]{
		path: "/api/v1/grants", key: "grants", none: "There are no such grants.",
		head: []string{"ID", "STATE", "USER", "TARGET", "ROLE", "ENDS", "BY"},
		row: func(g session.Grant) []string {
			return []string{g.ID, string(g.State), g.User.String(), g.Key.Target, g.Key.Role, cli.Clock(g.Ends), strings.Join(g.By, ", ")}
		},
	}
	return cli.Group("grants", "See and end grants", "  sallyport grants list --state active\n  sallyport grants revoke 7Q2KMX",
		list.command("List your grants and those that you may see", "  sallyport grants list --state active", "active, expired, revoked or released"),
		action{
			kind: "grants", do: "revoke", use: "revoke GRANT", short: "End somebody's grant and cut its sessions, now",
			example: "  sallyport grants revoke 7Q2KMX --why \"wrong database\"", done: "Grant %s is revoked; its sessions are cut.", body: why,
		}.command(),
		action{
			kind: "grants", do: "release", use: "release GRANT", short: "Give one of your own grants back before its end",
			example: "  sallyport grants release 7Q2KMX", done: "Grant %s is released.",
		}.command(),
	)
}

func newSessions() *cobra.Command {
	list := listing[session.Record]{
		path: "/api/v1/sessions", key: "sessions", none: "There are no such sessions.",
		head: []string{"ID", "STATE", "USER", "TARGET", "ROLE", "FROM", "STARTED", "ENDS"},
		row: func(r session.Record) []string {
			state, ends := "live", r.Ends
			if !r.Live {
				state, ends = "ended: "+r.Cause, r.Ended
			}
			return []string{r.ID, state, r.User.String(), r.Key.Target, r.Key.Role, r.Client.Address.String(), cli.Clock(r.Started), cli.Clock(ends)}
		},
	}
	return cli.Group("sessions", "See and end live sessions", "  sallyport sessions list --state live\n  sallyport sessions kill 7Q2KMX",
		list.command("List your sessions and those that you may see", "  sallyport sessions list --state live", "live or ended"),
		action{
			kind: "sessions", do: "kill", use: "kill SESSION", short: "Cut one live session; its grant lives on",
			example: "  sallyport sessions kill 7Q2KMX --why \"runs since yesterday\"", done: "Session %s is cut.", body: why,
		}.command(),
	)
}

func newUsers() *cobra.Command {
	list := listing[identity.Account]{
		path: "/api/v1/users", key: "users", none: "Nobody has signed in yet.",
		head: []string{"USER", "GROUPS", "LAST SEEN", "DISABLED", "ID"},
		row: func(a identity.Account) []string {
			disabled := "-"
			if !a.Disabled.IsZero() {
				disabled = cli.Clock(a.Disabled) + " by " + a.DisabledBy
			}
			return []string{a.User.String(), cli.OrDash(strings.Join(a.User.Groups, ", ")), cli.Clock(a.LastSeen), disabled, a.User.ID()}
		},
	}
	return cli.Group("users", "See users, disable and enable them", "  sallyport users list\n  sallyport users disable alice@example.com --why \"left the company\"",
		list.command("List everybody who ever signed in", "  sallyport users list", ""),
		newUserSwitch("disable", "End everything of a user at once, and admit them no more"),
		newUserSwitch("enable", "Admit a disabled user again"),
	)
}
