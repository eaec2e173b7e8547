package main

import (
	"context"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/session"
)

// completeWait bounds what the shell waits for at a Tab.
const completeWait = 3 * time.Second

type completer func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective)

// stateFor is the state that a thing is in while something can be done to it.
var stateFor = map[string]string{
	"approve": "pending", "deny": "pending", "withdraw": "pending", "revoke": "active", "release": "active", "kill": "live",
}

// listed is what requests, grants and sessions have in common.
type listed struct {
	ID         string
	User       identity.User
	Input, Key struct{ Target, Role string }
}

// completeIDs offers the identifiers of a list of the gate, the newest first. Where it
// cannot be asked there is nothing to offer: the verb itself will say why.
func completeIDs(flags *clientFlags, kind, state string) completer {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var lists map[string][]listed
		if len(args) > 0 || ask(c, flags, apiPath(kind), url.Values{"state": {state}, "limit": {"50"}}, &lists) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var all []cobra.Completion
		for _, one := range lists[kind] {
			what := one.User.String() + ": " + one.Input.Target + one.Key.Target + " as " + one.Input.Role + one.Key.Role
			all = append(all, cobra.CompletionWithDesc(cli.Safe(one.ID), cli.Safe(what)))
		}
		return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeTargets offers what this person can ask for: a target, then a role of it.
func completeTargets(flags *clientFlags) completer {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var list struct{ Targets []session.TargetView }
		if len(args) > 1 || ask(c, flags, apiPath("targets"), nil, &list) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var all []cobra.Completion
		seen := map[string]bool{}
		for _, t := range list.Targets {
			word, what := t.Target, t.Protocol
			if len(args) == 1 {
				word, what = t.Role, "takes "+t.Takes
			}
			if (len(args) == 0 || args[0] == t.Target) && !seen[word] {
				seen[word] = true
				all = append(all, cobra.CompletionWithDesc(cli.Safe(word), cli.Safe(what)))
			}
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

func ask(c *cobra.Command, flags *clientFlags, path string, query url.Values, into any) error {
	gate, err := flags.signedIn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), completeWait)
	defer cancel()
	return gate.get(ctx, path, query, into)
}
