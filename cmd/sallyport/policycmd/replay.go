package policycmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/author"
	"github.com/sallyport/sallyport/policy/bundle"
)

func (b Builtin) newReplay() *cobra.Command {
	c := &cobra.Command{
		Use: "replay --log DIR", Short: "Decide again what was decided, and say what this policy decides otherwise", Args: cobra.NoArgs,
		Long: `Reads the inputs of all decisions from a gate's log, or from a copy of it, decides them
again by the policy in this folder, and prints those that come out otherwise. A decision
depends on its input alone, so the answer is exact. The log is verified on the way.

Decisions of the very release whose files are here have to come out the same. Where one
does not, log or program is not what it was.

Exit codes: 0 done, whatever differs; 1 a decision cannot have been this release's, or
the log is tampered with; 2 the log could not be checked.`,
		Example: "  sallyport policy replay --log /var/lib/sallyport/audit --since 30d\n  sallyport policy replay --config /etc/sallyport/proxy.hcl --json",
	}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	log := c.Flags().String("log", "", "the log's folder, or a copy of it")
	path := c.Flags().String("config", "", "the gate's configuration, which says where its log is")
	since := c.Flags().String("since", "", "only what was decided within this time, such as 30d (default: all)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if (*log == "") == (*path == "") {
			return cli.Usage(c, errors.New("say where the log is: --log DIR or --config FILE"))
		}
		if *path != "" {
			conf, err := config.Load(*path, b.Protocols)
			if err != nil {
				return &cli.Exit{Code: cli.Mistyped, Err: err}
			}
			*log = conf.Audit.Dir
		}
		var from time.Time
		if *since != "" {
			span, err := policy.ParseSpan(*since)
			if err != nil || span <= 0 {
				return cli.Usage(c, fmt.Errorf("--since is a length of time such as 30d, not %q", *since))
			}
			from = time.Now().Add(-span)
		}
		d, err := b.draft(*dir)
		if err != nil {
			return err
		}
		own, err := releasesOf(*dir)
		if err != nil {
			return err
		}
		replay := author.NewReplay(d)
		report, err := audit.Verify(c.Context(), *log, audit.VerifyOptions{Each: func(e audit.Entry) error { return again(replay, e, from, own) }})
		return printReplay(c, *asJSON, replay, report, err)
	}
	return c
}

// releasesOf are the digests of the releases that list exactly the files of a folder.
func releasesOf(dir string) (map[string]bool, error) {
	s, err := bundle.Read(dir)
	if err != nil {
		return nil, err
	}
	files, err := bundle.ReadPolicy(dir)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, r := range s.Releases {
		m, _, err := bundle.ReadManifest(dir, r.Version)
		if err != nil {
			return nil, err
		}
		own[r.Digest] = m.Differs(files) == ""
	}
	return own, nil
}

// again decides the input of one entry, where it is a decision.
func again(replay *author.Replay, e audit.Entry, from time.Time, own map[string]bool) error {
	if e.Type != audit.RequestCreated && e.Type != audit.AskRefused || e.When().Before(from) {
		return nil
	}
	var body struct {
		Input    *policy.Input    `json:"input"`
		Decision *policy.Decision `json:"decision"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil {
		return fmt.Errorf("read the decision of entry %d: %w", e.Index, err)
	}
	if body.Input == nil || body.Decision == nil {
		return nil // of a version of the program that kept none
	}
	return replay.Add(e.Index, *body.Input, *body.Decision, own[body.Decision.Digest])
}

func printReplay(c *cobra.Command, asJSON bool, replay *author.Replay, report audit.Report, err error) error {
	w := c.OutOrStdout()
	if asJSON {
		out := struct {
			Log string `json:"log"`
			*author.Replay
		}{report.Verdict(), replay}
		if err := cli.PrintJSON(w, out); err != nil {
			return err
		}
	} else {
		if len(replay.List) > 0 {
			t := cli.NewTable(w, "ENTRY", "TIME", "WHO", "TARGET", "ROLE", "THEN", "NOW")
			for _, d := range replay.List {
				t.Row(strconv.FormatInt(d.Entry, 10), cli.Clock(d.Time), d.User, d.Target, d.Role, d.Then, d.Now)
			}
			if err := t.Flush(); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(w, "%d decisions, %d come out otherwise; the log is %s.\n", replay.Decisions, replay.Differ, report.Verdict()); err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return &cli.Exit{Code: cli.Mistyped, Err: err}
	case report.Exit() != 0:
		return &cli.Exit{Code: report.Exit(), Err: fmt.Errorf("the log is %s; type: sallyport audit verify", report.Verdict())}
	case replay.Wrong > 0:
		return &cli.Exit{Code: cli.Failed, Err: fmt.Errorf("%d decisions cannot have been made by the release that they name", replay.Wrong)}
	}
	return nil
}
