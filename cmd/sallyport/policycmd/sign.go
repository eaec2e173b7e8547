package policycmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/author"
	"github.com/sallyport/sallyport/policy/bundle"
)

func versionOf(c *cobra.Command, args []string) (int, error) {
	v, err := strconv.Atoi(args[0])
	if err != nil || v < 1 {
		return 0, cli.Usage(c, fmt.Errorf("a version is a whole number from 1, not %q", args[0]))
	}
	return v, nil
}

func (b Builtin) newRelease() *cobra.Command {
	c := &cobra.Command{
		Use: "release VERSION", Short: "List the policy's files for signing", Args: cobra.ExactArgs(1),
		Long: `Checks and tests the policy, and writes release/VERSION/MANIFEST: what people sign.
A release is never changed; a new one needs a new version.`,
		Example: "  sallyport policy release 7 --expires 90d",
	}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	expires := c.Flags().String("expires", "90d", "for how long the policy allows anything new")
	name := c.Flags().String("name", "", "the policy's name (default: as before)")
	commit := c.Flags().String("commit", "", "the source's commit (default: git's HEAD, where policy/ is as committed)")
	c.RunE = func(c *cobra.Command, args []string) error {
		version, err := versionOf(c, args)
		if err != nil {
			return err
		}
		span, err := policy.ParseSpan(*expires)
		if err != nil || span <= 0 {
			return cli.Usage(c, fmt.Errorf("--expires is a length of time such as 90d, not %q", *expires))
		}
		if err := b.releasable(*dir); err != nil {
			return err
		}
		if *commit == "" {
			*commit = head(c.Context(), *dir)
		}
		m, err := bundle.Release(*dir, bundle.Draft{Name: *name, Version: version, Commit: *commit, Expires: time.Now().Add(span)})
		if err != nil {
			return err
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), map[string]any{"version": m.Version, "digest": bundle.Digest(m.Bytes()), "expires": m.Expires, "commit": m.Commit, "files": len(m.Files)})
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "release/%d/MANIFEST: %d files, expires %s, commit %s.\nEach signer types: sallyport policy review %d && sallyport policy sign %d --key ~/.ssh/id_ed25519\n",
			version, len(m.Files), cli.Clock(m.Expires), cli.OrDash(m.Commit), version, version)
		return err
	}
	return c
}

// releasable refuses what the gate would refuse after everybody had signed it.
func (b Builtin) releasable(dir string) error {
	d, err := b.draft(dir)
	if err != nil {
		return fmt.Errorf("%w; type: sallyport policy check", err)
	}
	for _, o := range d.Test() {
		if o.Failed != "" {
			return fmt.Errorf("the test %q fails: %s; type: sallyport policy test", o.Test, o.Failed)
		}
	}
	return nil
}

// head is the commit that policy/ is at; empty outside git, or where files are changed.
func head(ctx context.Context, dir string) string {
	status, err := git(ctx, dir, "status", "--porcelain", "--", "policy")
	if err != nil || len(bytes.TrimSpace(status)) > 0 {
		return ""
	}
	commit, err := git(ctx, dir, "rev-parse", "HEAD")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(commit))
}

func (b Builtin) newReview() *cobra.Command {
	c := &cobra.Command{
		Use: "review VERSION", Short: "Say what a release is and what it changes, before signing it", Args: cobra.ExactArgs(1),
		Example: "  sallyport policy review 7\n  sallyport policy review 7 --against release/6",
	}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	against := c.Flags().String("against", "", "release/N or a folder (default: the release before)")
	c.RunE = func(c *cobra.Command, args []string) error {
		version, err := versionOf(c, args)
		if err != nil {
			return err
		}
		m, text, err := bundle.ReadManifest(*dir, version)
		if err != nil {
			return err
		}
		files, err := bundle.ReadPolicy(*dir)
		if err != nil {
			return err
		}
		if name := m.Differs(files); name != "" {
			return fmt.Errorf("%s here is not the one that release %d lists; check the release's commit out first (%s)", name, version, cli.OrDash(m.Commit))
		}
		d, err := b.draft(*dir)
		if err != nil {
			return err
		}
		before, than, err := releaseBefore(c.Context(), *dir, *against, m)
		if err != nil {
			return err
		}
		findings, changes := author.Check(d), author.Diff(before, d)
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), map[string]any{
				"name": m.Name, "version": m.Version, "digest": bundle.Digest(text), "expires": m.Expires, "commit": m.Commit, "files": len(m.Files),
				"findings": findings, "against": than, "changes": changes,
			})
		}
		w := c.OutOrStdout()
		fmt.Fprintf(w, "%s version %d, digest %s\nexpires %s, commit %s, %d files as listed\n\n", m.Name, m.Version, bundle.Digest(text), cli.Clock(m.Expires), cli.OrDash(m.Commit), len(m.Files)) //nolint:errcheck // the table reports it
		if err := author.Print(w, findings); err != nil {
			return err
		}
		fmt.Fprintf(w, "What changes, against %s:\n", choose(than == "", "nothing at all", than)) //nolint:errcheck // the table reports it
		return printDifference(w, changes)
	}
	return c
}

