package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/cli"
)

// newUserSwitch makes `users disable` and `users enable`.
func newUserSwitch(do, short string) *cobra.Command {
	var flags clientFlags
	c := &cobra.Command{
		Use: do + " USER", Short: short,
		Long:    short + ".\nUSER is an e-mail address, or the ID that `sallyport users list` shows.",
		Example: "  sallyport users " + do + " alice@example.com",
		Args:    cobra.ExactArgs(1),
	}
	flags.add(c)
	var body func() map[string]any
	if do == "disable" {
		body = why(c)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		user, err := findUser(c, gate, args[0])
		if err != nil {
			return err
		}
		send := map[string]any{}
		if body != nil {
			send = body()
		}
		send["user"] = user.ID()
		if err := gate.post(c.Context(), "/api/v1/users/"+do, send, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is %sd.\n", cli.Safe(user.String()), do)
		return err
	}
	return c
}

// findUser takes an e-mail only where it names one account: with several issuers it
// may not, and the wrong one must not be hit.
func findUser(c *cobra.Command, gate *client, name string) (identity.User, error) {
	var all struct {
		Users []identity.Account `json:"users"`
	}
	if err := gate.get(c.Context(), "/api/v1/users", nil, &all); err != nil {
		return identity.User{}, err
	}
	var found []identity.User
	for _, a := range all.Users {
		if a.User.ID() == name || a.User.Email == name {
			found = append(found, a.User)
		}
	}
	switch len(found) {
	case 0:
		return identity.User{}, fmt.Errorf("nobody called %q has ever signed in; type: sallyport users list", name)
	case 1:
		return found[0], nil
	}
	return identity.User{}, fmt.Errorf("%q names %d accounts; give the ID that sallyport users list shows", name, len(found))
}
