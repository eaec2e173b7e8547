package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/cli"
)

func newLogout() *cobra.Command {
	var flags clientFlags
	c := &cobra.Command{
		Use: "logout", Short: "End this sign-in, and remove certificates and token",
		Example: "  sallyport logout",
	}
	flags.add(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		home, err := openHome()
		if err != nil {
			return err
		}
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		// The files go whatever the gate says: a person who leaves has left.
		said := gate.post(c.Context(), "/api/v1/sign-ins/end", nil, nil)
		agent := outOfAgent(c.Context(), home.sshCertificate())
		if err := home.forget(); err != nil {
			return fmt.Errorf("remove your certificates and token: %w", err)
		}
		if said != nil {
			return fmt.Errorf("certificates and token are removed here, but the gate did not end the sign-in: %w", said)
		}
		if agent != nil {
			return fmt.Errorf("you are signed out, but your ssh-agent still holds the certificate, which opens nothing now: %w", agent)
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), "You are signed out. Certificates and token are removed.")
		return err
	}
	return c
}

func newWhoami() *cobra.Command {
	var flags clientFlags
	c := &cobra.Command{
		Use: "whoami", Short: "Say who you are to the gate, and until when",
		Example: "  sallyport whoami\n  sallyport whoami --json",
	}
	flags.add(c)
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := gate.get(c.Context(), "/api/v1/whoami", nil, &raw); err != nil {
			return err
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), raw)
		}
		var who struct {
			User   identity.User `json:"user"`
			SignIn struct {
				Expires time.Time `json:"expires"`
			} `json:"sign_in"`
			Rights []string `json:"rights"`
		}
		if err := json.Unmarshal(raw, &who); err != nil {
			return fmt.Errorf("read the gate's answer: %w", err)
		}
		t := cli.NewTable(c.OutOrStdout(), "user", who.User.String())
		t.Row("groups", cli.OrDash(strings.Join(who.User.Groups, ", ")))
		t.Row("rights", cli.OrDash(strings.Join(who.Rights, ", ")))
		t.Row("signed in until", cli.Clock(who.SignIn.Expires))
		t.Row("gate", gate.base)
		return t.Flush()
	}
	return c
}

func newToken() *cobra.Command {
	var flags clientFlags
	c := &cobra.Command{
		Use: "token GRANT", Short: "Print a grant's token, for clients that only know passwords",
		Long: `Prints a new token of one of your grants. It opens connections to that grant's
target and role, until the grant ends, and nothing else. Give it as the password,
with "+token" after the role.`,
		Example: "  sallyport token 7Q2KMX\n  PGPASSWORD=$(sallyport token 7Q2KMX) psql \"host=gate.example.com user=reader+token dbname=orders sslmode=verify-full\"",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: completeIDs(&flags, "grants", "active"),
	}
	flags.add(c)
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := gate.post(c.Context(), apiPath("grants", args[0], "token"), nil, &raw); err != nil {
			return err
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), raw)
		}
		var got struct {
			Token string `json:"token"`
		}
		if err := json.Unmarshal(raw, &got); err != nil {
			return fmt.Errorf("read the gate's answer: %w", err)
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), got.Token)
		return err
	}
	return c
}
