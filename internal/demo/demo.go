package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/config"
	"github.com/sallyport/sallyport/internal/devidp"
)

// Host is the name of the demo's pages. Names under localhost are loopback by
// RFC 6761, and browsers know that.
const Host = "sallyport.localhost"

// AppHost is the name of the demo's web application, a target behind the gate.
const AppHost = "app.localhost"

// clientID is the gate's name at the demo's provider.
const clientID = "sallyport"

// Options are what the command line says.
type Options struct {
	Dir         string
	RandomPorts bool          // any free ports, where the usual ones or those of the last run are taken
	Timeout     time.Duration // of a request that nobody answers; 0: an hour
}

// A Demo runs everything but the gate.
type Demo struct {
	Dir      string // absolute
	Config   string // the proxy.hcl
	Web      string // https://sallyport.localhost:8443
	Postgres string // where clients connect: localhost:6432
	App      string // https://app.localhost:8443
	SSH      string // where clients connect: localhost:6422; "": there is no web-1
	NoSSH    error  // why there is no web-1: ErrNoSSHD or ErrNoGuest
	Issuer   string
	CA       string // PEM file
	Users    []devidp.User

	KnownHosts string // file by which ssh knows the gate

	server   *postgres
	app      *app
	sshd     *sshd
	provider *devidp.Provider
}

// Start sets up what is missing in the folder, and starts PostgreSQL, sshd and the
// OIDC provider. Close ends them.
func Start(ctx context.Context, o Options) (_ *Demo, err error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("find the demo's folder: %w", err)
	}
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	owner, err := otherUser()
	if err != nil {
		return nil, err
	}
	if err := folders(dir); err != nil {
		return nil, err
	}
	s, err := openState(dir, o.RandomPorts)
	if err != nil {
		return nil, err
	}
	d := &Demo{
		Dir: dir, Config: filepath.Join(dir, "proxy.hcl"), CA: filepath.Join(dir, "ca.crt"), Users: s.Users,
		Web:      "https://" + net.JoinHostPort(Host, strconv.Itoa(s.Ports.Web)),
		Postgres: net.JoinHostPort("localhost", strconv.Itoa(s.Ports.Postgres)),
		App:      "https://" + net.JoinHostPort(AppHost, strconv.Itoa(s.Ports.Web)),
		server:   &postgres{dir: filepath.Join(dir, "postgres"), bin: bin, owner: owner, port: s.Ports.Target},
	}
	keys, err := makeKeys(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := d.startTarget(ctx, keys); err != nil {
		return nil, err
	}
	if d.app, err = startApp(ctx, local(s.Ports.App)); err != nil {
		return nil, err
	}
	if err := d.startMachine(ctx, s.Ports); err != nil {
		return nil, err
	}
	secret, err := d.secret("oidc-client")
	if err != nil {
		return nil, err
	}
	if err := d.startProvider(s, keys, secret); err != nil {
		return nil, err
	}
	root, version, err := d.sign(keys, o.Timeout, s.Ports)
	if err != nil {
		return nil, err
	}
	if err := d.startRecord(); err != nil {
		return nil, err
	}
	return d, d.writeConfig(s, root, version)
}

// folders makes the demo's folders. PostgreSQL's own user must be able to pass
// through the first; everything else in it is for us alone.
func folders(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return fmt.Errorf("make the demo's folder: %w", err)
	}
	for _, name := range []string{"credentials", "policy"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return fmt.Errorf("make the demo's folder: %w", err)
		}
	}
	return nil
}

func (d *Demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.Dir}, parts...)...)
}

// secret reads a credential, or makes it.
func (d *Demo) secret(name string) (string, error) {
	path := d.path("credentials", name)
	text, err := os.ReadFile(path)
	if err == nil {
		return string(text), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read credential: %w", err)
	}
	raw := make([]byte, 24)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	made := base64.RawURLEncoding.EncodeToString(raw)
	return made, os.WriteFile(path, []byte(made), 0o600)
}

