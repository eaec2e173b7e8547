package notify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"regexp"

	"github.com/sallyport/sallyport/credential"
)

// DefaultPort is message submission with STARTTLS (RFC 6409).
const DefaultPort = 587

// A Config says where notices go. The zero Config sends none.
type Config struct {
	// Webhooks each get every notice.
	Webhooks []WebhookConfig `hcl:"webhook,block"`

	// Mail goes to the e-mail addresses of those whom a notice concerns.
	Mail *MailConfig `hcl:"mail,block"`
}

// A WebhookConfig is a receiver of signed JSON over HTTP.
type WebhookConfig struct {
	// Name is what entries and errors call the receiver.
	Name string `hcl:"name,label"`

	// URL gets the POST. It is https; plain http is for receivers on this machine only,
	// because reasons and names could be read on the way.
	URL string `hcl:"url"`

	// Secret names the credential that holds the signing key: "whsec_" and the base64 of
	// 24 to 64 random bytes. It is read for each try, so a rotated key is used at once.
	Secret string `hcl:"secret"`

	// CA is a PEM file to verify the receiver with. Default: the system's.
	CA string `hcl:"ca,optional"`
}

// A MailConfig is the server that takes mail to people.
type MailConfig struct {
	// Host is its name, which its certificate must be good for.
	Host string `hcl:"host"`

	// Port takes SMTP with STARTTLS. Default 587.
	Port int `hcl:"port,optional"`

	// From is the sender: "gate@example.com" or "Gate <gate@example.com>".
	From string `hcl:"from"`

	// User and Password, the name of a credential, sign in at the server, under TLS
	// only. Default: no sign-in.
	User     string `hcl:"user,optional"`
	Password string `hcl:"password,optional"`

	// CA is a PEM file to verify the server with. Default: the system's.
	CA string `hcl:"ca,optional"`
}

// A Problem is one thing that is wrong with a Config, for the place in the file that it
// stands at.
type Problem struct {
	Webhook int    // index of the webhook, -1 for mail
	Key     string // as in the file: "url"
	Summary string // a few words
	Say     string // a sentence or two: why, and what to write instead
}

var webhookName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Check finds all that is wrong with c, and reads no secret. Secrets that c names must
// be in set.
func (c Config) Check(set credential.Set) []Problem {
	var found []Problem
	seen := map[string]bool{}
	for i, w := range c.Webhooks {
		bad := func(key, summary, say string) { found = append(found, Problem{i, key, summary, say}) }
		switch {
		case !webhookName.MatchString(w.Name):
			bad("name", "Not a webhook's name", "Letters, digits, dot, dash and underscore; at most 63.")
		case seen[w.Name]:
			bad("name", "Named twice", fmt.Sprintf("Another webhook is called %q.", w.Name))
		}
		seen[w.Name] = true
		if summary, say := checkURL(w.URL); summary != "" {
			bad("url", summary, say)
		}
		if _, ok := set[w.Secret]; !ok {
			// It is not repeated: people write the key itself here.
			bad("secret", "No such credential", "Name a credential block of this file that holds the signing key.")
		}
		if _, err := pool(w.CA); err != nil {
			bad("ca", "Cannot use the CA", err.Error()+".")
		}
	}
	if c.Mail != nil {
		found = append(found, c.Mail.check(set)...)
	}
	return found
}

func (m MailConfig) check(set credential.Set) []Problem {
	var found []Problem
	bad := func(key, summary, say string) { found = append(found, Problem{-1, key, summary, say}) }
	if !hostForm.MatchString(m.Host) {
		bad("host", "Not a host", "Write the mail server's name, such as \"smtp.example.com\", without port and scheme.")
	}
	switch {
	case m.Port < 0 || m.Port > 65535:
		bad("port", "Not a port", "Write 587, or leave it out.")
	case m.Port == 465:
		bad("port", "Not a port for STARTTLS", "Port 465 speaks TLS from its first byte. Write 587, or leave it out.")
	}
	if _, err := mail.ParseAddress(m.From); err != nil {
		bad("from", "Not an address", "Write one sender, such as \"Gate <gate@example.com>\".")
	}
	_, ok := set[m.Password]
	switch {
	case m.User == "" && m.Password != "":
		bad("user", "Password without a user", "Write whose password it is, or take the password out.")
	case m.User != "" && !ok:
		bad("password", "No such credential", "Name a credential block of this file that holds the password.")
	}
	if _, err := pool(m.CA); err != nil {
		bad("ca", "Cannot use the CA", err.Error()+".")
	}
	return found
}

var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$|^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$`)

func checkURL(text string) (summary, say string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return "No URL", "Write where the receiver takes POSTs, such as \"https://hooks.example.com/gate\"."
	case u.User != nil || u.Fragment != "":
		return "Password or fragment in the URL", "The signature proves the gate to the receiver. Write scheme, host and path."
	case u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()):
		return "", ""
	}
	return "Not https", "Names and reasons could be read on the way. Write \"https://...\"."
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// pool reads a CA file; no file is nil, the system's CAs.
func pool(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return p, nil
}