// releaseBefore is what a release is compared with, and its name: what against says, else
// the release that its MANIFEST names; for the first one nothing.
func releaseBefore(ctx context.Context, dir, against string, m bundle.Manifest) (*policy.Draft, string, error) {
	if against == "" && m.Previous != "" {
		s, err := bundle.Read(dir)
		if err != nil {
			return nil, "", err
		}
		for _, r := range s.Releases {
			if r.Digest == m.Previous {
				against = fmt.Sprintf("release/%d", r.Version)
			}
		}
		if against == "" {
			return nil, "", errors.New("the release before is not here; bring it back, or say --against DIR")
		}
	}
	if against == "" {
		return policy.NewDraft(nil, nil), "", nil
	}
	before, err := otherDraft(ctx, dir, against)
	return before, against, err
}

func choose(which bool, a, b string) string {
	if which {
		return a
	}
	return b
}

func newSign() *cobra.Command {
	c := &cobra.Command{
		Use: "sign VERSION --key FILE", Short: "Sign a release with your SSH key", Args: cobra.ExactArgs(1),
		Long: `Signs release/VERSION/MANIFEST. The key is one that the trust root knows. Keys with a
passphrase, in the agent or on a FIDO token are used through ssh-keygen, which asks
for what it needs; FILE may then be the public key. It is the same as:

  ssh-keygen -Y sign -n policy@sallyport -f FILE release/VERSION/MANIFEST
  mv release/VERSION/MANIFEST.sig release/VERSION/MANIFEST.$YOU.sig`,
		Example: "  sallyport policy sign 7 --key ~/.ssh/id_ed25519",
	}
	dir, key, asJSON := dirFlag(c), c.Flags().String("key", "", "your SSH key"), cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		version, err := versionOf(c, args)
		if err != nil {
			return err
		}
		if *key == "" {
			return cli.Usage(c, errors.New("say which key: --key ~/.ssh/id_ed25519"))
		}
		who, err := signing{
			text:   func() ([]byte, error) { _, text, err := bundle.ReadManifest(*dir, version); return text, err },
			sign:   func(s ssh.Signer) (string, error) { return bundle.Sign(*dir, version, s) },
			accept: func(signature []byte) (string, error) { return bundle.Accept(*dir, version, signature) },
		}.by(c.Context(), *key)
		if err != nil {
			return err
		}
		s, err := bundle.Read(*dir)
		if err != nil {
			return err
		}
		missing := 0
		for _, r := range s.Releases {
			if r.Version == version {
				missing = r.Missing
			}
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), map[string]any{"version": version, "who": who, "missing": missing})
		}
		left := "Nobody else has to sign; SIGHUP makes the gate load it."
		if missing > 0 {
			left = fmt.Sprintf("%d more have to sign.", missing)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "Release %d is signed by %s. %s\n", version, who, left)
		return err
	}
	return c
}

func (b Builtin) newVerify() *cobra.Command {
	c := &cobra.Command{
		Use: "verify [VERSION]", Short: "Judge a bundle as the gate would", Args: cobra.MaximumNArgs(1),
		Long: `Takes the loader's steps: signatures, MANIFEST, expiry, ancestry, files, meaning and
tests. Exit code 0: the gate would load it; 1: it is refused; 2: it could not be read.`,
		Example: "  sallyport policy verify --root sha256:...\n  sallyport policy verify 7 --config /etc/sallyport/proxy.hcl",
	}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	root := c.Flags().String("root", "", "digest of the trust root that you trust (sallyport policy status prints it)")
	path := c.Flags().String("config", "", "take --dir and --root from this configuration")
	c.RunE = func(c *cobra.Command, args []string) error {
		o := policy.Options{Root: policy.RootPin(*root), Now: time.Now(), Scopes: b.Scopes, Check: b.Check}
		if *path != "" {
			conf, err := config.Load(*path, b.Protocols)
			if err != nil {
				return err
			}
			o.Root, o.Floor, *dir = policy.RootPin(conf.Policy.Root), conf.Policy.MinVersion, conf.Policy.Dir
		}
		if o.Root == "" {
			return cli.Usage(c, errors.New("say which trust root you trust: --root sha256:... or --config FILE"))
		}
		if len(args) == 1 {
			var err error
			if o.Release, err = versionOf(c, args); err != nil {
				return err
			}
		}
		p, err := policy.Load(*dir, o)
		return printVerified(c, *asJSON, p, err)
	}
	return c
}

func printVerified(c *cobra.Command, asJSON bool, p *policy.Policy, err error) error {
	code := cli.Failed
	if errors.Is(err, &bundle.Refused{Code: bundle.Unreadable}) {
		code = cli.Mistyped
	}
	if err != nil {
		failure := &cli.Exit{Code: code, Err: err}
		if asJSON {
			return errors.Join(cli.PrintJSON(c.OutOrStdout(), map[string]any{"ok": false, "error": err.Error()}), failure)
		}
		return failure
	}
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), map[string]any{"ok": true, "name": p.Name(), "version": p.Version(), "digest": p.Digest(), "signers": p.Signers(), "expires": p.Expires()})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s version %d is good: signed by %s, expires %s, digest %s.\n", p.Name(), p.Version(), strings.Join(p.Signers(), " and "), cli.Clock(p.Expires()), p.Digest())
	return err
}