func (d *Demo) startTarget(ctx context.Context, keys *keys) error {
	passwords := map[string]string{}
	for _, role := range []string{"reader", "writer"} {
		password, err := d.secret("orders-" + role)
		if err != nil {
			return err
		}
		passwords[role] = password
	}
	if !d.server.made() {
		if err := d.server.make(ctx, keys.targetCert, keys.targetKey, passwords); err != nil {
			return fmt.Errorf("make the demo's PostgreSQL: %w", err)
		}
	}
	return d.server.start(ctx, d.CA, passwords["reader"])
}

// startMachine starts web-1, or says in NoSSH why there is none.
func (d *Demo) startMachine(ctx context.Context, at ports) error {
	path, account, err := machine()
	if d.NoSSH = err; err != nil {
		return nil //nolint:nilerr // a demo without web-1 is said, and is no failure
	}
	d.SSH = net.JoinHostPort("localhost", strconv.Itoa(at.SSH))
	return d.startSSHD(ctx, path, account, at.SSHD)
}

// machine finds sshd and who is to run it.
func machine() (path string, account *owner, err error) {
	if path, err = findSSHD(); err != nil {
		return "", nil, err
	}
	account, err = guest()
	return path, account, err
}

func (d *Demo) startProvider(s *state, keys *keys, secret string) error {
	cert, err := tls.X509KeyPair(keys.gateCert, keys.gateKey)
	if err != nil {
		return fmt.Errorf("read the provider's certificate: %w", err)
	}
	d.provider, err = devidp.Start(devidp.Config{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Ports.Issuer)), Host: "localhost", Certificate: cert, Users: s.Users,
		Clients: []devidp.Client{{ID: clientID, Secret: secret, RedirectURLs: []string{d.Web + "/callback"}}},
	})
	if err != nil {
		return err
	}
	d.Issuer = d.provider.URL()
	return nil
}

// startRecord makes an empty log where there is none.
func (d *Demo) startRecord() error {
	if _, err := os.Stat(d.path("audit", "log.json")); err == nil {
		return nil
	}
	return audit.Init(d.path("audit"), Host)
}

func (d *Demo) writeConfig(s *state, root string, version int) error {
	draft := config.Draft{
		URL: d.Web, Node: "demo", Name: "Sallyport demo", CA: d.CA,
		Web: local(s.Ports.Web), Postgres: local(s.Ports.Postgres), Advertise: d.Postgres,
		Certificate: "gate.crt", Key: "gate.key",
		Store: "gate.db", Audit: "audit", Recordings: "recordings", Origin: Host,
		Policy: "policy", Root: root, MinVersion: version,
		LoginCertificate: "login-ca.crt", LoginKey: "login-ca.key", LoginSSHKey: "login-ca-ssh.key", SealKey: "seal.key",
	}
	if d.sshd != nil {
		draft.SSH = &config.DraftSSH{
			Address: local(s.Ports.SSH), Advertise: d.SSH, Names: []string{"localhost", Host},
			HostKey: "ssh-host.key", HostCA: "ssh-host-ca.key", SessionCA: "ssh-session-ca.key",
		}
	}
	for _, name := range []string{"oidc-client", "orders-reader", "orders-writer"} {
		draft.Credentials = append(draft.Credentials, config.Credential{Name: name, From: "file:credentials/" + name})
	}
	var text bytes.Buffer
	if err := draft.Write(&text); err != nil {
		return err
	}
	if err := os.WriteFile(d.Config, text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write proxy.hcl: %w", err)
	}
	return nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Close ends what Start started, and waits for it.
func (d *Demo) Close() error {
	var errs []error
	if d.provider != nil {
		errs = append(errs, d.provider.Close())
	}
	if d.app != nil {
		errs = append(errs, d.app.close())
	}
	if d.sshd != nil {
		errs = append(errs, d.sshd.stop())
	}
	return errors.Join(append(errs, d.server.stop())...)
}
