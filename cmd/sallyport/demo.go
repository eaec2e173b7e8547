package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/demo"
	"github.com/sallyport/sallyport/internal/shellword"
)

func newDemo() *cobra.Command {
	var o demo.Options
	var ports string
	var debug bool
	c := &cobra.Command{
		Use: "demo", Short: "Try the gate on this machine: a database, people, a policy, all made up",
		Long: `Starts a gate with all that it needs, on loopback: a private PostgreSQL with some
data, an OIDC provider with four people, and a policy signed by a signer of its own.
It says what to type next. Ctrl-C ends everything that it started; the folder stays,
and the next start goes on with it.

It needs a PostgreSQL server's programs (initdb, postgres) on this machine.
With an sshd it also has a machine to enter by ssh.`,
		Example: "  sallyport demo\n  sallyport demo --dir /tmp/try --ports random --json",
		Args:    cobra.NoArgs,
	}
	c.Flags().StringVar(&o.Dir, "dir", "", "the demo's folder (default: a folder of your state)")
	c.Flags().StringVar(&ports, "ports", "usual", "usual, or random for any that are free")
	c.Flags().DurationVar(&o.Timeout, "timeout", time.Hour, "how long a request waits for people")
	c.Flags().BoolVar(&debug, "debug", false, "write down every connection")
	asJSON := c.Flags().Bool("json", false, "print one line of JSON once everything is ready, for programs")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if ports != "usual" && ports != "random" {
			return cli.Usage(c, fmt.Errorf("--ports is usual or random, not %q", ports))
		}
		o.RandomPorts = ports == "random"
		var err error
		if o.Dir == "" {
			if o.Dir, err = demoDir(); err != nil {
				return err
			}
		}
		logger, said, err := newLogger(c.ErrOrStderr(), "text", debug)
		if err != nil {
			return err
		}
		defer said()
		d, err := demo.Start(c.Context(), o)
		if err != nil {
			return err
		}
		loaded, err := config.Load(d.Config, protocolNames())
		if err == nil {
			// Nobody has long work in a demo, and whoever types Ctrl-C waits.
			loaded.Limits.GraceTime = min(loaded.Limits.GraceTime, time.Second)
			err = serve(c.Context(), loaded, logger, func() error { return announce(c.OutOrStdout(), d, *asJSON) })
		}
		if c.Context().Err() != nil && err == nil && !*asJSON {
			afterDemo(c.OutOrStdout(), d)
		}
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return errors.Join(err, d.Close())
	}
	return c
}

// demoDir is where a demo stays between its starts. PostgreSQL runs as another user
// when we are root, and cannot enter root's home.
func demoDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/sallyport-demo", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sallyport-demo"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("there is no home folder (%w); choose a folder with --dir", err)
	}
	return filepath.Join(home, ".local", "state", "sallyport-demo"), nil
}

type demoUser struct {
	Email    string   `json:"email"`
	Password string   `json:"password"`
	Groups   []string `json:"groups"`
}

type demoTarget struct {
	Name     string   `json:"name"`
	Protocol string   `json:"protocol"`
	Roles    []string `json:"roles"`
}

// announce says that the demo is ready, and what to type.
func announce(w io.Writer, d *demo.Demo, asJSON bool) error {
	if !asJSON {
		return announceText(w, d)
	}
	ready := struct {
		Ready    bool         `json:"ready"`
		Web      string       `json:"web"`
		Postgres string       `json:"postgres"`
		App      string       `json:"app"`
		SSH      string       `json:"ssh,omitempty"`
		Issuer   string       `json:"issuer"`
		CA       string       `json:"ca"`
		Dir      string       `json:"dir"`
		Users    []demoUser   `json:"users"`
		Targets  []demoTarget `json:"targets"`
	}{
		Ready: true, Web: d.Web, Postgres: d.Postgres, App: d.App, Issuer: d.Issuer, CA: d.CA, Dir: d.Dir,
		Targets: []demoTarget{{Name: "orders", Protocol: "postgres", Roles: []string{"reader", "writer"}}, {Name: "app", Protocol: "http", Roles: []string{"user"}}},
	}
	if d.SSH != "" {
		ready.SSH = d.SSH
		ready.Targets = append(ready.Targets, demoTarget{Name: "web-1", Protocol: "ssh", Roles: []string{"deploy"}})
	}
	for _, u := range d.Users {
		ready.Users = append(ready.Users, demoUser{Email: u.Email, Password: u.Password, Groups: slices.Clone(u.Groups)})
	}
	line, err := json.Marshal(ready)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", line)
	return err
}

func announceText(w io.Writer, d *demo.Demo) error {
	host, port, err := net.SplitHostPort(d.Postgres)
	if err != nil {
		return err
	}
	text := `The gate is open. On this machine run: the gate, a PostgreSQL with the database
orders, a small web application, and an OIDC provider with these people (all made up):

`
	for _, u := range d.Users {
		text += fmt.Sprintf("  %-22s password %-22s %s\n", u.Email, u.Password, u.Groups)
	}
	text += fmt.Sprintf(`
1  Alice wants to read orders. In a second terminal:

     psql "host=%s port=%s user=reader dbname=orders sslmode=verify-full sslrootcert=%s"

   It shows a link and waits. Open the link, sign in as alice@example.com, pick the
   phrase that psql shows, and say why.

2  Bob approves. In another browser (or a private window), sign in as bob@example.com at

     %s

3  psql goes on by itself, inside the time that Bob approved, and everything is recorded:

     SELECT * FROM orders WHERE state = 'stuck';

   Sam (security) sees sessions and recordings at the same address, and can cut them.

4  The web application waits in the same way. Alice opens it, and Bob approves:

     %s

5  %s

6  Prove that the record is untouched, now or after Ctrl-C:

     %s audit verify --config %s

On the command line, Bob does the same by

     %s login --server %s --ca %s
     %s requests list --state pending
     %s requests approve REQUEST

Browsers ask about the demo's CA; to trust it, import %s.
Everything is in %s. Ctrl-C stops all of it.
`, host, port, d.CA, d.Web, d.App, sshText(d), self(), d.Config, self(), d.Web, d.CA, self(), self(), d.CA, d.Dir)
	_, err = io.WriteString(w, text)
	return err
}

// sshText says how Alice enters web-1, or why there is none.
func sshText(d *demo.Demo) string {
	host, port, err := net.SplitHostPort(d.SSH)
	if err != nil {
		return fmt.Sprintf("There is no web-1 to enter by ssh: %v.", d.NoSSH)
	}
	return fmt.Sprintf("So does a machine. Alice enters web-1 by ssh, and Bob approves:\n\n     ssh -p %s -o UserKnownHostsFile=%s deploy@web-1@%s", port, shellword.Quote(d.KnownHosts), host)
}

func afterDemo(w io.Writer, d *demo.Demo) {
	fmt.Fprintf(w, "\nEverything is stopped. The record is in %s; check it with:\n\n  %s audit verify --config %s\n", //nolint:errcheck // the terminal
		filepath.Join(d.Dir, "audit"), self(), d.Config)
}

// self is this program as it was typed, for lines to type next.
func self() string { return shellword.Quote(os.Args[0]) }
