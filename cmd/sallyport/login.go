package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/shellword"
)

// signInWait is how long login waits for the browser: as long as the gate keeps a code.
const signInWait = 10 * time.Minute

// credentials is what the gate hands out for a code (POST /api/v1/cli/token).
type credentials struct {
	User               identity.User `json:"user"`
	Token              string        `json:"token"`
	TokenExpires       time.Time     `json:"token_expires"`
	Certificate        string        `json:"certificate"`
	CertificateExpires time.Time     `json:"certificate_expires"`
	SSHCertificate     string        `json:"ssh_certificate"`
}

func newLogin() *cobra.Command {
	var flags clientFlags
	var noBrowser, fresh bool
	c := &cobra.Command{
		Use: "login", Short: "Sign in, and get short-lived certificates and an API token",
		Long: `Signs in at the gate in a browser and saves a client certificate with its key, for
psql and other clients, the same for ssh, and an API token, for this program. They
are in $SALLYPORT_HOME, or in a folder "sallyport" of your configuration, for you
alone. Where an ssh-agent runs, it holds the certificate for ssh until that ends.

The browser is the first of $BROWSER that starts, else the desktop's. With
--no-browser it prints an address to open anywhere, and reads the code that the
page shows from the terminal. With --fresh the identity provider asks for you again,
as saying yes to a request needs it, even where it knows you from before.`,
		Example: "  sallyport login --server https://gate.example.com\n  sallyport login --server https://gate.example.com --ca ca.pem --no-browser",
	}
	flags.add(c)
	c.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address, and read the code from the terminal")
	c.Flags().BoolVar(&fresh, "fresh", false, "have the identity provider ask for you again, for saying yes")
	c.RunE = func(c *cobra.Command, _ []string) error {
		home, err := openHome()
		if err != nil {
			return err
		}
		if err := flags.lastServer(home); err != nil {
			return err
		}
		gate, err := newClient(flags.server, flags.ca)
		if err != nil {
			return err
		}
		return login(c, gate, home, flags.ca, noBrowser, fresh)
	}
	return c
}

// lastServer fills in where the last login was.
func (f *clientFlags) lastServer(home home) error {
	saved, err := home.load()
	if f.server == "" {
		if err != nil {
			return err
		}
		f.server = saved.Server
	}
	if err == nil && saved.CA && f.ca == "" && strings.TrimRight(f.server, "/") == saved.Server {
		f.ca = home.path(caFile)
	}
	return nil
}

func login(c *cobra.Command, gate *client, home home, ca string, noBrowser, fresh bool) error {
	verifier := random()
	sum := sha256.Sum256([]byte(verifier))
	ask := url.Values{"challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "host": {hostname()}, "state": {random()}}
	if fresh {
		ask.Set("fresh", "yes")
	}
	ctx, cancel := context.WithTimeout(c.Context(), signInWait)
	defer cancel()
	var code string
	var err error
	if noBrowser {
		code, err = codeFromTerminal(ctx, c, gate, ask)
	} else {
		code, err = codeFromBrowser(ctx, c, gate, ask)
	}
	if err != nil {
		return err
	}
	key, keyPEM, request, err := newRequest()
	if err != nil {
		return err
	}
	sshKey, err := newSSHKey()
	if err != nil {
		return err
	}
	var got credentials
	err = gate.post(ctx, "/api/v1/cli/token", map[string]string{
		"code": code, "verifier": verifier, "certificate_request": string(request), "ssh_key": string(ssh.MarshalAuthorizedKey(sshKey.public)),
	}, &got)
	if err != nil {
		return err
	}
	if err := fits(key, got.Certificate); err != nil {
		return err
	}
	cert, err := sshKey.certificate(got.SSHCertificate)
	if err != nil {
		return err
	}
	before := home.sshCertificate()
	if err := errors.Join(keepSSH(home, sshKey, cert), keep(home, gate.base, ca, got, keyPEM)); err != nil {
		return err
	}
	if err := afterLogin(c.OutOrStdout(), home, got); err != nil || cert == nil {
		return err
	}
	found, err := intoAgent(ctx, sshKey, cert, before, got.User.String())
	return afterSSH(c.OutOrStdout(), home, found, err)
}

// random is 256 bits as text.
func random() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// hostname is what this machine calls itself, in the letters that the gate's page takes.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return -1
	}, name)
	name = strings.TrimLeft(name, ".-")
	if name == "" {
		return "unknown"
	}
	return name[:min(len(name), 60)]
}

// codeFromTerminal prints the address and reads what is typed.
func codeFromTerminal(ctx context.Context, c *cobra.Command, gate *client, ask url.Values) (string, error) {
	fmt.Fprintf(c.OutOrStdout(), "Open this address in a browser and sign in:\n\n  %s/cli/login?%s\n\nType the code that it shows: ", gate.base, ask.Encode()) //nolint:errcheck // the terminal
	typed := make(chan string, 1)
	go func() { // ends with the program where nothing is typed: a read of the terminal cannot be called off
		line, _ := bufio.NewReader(io.LimitReader(c.InOrStdin(), 1000)).ReadString('\n')
		typed <- strings.TrimSpace(line)
	}()
	select {
	case code := <-typed:
		if code == "" {
			return "", errors.New("no code was typed; nothing was changed")
		}
		return code, nil
	case <-ctx.Done():
		return "", fmt.Errorf("no code was typed; type sallyport login again: %w", ctx.Err())
	}
}

