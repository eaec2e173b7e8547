package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/internal/cli"
)

func newAudit() *cobra.Command {
	return cli.Group("audit", "Check and read the tamper-evident log", "  sallyport audit verify --config /etc/sallyport/proxy.hcl\n  sallyport audit tail",
		newAuditVerify(), newAuditTail(), newAuditShow(), newAuditInit())
}

// recordFlags say where a record lies on this machine.
type recordFlags struct{ config, dir, recordings string }

func (f *recordFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.config, "config", "", "the gate's configuration, which says where log and recordings are")
	c.Flags().StringVar(&f.dir, "dir", "", "the log's folder, instead of --config")
	c.Flags().StringVar(&f.recordings, "recordings", "", "the recordings' folder, with --dir; without it they are not checked")
}

// folders are those of log and recordings.
func (f *recordFlags) folders(c *cobra.Command) (dir, recordings string, err error) {
	switch {
	case f.dir != "" && f.config != "":
		return "", "", cli.Usage(c, errors.New("give --config or --dir, not both"))
	case f.dir != "":
		return f.dir, f.recordings, nil
	}
	if f.config == "" {
		f.config = "/etc/sallyport/proxy.hcl"
	}
	loaded, err := config.Load(f.config, protocolNames())
	if err != nil {
		// It is not known where the record is, so nothing can be said about it.
		return "", "", &cli.Exit{Code: cli.Mistyped, Err: fmt.Errorf("could not check: %w", err)}
	}
	return loaded.Audit.Dir, loaded.Recordings.Dir, nil
}

func newAuditVerify() *cobra.Command {
	var where recordFlags
	var key, since string
	c := &cobra.Command{
		Use: "verify", Short: "Prove that the record is untouched",
		Long: `Recomputes the whole log, checks every signed checkpoint, counter and reference,
and that each recording's chunks are those that the log names. It needs no running
gate and changes nothing; it may run beside one.

Exit codes: 0 verified; 1 tampered (says what and where); 2 could not check.`,
		Example: "  sallyport audit verify --config /etc/sallyport/proxy.hcl\n  sallyport audit verify --dir /mnt/copy/audit --recordings /mnt/copy/recordings --since saved.cp",
	}
	where.add(c)
	c.Flags().StringVar(&key, "key", "", "the log's public key, kept where the gate's administrators cannot change it")
	c.Flags().StringVar(&since, "since", "", "a checkpoint of this log that was saved before: the log must contain it")
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		dir, recordings, err := where.folders(c)
		if err != nil {
			return err
		}
		o := audit.VerifyOptions{Key: key, Recordings: recordings}
		if since != "" {
			if o.Since, err = os.ReadFile(since); err != nil {
				return &cli.Exit{Code: cli.Mistyped, Err: fmt.Errorf("could not check: read the saved checkpoint: %w", err)}
			}
		}
		return verify(c, dir, o, *asJSON)
	}
	return c
}

// verify checks and prints; the exit code is the report's.
func verify(c *cobra.Command, dir string, o audit.VerifyOptions, asJSON bool) error {
	report, err := audit.Verify(c.Context(), dir, o)
	if err != nil && len(report.Problems) == 0 {
		report.Problems = append(report.Problems, err.Error())
	}
	if asJSON {
		out := struct {
			Verdict string `json:"verdict"`
			audit.Report
		}{report.Verdict(), report}
		if err := cli.PrintJSON(c.OutOrStdout(), out); err != nil {
			return err
		}
	} else if err := printReport(c.OutOrStdout(), report); err != nil {
		return err
	}
	if code := report.Exit(); code != 0 {
		return &cli.Exit{Code: code}
	}
	return nil
}

func printReport(w io.Writer, r audit.Report) error {
	out := &lines{w: w}
	out.say("%s: %d entries, %d checkpoints, %d recordings with %d chunks", r.Verdict(), r.Size, r.Checkpoints, r.Recordings, r.Chunks)
	for _, f := range r.Findings {
		out.say("  tampered: %s", f)
	}
	if r.More > 0 {
		out.say("  and %d more", r.More)
	}
	for _, p := range r.Problems {
		out.say("  could not check: %s", p)
	}
	for _, n := range r.Notes {
		out.say("  note: %s", n)
	}
	if r.Origin != "" {
		out.say("log %s, last entry %s", r.Origin, cli.Clock(r.Last))
		out.say("root %x", r.Root[:])
		out.say("key  %s (%s)", r.Key, keyFrom(r.KeyFrom))
	}
	return out.err
}

