package policycmd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/author"
	"github.com/sallyport/sallyport/policy/strict"
)

func newFmt() *cobra.Command {
	c := &cobra.Command{Use: "fmt", Short: "Put the policy's files into the one style", Example: "  sallyport policy fmt\n  sallyport policy fmt --check", Args: cobra.NoArgs}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	only := c.Flags().Bool("check", false, "change nothing, and fail where something would change")
	c.RunE = func(c *cobra.Command, _ []string) error {
		changed, err := author.Format(*dir, !*only)
		if err != nil {
			return err
		}
		names := strict.SortedKeys(changed)
		if *asJSON {
			err = cli.PrintJSON(c.OutOrStdout(), map[string]any{"changed": slices.Concat([]string{}, names)})
		} else if len(names) > 0 {
			_, err = fmt.Fprintln(c.OutOrStdout(), cli.Safe(strings.Join(names, " ")))
		}
		if *only && len(names) > 0 {
			return errors.Join(err, &cli.Exit{Code: cli.Failed})
		}
		return err
	}
	return c
}

func (b Builtin) newCheck() *cobra.Command {
	c := &cobra.Command{
		Use: "check [DIR]", Short: "Say everything that is wrong or looks like a mistake", Args: cobra.MaximumNArgs(1),
		Example: "  sallyport policy check\n  sallyport policy check --json /srv/policy",
	}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			*dir = args[0]
		}
		d, err := b.readDraft(*dir)
		if err != nil {
			return err
		}
		findings := author.Check(d)
		wrong := author.Errors(findings)
		if *asJSON {
			err = cli.PrintJSON(c.OutOrStdout(), map[string]any{"ok": wrong == 0, "findings": findings})
		} else {
			err = author.Print(c.OutOrStdout(), findings)
		}
		if wrong > 0 {
			return errors.Join(err, &cli.Exit{Code: cli.Failed, Err: fmt.Errorf("%d errors in the policy", wrong)})
		}
		if err == nil && !*asJSON {
			_, err = fmt.Fprintf(c.OutOrStdout(), "fine: %d targets, %d rules, %d tests; type: sallyport policy test\n", len(d.Targets()), len(d.Rules()), len(d.Test()))
		}
		return err
	}
	return c
}

func (b Builtin) newTest() *cobra.Command {
	c := &cobra.Command{
		Use: "test [DIR]", Short: "Run the policy's own tests", Args: cobra.MaximumNArgs(1),
		Long: `Runs the tests in policy/**/*.test.hcl. The gate runs them too, and loads no policy
that fails one.

With --coverage every rule needs a test that it allows and one that is denied beside
it, and each of its clauses is taken away in turn, each stage and each person of it
too, and its longest is doubled: some test must fail each time.`,
		Example: "  sallyport policy test\n  sallyport policy test --coverage",
	}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	coverage := c.Flags().Bool("coverage", false, "fail where no test would notice a change of a rule")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			*dir = args[0]
		}
		d, err := b.draft(*dir)
		if err != nil {
			return err
		}
		outcomes, gaps := d.Test(), []author.Gap{}
		failed := 0
		for _, o := range outcomes {
			if o.Failed != "" {
				failed++
			}
		}
		if *coverage && failed == 0 {
			gaps = author.Coverage(d)
		}
		if *asJSON {
			err = cli.PrintJSON(c.OutOrStdout(), map[string]any{"ok": failed+len(gaps) == 0, "tests": outcomes, "gaps": gaps})
		} else {
			err = printTests(c, outcomes, gaps)
		}
		if failed+len(gaps) > 0 {
			return errors.Join(err, &cli.Exit{Code: cli.Failed, Err: fmt.Errorf("%d of %d tests failed, %d gaps", failed, len(outcomes), len(gaps))})
		}
		return err
	}
	return c
}

