package main

import (
	"bytes"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/shellword"
	"github.com/sallyport/sallyport/policy/bundle"
)

// setup holds what `sallyport init` writes beside proxy.hcl: the policy's first draft
// and the systemd unit.
//
//go:embed setup/*.tmpl
var setup embed.FS

const (
	loginCALife = 5 * 365 * 24 * time.Hour
	tlsLife     = 365 * 24 * time.Hour
)

// An initial is what init is told.
type initial struct {
	dir, state, url string
	signers         []string // NAME=FILE
	threshold       int
}

func newInit() *cobra.Command {
	var in initial
	c := &cobra.Command{
		Use: "init DIR", Short: "Make keys, CAs, trust root and a first configuration for a real machine",
		Long: `Makes a folder with a commented proxy.hcl, the login CAs, the key that seals refresh
tokens, a TLS certificate to begin with, an empty log, the draft of a policy, and its
trust root: the SSH keys of those who may sign it. Keys are of mode 0600.

Nothing there is overwritten. To rotate: replace tls/gate.crt and tls/gate.key and
send SIGHUP; a new login-ca, login-ca-ssh.key or seal.key needs a restart, and makes everybody sign in
again; signers change by sallyport policy root.`,
		Example: "  sallyport init /etc/sallyport --url https://gate.example.com --signer alice=alice.pub --signer bob=bob.pub --threshold 2",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&in.url, "url", "", "where browsers will reach the gate, such as https://gate.example.com")
	c.Flags().StringVar(&in.state, "state", "", "where store, log and recordings go (default: DIR/state)")
	c.Flags().StringArrayVar(&in.signers, "signer", nil, "NAME=FILE, a person who may sign the policy and their SSH public key; once for each")
	c.Flags().IntVar(&in.threshold, "threshold", 1, "how many of them have to sign")
	c.RunE = func(c *cobra.Command, args []string) error {
		var err error
		if in.dir, err = filepath.Abs(args[0]); err != nil {
			return fmt.Errorf("find the folder: %w", err)
		}
		return in.run(c)
	}
	return c
}

func (in *initial) run(c *cobra.Command) error {
	base, err := url.Parse(in.url)
	if err != nil || base.Scheme != "https" || base.Hostname() == "" || base.Path != "" {
		return cli.Usage(c, fmt.Errorf("say where browsers will reach the gate: --url https://gate.example.com"))
	}
	signers, err := in.readSigners()
	if err != nil {
		return cli.Usage(c, err)
	}
	if in.state == "" {
		in.state = filepath.Join(in.dir, "state")
	}
	if in.state, err = filepath.Abs(in.state); err != nil {
		return fmt.Errorf("find the folder: %w", err)
	}
	if _, err := os.Stat(filepath.Join(in.dir, "proxy.hcl")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s has a proxy.hcl already; nothing was changed", in.dir)
	}
	if err := in.make(base, signers); err != nil {
		return fmt.Errorf("make %s: %w", in.dir, err)
	}
	return in.next(c.OutOrStdout(), base.Hostname())
}

func (in *initial) readSigners() ([]bundle.Signer, error) {
	if len(in.signers) == 0 {
		return nil, errors.New("say who may sign the policy: --signer alice=/home/alice/.ssh/id_ed25519.pub")
	}
	if in.threshold < 1 || in.threshold > len(in.signers) {
		return nil, fmt.Errorf("--threshold is from 1 to the number of signers, %d", len(in.signers))
	}
	var signers []bundle.Signer
	for _, arg := range in.signers {
		name, file, found := strings.Cut(arg, "=")
		if !found {
			return nil, fmt.Errorf("--signer is NAME=FILE, not %q", arg)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read %s's key: %w", name, err)
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s holds no SSH public key; it is the file that ends in .pub", file)
		}
		signers = append(signers, bundle.Signer{Who: name, Key: key})
	}
	return signers, nil
}