func keyFrom(from string) string {
	if from == "given" {
		return "given"
	}
	return "the folder's own: give --key from another place to prove more"
}

// lines prints lines until one fails.
type lines struct {
	w   io.Writer
	err error
}

func (l *lines) say(format string, args ...any) {
	if l.err == nil {
		_, l.err = fmt.Fprintln(l.w, cli.Safe(fmt.Sprintf(format, args...)))
	}
}

// logEntry is one entry as the API sends it.
type logEntry struct {
	Index int64           `json:"index"`
	Time  time.Time       `json:"time"`
	Type  string          `json:"type"`
	Body  json.RawMessage `json:"body"`
}

type logEntries struct {
	Entries []json.RawMessage `json:"entries"`
	Next    int64             `json:"next"`
}

func newAuditTail() *cobra.Command {
	var flags clientFlags
	var follow bool
	var count int
	c := &cobra.Command{
		Use: "tail", Short: "Show the newest entries, and those that come",
		Example: "  sallyport audit tail -n 20\n  sallyport audit tail --follow --json",
	}
	flags.add(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until Ctrl-C")
	c.Flags().IntVarP(&count, "lines", "n", 20, "how many to begin with, at most 500")
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		query := url.Values{"limit": {strconv.Itoa(count)}}
		for {
			var got logEntries
			if err := gate.get(c.Context(), "/api/v1/log/entries", query, &got); err != nil {
				return err
			}
			for _, raw := range got.Entries {
				if err := printEntry(c.OutOrStdout(), raw, *asJSON); err != nil {
					return err
				}
			}
			if !follow {
				return nil
			}
			query = url.Values{"from": {strconv.FormatInt(got.Next, 10)}, "limit": {"500"}}
			if len(got.Entries) == 0 && !pause(c.Context(), time.Second) {
				return nil
			}
		}
	}
	return c
}

// pause waits, and reports false when ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// printEntry prints an entry as one line.
func printEntry(w io.Writer, raw json.RawMessage, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintf(w, "%s\n", raw)
		return err
	}
	var e logEntry
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("read the gate's answer: %w", err)
	}
	_, err := fmt.Fprintf(w, "%6d  %s  %-20s %s\n", e.Index, cli.Clock(e.Time), cli.Safe(e.Type), cli.Safe(string(e.Body)))
	return err
}

func newAuditShow() *cobra.Command {
	var flags clientFlags
	c := &cobra.Command{
		Use: "show NUMBER", Short: "Show one entry of the log", Args: cobra.ExactArgs(1),
		Example: "  sallyport audit show 41",
	}
	flags.add(c)
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		n, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || n < 0 {
			return cli.Usage(c, fmt.Errorf("%q is no number of an entry", args[0]))
		}
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		var got logEntries
		if err := gate.get(c.Context(), "/api/v1/log/entries", url.Values{"from": {strconv.FormatInt(n, 10)}, "limit": {"1"}}, &got); err != nil {
			return err
		}
		if len(got.Entries) == 0 {
			return fmt.Errorf("the log has no entry %d yet", n)
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), got.Entries[0])
		}
		return printEntry(c.OutOrStdout(), got.Entries[0], false)
	}
	return c
}

func newAuditInit() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "init", Short: "Begin an empty log where there is none",
		Long: `Makes an empty log with a new key where the configuration says. Log and store belong
together, so neither may be there: put both away first, and keep them. A log that was
there before is not continued, and its checkpoints say nothing about the new one.`,
		Example: "  sallyport audit init --config /etc/sallyport/proxy.hcl", Args: cobra.NoArgs,
	}
	configFlag(c, &path)
	c.RunE = func(c *cobra.Command, _ []string) error {
		loaded, err := config.Load(path, protocolNames())
		if err != nil {
			return err
		}
		if _, err := os.Stat(loaded.Store.Path); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("there is a store at %s, which belongs to another log; bring that log back, or put the store away too", loaded.Store.Path)
		}
		if err := audit.Init(loaded.Audit.Dir, loaded.Audit.Origin); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "An empty log is in %s. Keep a copy of log.json, which has its public key, where nobody of the gate can change it.\n", loaded.Audit.Dir)
		return err
	}
	return c
}