// codeFromBrowser opens a browser and waits for it to come back to a port of ours
// on the loopback (RFC 8252 section 7.3).
func codeFromBrowser(ctx context.Context, c *cobra.Command, gate *client, ask url.Values) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for the browser: %w; type: sallyport login --no-browser", err)
	}
	ask.Set("port", strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	codes := make(chan string, 1)
	server := &http.Server{Handler: callback(ask.Get("state"), codes), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends by Shutdown
	}()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(end) != nil {
			_ = server.Close()
		}
		<-served
	}()
	address := gate.base + "/cli/login?" + ask.Encode()
	fmt.Fprintf(c.OutOrStdout(), "Sign in in the browser. If none opens, open this address on this machine:\n\n  %s\n\n", address) //nolint:errcheck // the terminal
	if err := openBrowser(ctx, address); err != nil {
		fmt.Fprintln(c.OutOrStdout(), "No browser could be started. On a machine without one, type: sallyport login --no-browser") //nolint:errcheck // the terminal
	}
	select {
	case code := <-codes:
		return code, nil
	case <-ctx.Done():
		return "", fmt.Errorf("nobody signed in; type sallyport login again: %w", ctx.Err())
	}
}

// callback takes the code once, and only with the state that this login made: another
// page cannot sign this command line in as somebody else.
func callback(state string, codes chan<- string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		w.Header().Set("Referrer-Policy", "no-referrer")
		say := "You are signed in on the command line. You can close this page."
		got, code := r.URL.Query().Get("state"), r.URL.Query().Get("code")
		if subtle.ConstantTimeCompare([]byte(got), []byte(state)) != 1 || code == "" {
			w.WriteHeader(http.StatusBadRequest)
			say = "This is not the sign-in that the command line waits for."
		} else {
			select {
			case codes <- code:
			default:
			}
		}
		fmt.Fprintf(w, "<!doctype html><html lang=\"en\"><title>Sallyport</title><p>%s</p></html>", html.EscapeString(say)) //nolint:errcheck // the browser
	})
	return mux
}

// newRequest makes a key and a certificate request; the key never leaves this machine.
func newRequest() (key *ecdsa.PrivateKey, keyPEM, request []byte, err error) {
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("write the key: %w", err)
	}
	asked, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("ask for a certificate: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: asked}), nil
}

// fits checks that the certificate is for our key, before the old files are replaced.
func fits(key *ecdsa.PrivateKey, certPEM string) error {
	block, _ := pem.Decode([]byte(certPEM))
	if block == nil {
		return errors.New("the gate gave no certificate; is it the same version as this program?")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !key.PublicKey.Equal(cert.PublicKey) {
		return errors.New("the gate gave a certificate for another key; nothing was saved")
	}
	return nil
}

func keep(home home, server, ca string, got credentials, keyPEM []byte) error {
	saved := savedLogin{Server: server, User: got.User.String(), CA: ca != ""}
	text, err := json.Marshal(saved)
	if err != nil {
		return err
	}
	var caPEM []byte
	if ca != "" {
		if caPEM, err = os.ReadFile(ca); err != nil {
			return fmt.Errorf("read the CA: %w", err)
		}
	}
	// What names the gate is last: without it the rest is not used.
	files := []struct {
		name string
		text []byte
	}{{keyFile, keyPEM}, {certFile, []byte(got.Certificate)}, {tokenFile, []byte(got.Token)}, {caFile, caPEM}, {loginFile, text}}
	for _, f := range files {
		if f.text == nil {
			continue
		}
		if err := home.save(f.name, f.text); err != nil {
			return err
		}
	}
	return nil
}

func afterLogin(w io.Writer, home home, got credentials) error {
	_, err := fmt.Fprintf(w, `
You are signed in as %s. The certificate is good until %s.
PostgreSQL clients use it with:

  export PGSSLCERT=%s PGSSLKEY=%s
`, cli.Safe(got.User.String()), cli.Clock(got.CertificateExpires), shellword.Quote(home.path(certFile)), shellword.Quote(home.path(keyFile)))
	return err
}

// afterSSH says how ssh comes to the certificate. An ssh-agent that does not take it is
// no failure of the login.
func afterSSH(w io.Writer, home home, agent bool, err error) error {
	switch {
	case err != nil:
		fmt.Fprintf(w, "\nYour ssh-agent did not take the certificate for ssh: %s\n", cli.Safe(err.Error())) //nolint:errcheck // the terminal
	case agent:
		_, err := fmt.Fprint(w, "\nYour ssh-agent holds it for ssh. To write ssh's configuration, type: sallyport ssh-config\n")
		return err
	}
	_, err = fmt.Fprintf(w, "\nssh uses it with:\n\n  ssh -i %s ROLE@TARGET@GATE\n\nTo write ssh's configuration, type: sallyport ssh-config\n", shellword.Quote(home.path(sshKeyFile)))
	return err
}