// make writes everything; proxy.hcl is last, because with it the folder is complete.
func (in *initial) make(base *url.URL, signers []bundle.Signer) error {
	for _, dir := range []string{in.dir, in.state, in.at("tls"), in.at("credentials"), in.at("policy")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := in.makeKeys(base.Hostname()); err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, name := range []string{"targets", "identity", "rules"} {
		text, err := render(name+".hcl.tmpl", base)
		if err != nil {
			return err
		}
		files["policy/"+name+".hcl"] = text
	}
	test, err := render("rules.test.hcl.tmpl", base)
	if err != nil {
		return err
	}
	files["policy/tests/rules.test.hcl"] = test
	if err := bundle.Write(in.at("policy"), files); err != nil {
		return err
	}
	root, err := bundle.InitRoot(in.at("policy"), in.threshold, signers)
	if err != nil {
		return err
	}
	if err := audit.Init(filepath.Join(in.state, "audit"), base.Hostname()); err != nil {
		return err
	}
	unit, err := render("sallyport.service.tmpl", map[string]string{"Config": in.at("proxy.hcl"), "State": in.state})
	if err != nil {
		return err
	}
	if err := create(in.at("sallyport.service"), unit, 0o644); err != nil {
		return err
	}
	var text bytes.Buffer
	if err := in.draft(base, root).Write(&text); err != nil {
		return err
	}
	return create(in.at("proxy.hcl"), text.Bytes(), 0o600)
}

func (in *initial) at(parts ...string) string {
	return filepath.Join(append([]string{in.dir}, parts...)...)
}

func (in *initial) draft(base *url.URL, root string) config.Draft {
	d := config.Example()
	port := base.Port()
	if port == "" {
		port = "443"
	}
	node, err := os.Hostname()
	if err != nil {
		node = "gate-1"
	}
	d.URL, d.Node, d.Name, d.Origin = base.String(), node, base.Hostname(), base.Hostname()
	d.Web, d.CA = net.JoinHostPort("", port), in.at("tls", "ca.crt")
	d.Certificate, d.Key = in.at("tls", "gate.crt"), in.at("tls", "gate.key")
	d.Store, d.Audit, d.Recordings = filepath.Join(in.state, "gate.db"), filepath.Join(in.state, "audit"), filepath.Join(in.state, "recordings")
	d.Policy, d.Root, d.MinVersion = in.at("policy"), root, 1
	d.LoginCertificate, d.LoginKey, d.SealKey = in.at("login-ca.crt"), in.at("login-ca.key"), in.at("seal.key")
	d.LoginSSHKey = in.at("login-ca-ssh.key")
	d.Credentials = []config.Credential{
		{Name: "oidc-client", From: "file:" + in.at("credentials", "oidc-client")},
		{Name: "orders-reader", From: "file:" + in.at("credentials", "orders-reader")},
	}
	return d
}

func (in *initial) makeKeys(host string) error {
	cert, key, err := identity.NewCA("Sallyport login CA of "+host, loginCALife)
	if err == nil {
		err = errors.Join(create(in.at("login-ca.key"), key, 0o600), create(in.at("login-ca.crt"), cert, 0o644))
	}
	if err != nil {
		return err
	}
	sshKey, err := identity.NewSSHCA()
	if err == nil {
		err = create(in.at("login-ca-ssh.key"), sshKey, 0o600)
	}
	if err != nil {
		return err
	}
	caPEM, caKey, err := identity.NewServerCA("Sallyport TLS CA of "+host, loginCALife)
	if err != nil {
		return err
	}
	ca, err := identity.LoadServerCA(caPEM, caKey)
	if err != nil {
		return err
	}
	names, ips := []string{host}, []net.IP(nil)
	if ip := net.ParseIP(host); ip != nil {
		names, ips = nil, []net.IP{ip}
	}
	if cert, key, err = ca.IssueServer(names, ips, tlsLife); err != nil {
		return err
	}
	seal := make([]byte, 32)
	_, _ = rand.Read(seal) // never fails (crypto/rand)
	return errors.Join(
		create(in.at("tls", "ca.key"), caKey, 0o600), create(in.at("tls", "ca.crt"), caPEM, 0o644),
		create(in.at("tls", "gate.key"), key, 0o600), create(in.at("tls", "gate.crt"), cert, 0o644),
		create(in.at("seal.key"), seal, 0o600),
		// Empty on purpose: the gate says which one is missing.
		create(in.at("credentials", "oidc-client"), nil, 0o600), create(in.at("credentials", "orders-reader"), nil, 0o600),
	)
}

// create never overwrites: a key that is gone cannot be made again.
func create(path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func render(name string, data any) ([]byte, error) {
	t, err := template.ParseFS(setup, "setup/"+name)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := t.Execute(&text, data); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

func (in *initial) next(w io.Writer, host string) error {
	p := shellword.Quote(in.at("policy"))
	_, err := fmt.Fprintf(w, `%s is made. What comes next:

1  Name your target, your identity provider and your rules:
     %s/policy/{targets,identity,rules}.hcl
   and put the two secrets into
     %s/credentials/{oidc-client,orders-reader}

2  Check, release and sign the policy (%d of: %s):
     sallyport policy check %s
     sallyport policy release 1 --expires 90d --dir %s
     sallyport policy sign 1 --key ~/.ssh/id_ed25519 --dir %s

3  Check everything, and start:
     sallyport check --config %s
     sallyport serve --config %s

tls/gate.crt is signed by a CA of its own (tls/ca.crt). For certificates that
everybody trusts, put those of %s there, and take ca out of proxy.hcl.
sallyport.service is a unit for systemd.
`, in.dir, in.at("policy"), in.dir, in.threshold, strings.Join(names(in.signers), ", "), p, p, p,
		shellword.Quote(in.at("proxy.hcl")), shellword.Quote(in.at("proxy.hcl")), host)
	return err
}

func names(signers []string) []string {
	var all []string
	for _, s := range signers {
		name, _, _ := strings.Cut(s, "=")
		all = append(all, name)
	}
	return all
}
