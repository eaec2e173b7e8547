package policycmd

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/author"
	"github.com/sallyport/sallyport/policy/bundle"
)

func (b Builtin) newDiff() *cobra.Command {
	c := &cobra.Command{
		Use: "diff --against release/N|DIR", Short: "Say what changes for whom: the matrix of people, targets and roles", Args: cobra.NoArgs,
		Long: `Compares the policy with another one, and prints each group's or person's access to
each role of each target that is not what it was. release/N is taken from the git
commit that its MANIFEST names, and must be as that MANIFEST lists it.`,
		Example: "  sallyport policy diff --against release/6\n  sallyport policy diff --against ../policy-of-yesterday",
	}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	against := c.Flags().String("against", "", "release/N, or another policy's folder")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *against == "" {
			return cli.Usage(c, errors.New("say what to compare with: --against release/6"))
		}
		after, err := b.draft(*dir)
		if err != nil {
			return err
		}
		before, err := otherDraft(c.Context(), *dir, *against)
		if err != nil {
			return err
		}
		d := author.Diff(before, after)
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), d)
		}
		return printDifference(c.OutOrStdout(), d)
	}
	return c
}

func printDifference(w io.Writer, d author.Difference) error {
	if d.None() {
		_, err := fmt.Fprintln(w, "Nothing changes.")
		return err
	}
	if len(d.Access) > 0 {
		t := cli.NewTable(w, "TARGET", "ROLE", "WHO", "BEFORE", "AFTER")
		for _, ch := range d.Access {
			t.Row(ch.Target, ch.Role, ch.Who, cli.OrDash(strings.Join(ch.Before, " | ")), cli.OrDash(strings.Join(ch.After, " | ")))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if err := printLines(w, "Blocks whose text changes:", d.Blocks); err != nil {
		return err
	}
	return printLines(w, "Other files that change:", d.Files)
}

func printLines(w io.Writer, head string, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(w, "\n"+head)
	for _, line := range lines {
		if err == nil {
			_, err = fmt.Fprintln(w, "  "+cli.Safe(line))
		}
	}
	return err
}

// otherDraft reads the policy to compare with.
func otherDraft(ctx context.Context, dir, against string) (*policy.Draft, error) {
	number, isRelease := strings.CutPrefix(against, "release/")
	version, err := strconv.Atoi(number)
	if !isRelease || err != nil {
		d, err := policy.ReadDraft(against, nil)
		if err != nil {
			return nil, err
		}
		return d, d.Err()
	}
	m, _, err := bundle.ReadManifest(dir, version)
	if err != nil {
		return nil, err
	}
	files, err := bundle.ReadPolicy(dir)
	if err == nil && m.Differs(files) == "" {
		return policy.NewDraft(files, nil), nil
	}
	if m.Commit == "" {
		return nil, fmt.Errorf("%s names no commit; check its files out elsewhere and type: sallyport policy diff --against DIR", against)
	}
	if files, err = committed(ctx, dir, m.Commit); err != nil {
		return nil, err
	}
	if name := m.Differs(files); name != "" {
		return nil, fmt.Errorf("commit %s has another %s than %s lists", m.Commit, name, against)
	}
	d := policy.NewDraft(files, nil)
	return d, d.Err()
}

// committed reads policy/ as it was at a commit.
func committed(ctx context.Context, dir, commit string) (map[string][]byte, error) {
	out, err := git(ctx, dir, "archive", "--format=tar", commit, "policy")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read commit %s: %w", commit, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			return nil, fmt.Errorf("read commit %s: %w", commit, err)
		}
	}
}

func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		first, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		return nil, fmt.Errorf("git %s: %s", args[0], cli.Safe(first))
	}
	return nil, fmt.Errorf("git %s: %w", args[0], err)
}

func (b Builtin) newExport() *cobra.Command {
	c := &cobra.Command{
		Use: "export", Short: "Print the whole policy as JSON, for other tools", Args: cobra.NoArgs,
		Example: "  sallyport policy export | jq '.rules[] | select(.conditional)'",
	}
	dir := dirFlag(c)
	cli.JSONFlag(c) // it is always JSON
	c.RunE = func(c *cobra.Command, _ []string) error {
		d, err := b.draft(*dir)
		if err != nil {
			return err
		}
		return cli.PrintJSON(c.OutOrStdout(), exported(d))
	}
	return c
}

// exported leaves out what holds no facts: decoders and certificates.
func exported(d *policy.Draft) map[string]any {
	targets := []any{}
	for _, t := range d.Targets() {
		roles := []any{}
		for _, r := range t.Roles {
			roles = append(roles, map[string]any{"name": r.Name, "account": r.Account, "credential": r.Credential})
		}
		targets = append(targets, map[string]any{"name": t.Name, "protocol": t.Protocol, "address": t.Address, "labels": t.Labels, "roles": roles, "tls": t.TLS.Mode, "pins": t.TLS.Pins})
	}
	return map[string]any{"targets": targets, "issuers": d.Identity().Issuers, "rules": d.Rules(), "zone": d.Zone().String()}
}
