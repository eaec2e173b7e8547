package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/spell"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

func newRequests() *cobra.Command {
	list := listing[session.Request]{
		path: "/api/v1/requests", key: "requests", none: "There are no such requests.",
		head: []string{"ID", "STATE", "USER", "TARGET", "ROLE", "FOR", "MADE", "REASON"},
		row: func(r session.Request) []string {
			return []string{r.ID, string(r.State), r.User.String(), r.Input.Target, r.Input.Role, spell.Short(r.Decision.Duration), cli.Clock(r.Created), cli.OrDash(r.Input.Reason)}
		},
	}
	return cli.Group("requests", "See, make and decide requests", "  sallyport requests list --state pending\n  sallyport requests approve 7Q2KMX",
		list.command("List your requests and those that you may see", "  sallyport requests list\n  sallyport requests list --state pending --json", "pending, approved, denied, withdrawn or timed-out"),
		newRequestsShow(), newRequestsNew(),
		action{
			kind: "requests", do: "approve", use: "approve REQUEST", short: "Say yes to a request, or less than yes",
			example: "  sallyport requests approve 7Q2KMX\n  sallyport requests approve 7Q2KMX --for 15m --word \"only this once\"\n  sallyport requests approve 7Q2KMX --channels sftp",
			done:    "Approved. See: sallyport requests show %s", body: verdict(true),
		}.command(),
		action{
			kind: "requests", do: "deny", use: "deny REQUEST", short: "Say no to a request",
			example: "  sallyport requests deny 7Q2KMX --word \"ask the oncall first\"",
			done:    "Denied. See: sallyport requests show %s", body: verdict(false),
		}.command(),
		action{
			kind: "requests", do: "retract", use: "retract REQUEST", short: "Take your own yes back, before it has taken effect",
			example: "  sallyport requests retract 7Q2KMX", done: "Your yes to %s is taken back.",
		}.command(),
		action{
			kind: "requests", do: "withdraw", use: "withdraw REQUEST", short: "Take one of your own requests back",
			example: "  sallyport requests withdraw 7Q2KMX", done: "Request %s is withdrawn.",
		}.command(),
	)
}

func verdict(yes bool) func(c *cobra.Command) func() map[string]any {
	return func(c *cobra.Command) func() map[string]any {
		word := c.Flags().String("word", "", "a word to the person, kept on the record")
		if !yes {
			return func() map[string]any { return map[string]any{"word": *word} }
		}
		span := c.Flags().String("for", "", "shorter than asked, such as 15m")
		readOnly := c.Flags().Bool("read-only", false, "reading only, where the protocol can enforce it")
		channels := c.Flags().StringSlice("channels", nil, "SSH: only these, such as exec,sftp")
		forward := c.Flags().StringSlice("forward", nil, "SSH: only to these destinations, host:port")
		listen := c.Flags().StringSlice("listen", nil, "SSH: only listening (-R) at these places, host:port")
		methods := c.Flags().StringSlice("methods", nil, "HTTP: only these, such as GET,HEAD")
		paths := c.Flags().StringArray("path", nil, "HTTP: only this path pattern; once for each")
		return func() map[string]any {
			return map[string]any{
				"word": *word, "duration": *span, "read_only": *readOnly,
				"channels": *channels, "forward": *forward, "listen": *listen, "methods": *methods, "paths": *paths,
			}
		}
	}
}

func newRequestsShow() *cobra.Command {
	var flags clientFlags
	c := &cobra.Command{Use: "show REQUEST", Short: "Show one request", Example: "  sallyport requests show 7Q2KMX", Args: cobra.ExactArgs(1), ValidArgsFunction: completeIDs(&flags, "requests", "")}
	flags.add(c)
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := gate.get(c.Context(), apiPath("requests", args[0]), nil, &raw); err != nil {
			return err
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), raw)
		}
		return printRequest(c.OutOrStdout(), raw)
	}
	return c
}

func newRequestsNew() *cobra.Command {
	var flags clientFlags
	var reason, ticket, span, object, extends string
	var glass bool
	c := &cobra.Command{
		Use: "new TARGET ROLE", Short: "Ask before you connect",
		Long: `Makes a request without a connection. Once it is approved, connections of yours to
that target and role go through until the grant ends. With --extends it asks for more
time for a grant that runs; its sessions go on without connecting again.
With --break-glass it asks for the policy's break-glass rules, which let you in at once:
everybody is told, and it is reviewed afterwards.`,
		Example: "  sallyport requests new orders reader --reason \"INC-42 stuck order\" --for 30m\n" +
			"  sallyport requests new orders reader --extends 7Q2KMX --for 30m\n" +
			"  sallyport requests new orders writer --break-glass --reason \"INC-9 orders are lost\"",
		Args: cobra.ExactArgs(2), ValidArgsFunction: completeTargets(&flags),
	}
	flags.add(c)
	c.Flags().StringVar(&reason, "reason", "", "why, for those who decide")
	c.Flags().StringVar(&ticket, "ticket", "", "the ticket, where the rule asks for one")
	c.Flags().StringVar(&span, "for", "", "how long, such as 30m (default: as long as the rule allows)")
	c.Flags().StringVar(&object, "object", "", "what inside the target, such as another database")
	c.Flags().StringVar(&extends, "extends", "", "one of your running grants, to lengthen it")
	c.Flags().BoolVar(&glass, "break-glass", false, "ask nobody: at once, loud, and reviewed afterwards")
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		ask := map[string]any{
			"target": args[0], "role": args[1], "object": object, "reason": reason, "ticket": ticket, "duration": span, "extends": extends,
			"break_glass": glass,
		}
		var raw json.RawMessage
		if err := gate.post(c.Context(), "/api/v1/requests", ask, &raw); err != nil {
			return err
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), raw)
		}
		return printRequest(c.OutOrStdout(), raw)
	}
	return c
}

func printRequest(w io.Writer, raw json.RawMessage) error {
	var r session.Request
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("read the gate's answer: %w", err)
	}
	t := cli.NewTable(w, "request", r.ID)
	t.Row("state", string(r.State))
	t.Row("user", r.User.String())
	t.Row("target", r.Input.Target+" as "+r.Input.Role)
	t.Row("for", spell.Short(r.Decision.Duration))
	t.Row("reason", cli.OrDash(r.Input.Reason))
	t.Row("rule", fmt.Sprintf("%s (%s, version %d)", r.Decision.Rule, r.Decision.At, r.Decision.Version))
	t.Row("asks for", asksFor(r.Decision))
	t.Row("made", cli.Clock(r.Created))
	if r.State == session.RequestPending {
		t.Row("times out", cli.Clock(r.TimesOut))
	}
	for _, a := range r.Approvals {
		by, word := a.By.String(), "no"
		if a.Rule != "" {
			by = "rule " + a.Rule
		}
		if a.Yes {
			word = "yes"
		}
		t.Row(word+" of", strings.TrimSpace(by+" at "+cli.Clock(a.At)+" "+a.Word))
	}
	if r.Outcome != "" {
		t.Row("outcome", r.Outcome)
	}
	if r.Grant != "" {
		t.Row("grant", r.Grant)
	}
	return t.Flush()
}

func asksFor(d policy.Decision) string {
	if d.Automatic() {
		return "nobody"
	}
	var stages []string
	for _, s := range d.Stages {
		stages = append(stages, fmt.Sprintf("%d of %s", s.Count, strings.Join(append(append([]string{}, s.From.Groups...), s.From.Emails...), ", ")))
	}
	return strings.Join(stages, ", then ")
}
