package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	gossh "golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/protocols/ssh"
	"github.com/sallyport/sallyport/session"
)

// An sshSetup is what ssh must be told to use the gate.
type sshSetup struct {
	Gate       string   `json:"gate"` // host:port
	Targets    []string `json:"targets"`
	KnownHosts string   `json:"known_hosts"`
	Config     string   `json:"ssh_config"`
	File       string   `json:"known_hosts_file"` // where known_hosts was written
}

func newSSHConfig() *cobra.Command {
	var flags clientFlags
	c := &cobra.Command{
		Use: "ssh-config [TARGET...]", Short: "Print the lines by which ssh knows the gate and its targets", Args: cobra.ArbitraryArgs,
		Long: `Prints lines for ssh's configuration, by which ssh ROLE@TARGET goes through the gate
and shows the certificate of sallyport login. The gate's host CA is written to the
file known_hosts beside that certificate, for the gate and these targets by name and
for nothing else. Without TARGET it is all that the policy lets you ask for.

ssh reads them from a file of their own; put this at the top of ~/.ssh/config:

  Include sallyport.conf`,
		Example: "  sallyport ssh-config > ~/.ssh/sallyport.conf\n  sallyport ssh-config web-1 web-2\n  sallyport ssh-config --json | jq -r .known_hosts",
	}
	flags.add(c)
	asJSON := cli.JSONFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		home, err := openHome()
		if err != nil {
			return err
		}
		gate, err := flags.signedIn()
		if err != nil {
			return err
		}
		setup, err := newSSHSetup(c, gate, home, args)
		if err != nil {
			return err
		}
		if err := home.save(knownHostsFile, []byte(setup.KnownHosts)); err != nil {
			return err
		}
		if *asJSON {
			return cli.PrintJSON(c.OutOrStdout(), setup)
		}
		_, err = io.WriteString(c.OutOrStdout(), setup.Config)
		return err
	}
	return c
}

// What a gate may say that ends up in ssh's configuration: anything else could be a
// line of its own there, such as a ProxyCommand.
var (
	sshHost   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$|^[0-9a-fA-F:]{2,45}$`)
	sshTarget = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
)

func newSSHSetup(c *cobra.Command, gate *client, home home, wanted []string) (*sshSetup, error) {
	var said struct {
		Address string `json:"address"`
		HostCA  string `json:"host_ca"`
	}
	if err := gate.get(c.Context(), "/api/v1/ssh", nil, &said); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(said.Address)
	if err != nil || !sshHost.MatchString(host) || strings.Trim(port, "0123456789") != "" {
		return nil, fmt.Errorf("the gate says that its SSH address is %q, which is none", said.Address)
	}
	ca, _, _, _, err := gossh.ParseAuthorizedKey([]byte(said.HostCA))
	if err != nil {
		return nil, errors.New("the gate gives no key of a host CA; is it the same version as this program?")
	}
	targets, err := sshTargets(c, gate, wanted)
	if err != nil {
		return nil, err
	}
	s := &sshSetup{Gate: said.Address, Targets: targets, File: home.path(knownHostsFile)}
	s.KnownHosts = ssh.KnownHosts([]string{host}, port, ca) + ssh.KnownHosts(targets, "22", ca)
	client := ssh.ClientGate{Name: host, Host: host, Port: port, KnownHosts: s.File}
	if _, err := os.Stat(home.path(sshCertFile)); err == nil {
		client.Identity, client.Certificate = home.path(sshKeyFile), home.path(sshCertFile)
	}
	s.Config = ssh.ClientConfig(client, targets)
	return s, nil
}

// sshTargets are the targets of SSH that this person may ask for: those that are wanted,
// or all.
func sshTargets(c *cobra.Command, gate *client, wanted []string) ([]string, error) {
	var said struct {
		Targets []session.TargetView `json:"targets"`
	}
	if err := gate.get(c.Context(), "/api/v1/targets", nil, &said); err != nil {
		return nil, err
	}
	var all []string
	for _, t := range said.Targets {
		if t.Protocol == ssh.Name && sshTarget.MatchString(t.Target) && !slices.Contains(all, t.Target) {
			all = append(all, t.Target)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the policy lets you ask for no target of SSH")
	}
	for _, name := range wanted {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("%q is no target of SSH that you may ask for; there are: %s", name, strings.Join(all, ", "))
		}
	}
	if len(wanted) > 0 {
		return wanted, nil
	}
	return all, nil
}
