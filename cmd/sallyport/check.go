package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/bundle"
	"github.com/sallyport/sallyport/protocols"
	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

func newCheck() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "check", Short: "Check a configuration and its policy, without serving",
		Long: `Reads proxy.hcl and everything that it names, and reports all errors at once,
with file, line and source. Nothing is opened for writing, bound or dialled.`,
		Example: "  sallyport check --config /etc/sallyport/proxy.hcl",
	}
	configFlag(c, &path)
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		checked, err := check(path)
		if *asJSON {
			out := map[string]any{"ok": err == nil}
			if err != nil {
				out["errors"] = err.Error()
				return errors.Join(cli.PrintJSON(c.OutOrStdout(), out), &cli.Exit{Code: cli.Failed})
			}
			out["policy"] = map[string]any{"version": checked.Version(), "digest": checked.Digest(), "expires": checked.Expires()}
			return cli.PrintJSON(c.OutOrStdout(), out)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is fine; policy version %d, signed by %v, expires %s.\n", path, checked.Version(), checked.Signers(), cli.Clock(checked.Expires()))
		return err
	}
	return c
}

func check(path string) (*policy.Policy, error) {
	c, err := config.Load(path, protocolNames())
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, l := range c.Listeners {
		if l.TLS != nil {
			errs = append(errs, (&certificate{pair: *l.TLS}).load())
		}
		errs = append(errs, checkOptions(l))
	}
	_, err = (&program{config: c}).keys()
	errs = append(errs, err)
	sshCA, err := (&program{config: c}).sshLogin()
	if err == nil {
		_, err = sshHostCA(c, sshCA)
	}
	errs = append(errs, err)
	loaded, err := policy.Load(c.Policy.Dir, policyOptions(c, bundle.Pin{}, 0))
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	if _, err := newRelyingParty(c, newSecrets(c.Set), loaded); err != nil {
		errs = append(errs, err)
	}
	for _, t := range loaded.Targets() {
		for _, role := range t.Roles {
			if _, found := c.Set[role.Credential]; role.Credential != "" && !found {
				errs = append(errs, fmt.Errorf("the policy's target %s, role %s, needs the credential %q; add to %s: credential %q { from = \"file:...\" }", t.Name, role.Name, role.Credential, c.Path, role.Credential))
			}
		}
	}
	return loaded, errors.Join(errs...)
}

// checkOptions has the protocol check its options. Configure asks nothing of the gate.
func checkOptions(l config.Listener) error {
	for _, p := range protocols.All() {
		if p.Name() == wire(l) {
			_, err := p.Configure(proxy.Config{Gate: new(session.Gate), Plaintext: true, URL: "https://gate.invalid", Options: l.Options})
			return err
		}
	}
	return nil
}
