package policycmd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy/bundle"
)

func newStatus() *cobra.Command {
	c := &cobra.Command{
		Use: "status", Short: "Say which releases there are, who signed them, and who may", Args: cobra.NoArgs,
		Example: "  sallyport policy status",
	}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := bundle.Read(*dir)
		if err != nil {
			return err
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), s)
		}
		w := c.OutOrStdout()
		t := cli.NewTable(w, "ROOT", "SIGNATURES", "WHO MAY SIGN", "DIGEST (to pin in policy { root })")
		for _, r := range s.Roots {
			t.Row(strconv.Itoa(r.Version), strconv.Itoa(r.Threshold), strings.Join(r.People, " "), r.Digest)
		}
		if err := t.Flush(); err != nil || len(s.Releases) == 0 {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		t = cli.NewTable(w, "RELEASE", "EXPIRES", "SIGNED BY", "MISSING", "DIGEST")
		for _, r := range s.Releases {
			t.Row(strconv.Itoa(r.Version), cli.Clock(r.Expires), cli.OrDash(strings.Join(r.Signed, " ")), strconv.Itoa(r.Missing), r.Digest)
		}
		return t.Flush()
	}
	return c
}

func newRoot() *cobra.Command {
	return cli.Group("root", "Say who may sign, and how many have to",
		"  sallyport policy root init --threshold 2 --signer alice=alice.pub --signer bob=bob.pub --signer carol=carol.pub\n  sallyport policy root next --threshold 2 --signer bob=bob.pub --signer carol=carol.pub\n  sallyport policy root sign 2 --key ~/.ssh/id_ed25519",
		newRootFile("init", "Make the first trust root", bundleInit), newRootFile("next", "Make the successor of the trust root", bundleNext), newRootSign())
}

func bundleInit(dir string, threshold int, signers []bundle.Signer) (int, string, error) {
	digest, err := bundle.InitRoot(dir, threshold, signers)
	return 1, fmt.Sprintf("trust/root.1 is made. Pin it in proxy.hcl: policy { root = %q }\nThen type: sallyport policy release 1", digest), err
}

func bundleNext(dir string, threshold int, signers []bundle.Signer) (int, string, error) {
	r, err := bundle.NextRoot(dir, threshold, signers)
	return r.Version, fmt.Sprintf("trust/root.%d is made. It counts once as many of the old and of the new signers as have to sign: sallyport policy root sign %d --key FILE\nThen make and sign a release under it; the old one's is refused from then on.", r.Version, r.Version), err
}

func newRootFile(use, short string, run func(string, int, []bundle.Signer) (int, string, error)) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		Example: "  sallyport policy root " + use + " --threshold 2 --signer alice=alice.pub --signer bob=bob.pub --signer carol=carol.pub",
	}
	dir, asJSON := dirFlag(c), cli.JSONFlag(c)
	threshold := c.Flags().Int("threshold", 2, "how many different people have to sign")
	named := c.Flags().StringArray("signer", nil, "NAME=FILE, a person and their SSH public key; once for each key")
	c.RunE = func(c *cobra.Command, _ []string) error {
		signers, err := readSigners(*named)
		if err != nil {
			return cli.Usage(c, err)
		}
		version, next, err := run(*dir, *threshold, signers)
		if err != nil {
			return err
		}
		if *asJSON {
			text, err := bundle.ReadRoot(*dir, version)
			if err != nil {
				return err
			}
			return cli.PrintJSON(c.OutOrStdout(), map[string]any{"root": version, "digest": bundle.Digest(text), "threshold": *threshold})
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), next)
		return err
	}
	return c
}

func readSigners(named []string) ([]bundle.Signer, error) {
	if len(named) == 0 {
		return nil, errors.New("say who may sign: --signer alice=alice.pub")
	}
	var signers []bundle.Signer
	for _, arg := range named {
		who, file, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("--signer is NAME=FILE, not %q", arg)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read %s's key: %w", who, err)
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s holds no SSH public key; it is the file that ends in .pub", file)
		}
		signers = append(signers, bundle.Signer{Who: who, Key: key})
	}
	return signers, nil
}

func newRootSign() *cobra.Command {
	c := &cobra.Command{
		Use: "sign VERSION --key FILE", Short: "Sign a new trust root", Args: cobra.ExactArgs(1),
		Long: `Signs trust/root.VERSION, as one of its signers or of those of the root before. Keys
with a passphrase, in the agent or on a FIDO token are used through ssh-keygen, as by
sallyport policy sign. It is the same as:

  ssh-keygen -Y sign -n policy@sallyport -f FILE trust/root.VERSION
  mv trust/root.VERSION.sig trust/root.VERSION.$YOU.sig`,
		Example: "  sallyport policy root sign 2 --key ~/.ssh/id_ed25519",
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
			text:   func() ([]byte, error) { return bundle.ReadRoot(*dir, version) },
			sign:   func(s ssh.Signer) (string, error) { return bundle.SignRoot(*dir, version, s) },
			accept: func(signature []byte) (string, error) { return bundle.AcceptRoot(*dir, version, signature) },
		}.by(c.Context(), *key)
		if err != nil {
			return err
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), map[string]any{"root": version, "who": who})
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "trust/root.%d is signed by %s.\n", version, who)
		return err
	}
	return c
}