func printTests(c *cobra.Command, outcomes []policy.Outcome, gaps []author.Gap) error {
	w := c.OutOrStdout()
	for _, o := range outcomes {
		if o.Failed != "" {
			if _, err := fmt.Fprintf(w, "FAIL  %s (%s): %s\n", cli.Safe(o.Test), o.At, cli.Safe(o.Failed)); err != nil {
				return err
			}
		}
	}
	for _, g := range gaps {
		if _, err := fmt.Fprintf(w, "GAP   %s (%s): %s\n", g.Rule, g.At, g.Gap); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d tests\n", len(outcomes))
	return err
}

// An asked is the ask that explain is about.
type asked struct {
	user, target, role, object, reason, ticket, at, proof, issuer, client, browser, duration string
	groups                                                                                   []string
	claims                                                                                   map[string]string
	glass, workload                                                                          bool
}

func (b Builtin) newExplain() *cobra.Command {
	c := &cobra.Command{
		Use: "explain", Short: "Say what would come of an ask, who could approve it, and what each rule has to say", Args: cobra.NoArgs,
		Example: "  sallyport policy explain --user eve@example.com --group engineering --target orders --role reader\n  sallyport policy explain --user eve@example.com --group oncall --target orders --role reader --at \"2030-01-31 03:00\"",
	}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	var a asked
	f := c.Flags()
	f.StringVar(&a.user, "user", "", "e-mail of who asks")
	f.StringArrayVar(&a.groups, "group", nil, "a group that they are in; once for each")
	f.StringToStringVar(&a.claims, "claim", nil, "NAME=VALUE, a claim that identity.hcl maps")
	f.StringVar(&a.issuer, "issuer", "", "the issuer's name in identity.hcl (default: the first that fits)")
	f.BoolVar(&a.workload, "workload", false, "a pipeline asks, no person")
	f.StringVar(&a.target, "target", "", "the target's name")
	f.StringVar(&a.role, "role", "", "the role's name")
	f.StringVar(&a.object, "object", "", "what inside the target is named: a database")
	f.StringVar(&a.duration, "for", "", "for how long, such as 30m (default: the rule's)")
	f.StringVar(&a.reason, "reason", "because", "the reason that they give")
	f.StringVar(&a.ticket, "ticket", "", "the ticket that they give")
	f.StringVar(&a.proof, "proof", string(identity.ByBrowser), "how they show who they are")
	f.StringVar(&a.at, "at", "", "when, such as \"2030-01-31 03:00\", in the policy's zone (default: now)")
	f.StringVar(&a.client, "client", "192.0.2.1", "the address that the connection comes from")
	f.StringVar(&a.browser, "browser", "", "the address that they sign in from (default: the same)")
	f.BoolVar(&a.glass, "break-glass", false, "they break the glass")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if a.user == "" || a.target == "" || a.role == "" {
			return cli.Usage(c, errors.New("say --user, --target and --role"))
		}
		d, err := b.draft(*dir)
		if err != nil {
			return err
		}
		in, err := a.input(d)
		if err != nil {
			return cli.Usage(c, err)
		}
		decision, reasons := d.Explain(in)
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), map[string]any{"input": in, "decision": decision, "automatic": decision.Automatic(), "rules": reasons})
		}
		return printExplained(c, in, decision, reasons)
	}
	return c
}

func (a *asked) input(d *policy.Draft) (policy.Input, error) {
	kind := identity.Person
	if a.workload {
		kind = identity.Workload
	}
	u := identity.User{Subject: a.user, Email: a.user, Person: a.user, Kind: kind, Groups: a.groups, Claims: a.claims}
	for _, i := range d.Identity().Issuers {
		if u.Issuer == "" && i.Kind == kind && (a.issuer == "" || i.Name == a.issuer) {
			u.Issuer = i.URL
		}
	}
	if u.Issuer == "" {
		return policy.Input{}, fmt.Errorf("no issuer %q of the policy vouches for a %s", a.issuer, kind)
	}
	in := policy.Input{
		User: u, Proof: identity.ProofKind(a.proof), Target: a.target, Role: a.role, Object: a.object,
		Reason: a.reason, Ticket: a.ticket, Time: time.Now(), BreakGlass: a.glass,
	}
	var err error
	if in.Client, err = netip.ParseAddr(a.client); err != nil {
		return in, fmt.Errorf("--client is no address: %q", a.client)
	}
	if a.browser != "" {
		if in.Browser, err = netip.ParseAddr(a.browser); err != nil {
			return in, fmt.Errorf("--browser is no address: %q", a.browser)
		}
	}
	if a.duration != "" {
		if in.Duration, err = policy.ParseSpan(a.duration); err != nil {
			return in, fmt.Errorf("--for: %w", err)
		}
	}
	if a.at != "" {
		if in.Time, err = time.ParseInLocation("2006-01-02 15:04", a.at, d.Zone()); err != nil {
			return in, fmt.Errorf("--at is a time such as \"2030-01-31 03:00\", not %q", a.at)
		}
	}
	return in, nil
}

func printExplained(c *cobra.Command, in policy.Input, d policy.Decision, reasons []policy.Reason) error {
	w := c.OutOrStdout()
	say := string(d.Effect)
	switch {
	case d.Automatic():
		say = "allowed at once, for " + policy.FormatSpan(d.Duration)
	case d.Effect == policy.Allow:
		say = "allowed for " + policy.FormatSpan(d.Duration) + " after the yes of people"
	}
	fmt.Fprintf(w, "%s as %s at %s: %s\n  %s\n", cli.Safe(in.Target), cli.Safe(in.Role), in.Time.Format("2006-01-02 15:04 MST"), say, cli.Safe(d.Why)) //nolint:errcheck // flush reports it
	if d.Hint != "" {
		fmt.Fprintf(w, "  %s\n", cli.Safe(d.Hint)) //nolint:errcheck // flush reports it
	}
	for i, s := range d.Stages {
		fmt.Fprintf(w, "  stage %d: %s, but not %s\n", i+1, cli.Safe(s.String()), cli.Safe(in.User.String())) //nolint:errcheck // flush reports it
	}
	t := cli.NewTable(w, "", "RULE", "AT", "WHY")
	for _, r := range reasons {
		mark := " "
		if r.Takes {
			mark = "*"
		}
		t.Row(mark, r.Kind+" "+r.Rule, r.At, r.Why)
	}
	return t.Flush()
}
