package ssh

import (
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// KnownHosts is the line of a known_hosts file that has a client trust the host CA
// for these names, and for no others: never "*". It is empty without names. port is
// the one that clients connect to; "22" goes without saying.
func KnownHosts(names []string, port string, hostCA ssh.PublicKey) string {
	if len(names) == 0 {
		return ""
	}
	hosts := make([]string, len(names))
	for i, name := range names {
		hosts[i] = name
		if port != "" && port != "22" {
			hosts[i] = "[" + name + "]:" + port
		}
	}
	return fmt.Sprintf("@cert-authority %s %s", strings.Join(hosts, ","), ssh.MarshalAuthorizedKey(hostCA))
}

// A ClientGate is the gate as an ssh_config describes it.
type ClientGate struct {
	Name        string // how the lines call it: "gate"
	Host        string // where it is
	Port        string // of its SSH listener
	KnownHosts  string // the file that has KnownHosts' lines
	Identity    string // the key's file that `sallyport login` writes
	Certificate string // the certificate's, beside it
}

// ClientConfig is the part of an ssh_config by which `ssh ROLE@TARGET` goes through
// the gate: for these targets, and for nothing else.
func ClientConfig(g ClientGate, targets []string) string {
	if len(targets) == 0 {
		return ""
	}
	var b strings.Builder
	// Without a User the outer connection would have the local one, and a name such as
	// alice@corp reads as ROLE@TARGET. This one names nothing; `ssh ROLE@TARGET@GATE` goes
	// before it.
	fmt.Fprintf(&b, "Host %s\n  HostName %s\n  Port %s\n  User jump\n", g.Name, g.Host, g.Port)
	g.proofs(&b)
	// The inner connection's user is who the outer one proved, so no agent or X11 is
	// lent to a target by a default of the user's own.
	fmt.Fprintf(&b, "Host %s\n  ProxyJump %s\n  ForwardAgent no\n  ForwardX11 no\n", strings.Join(targets, " "), g.Name)
	g.proofs(&b)
	return b.String()
}

func (g ClientGate) proofs(b *strings.Builder) {
	fmt.Fprintf(b, "  UserKnownHostsFile %s\n  StrictHostKeyChecking yes\n", quoted(g.KnownHosts))
	if g.Identity != "" {
		fmt.Fprintf(b, "  IdentityFile %s\n  CertificateFile %s\n  IdentitiesOnly yes\n", quoted(g.Identity), quoted(g.Certificate))
	}
}

// quoted writes a path as ssh_config reads it: blanks in quotes, and no tokens (ssh_config(5)).
func quoted(path string) string {
	path = strings.ReplaceAll(path, "%", "%%")
	if strings.ContainsAny(path, " \t#'") {
		return `"` + path + `"`
	}
	return path
}
