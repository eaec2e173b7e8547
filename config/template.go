package config

import (
	_ "embed"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/template"
)

//go:embed proxy.hcl.tmpl
var proxyText string

// A Draft is what `sallyport init` and the demo fill into a first proxy.hcl.
type Draft struct {
	URL, Node, Name            string
	CA                         string    // may be empty
	Web, Postgres              string    // addresses to bind
	Advertise                  string    // of postgres; may be empty
	SSH                        *DraftSSH // nil: commented out
	Certificate, Key           string
	Store, Audit, Recordings   string
	Origin, Mirror             string
	Policy, Root               string
	MinVersion                 int
	LoginCertificate, LoginKey string
	LoginSSHKey                string // may be empty
	SealKey                    string
	Credentials                []Credential // Name and From
}

// DraftSSH is the listener for SSH.
type DraftSSH struct {
	Address, Advertise         string
	HostKey, HostCA, SessionCA string
	Names                      []string
}

// Example is the Draft behind proxy.example.hcl.
func Example() Draft {
	return Draft{
		URL: "https://gate.example.com", Node: "gate-1", Name: "Example gate",
		Web: ":443", Postgres: ":5432",
		Certificate: "/etc/sallyport/tls/gate.crt", Key: "/etc/sallyport/tls/gate.key",
		Store: "/var/lib/sallyport/gate.db", Audit: "/var/lib/sallyport/audit", Recordings: "/var/lib/sallyport/recordings",
		Origin: "gate.example.com",
		Policy: "/etc/sallyport/policy", Root: "sha256:" + strings.Repeat("0", 64), MinVersion: 1,
		LoginCertificate: "/etc/sallyport/login-ca.crt", LoginKey: "/etc/sallyport/login-ca.key", LoginSSHKey: "/etc/sallyport/login-ca-ssh.key",
		SealKey: "/etc/sallyport/seal.key",
		Credentials: []Credential{
			{Name: "oidc-client", From: "file:/etc/sallyport/credentials/oidc-client"},
			{Name: "orders-reader", From: "file:/etc/sallyport/credentials/orders-reader"},
			{Name: "orders-writer", From: "exec:/usr/bin/pass show orders-writer"},
		},
	}
}

// Write writes d as a commented proxy.hcl.
func (d Draft) Write(w io.Writer) error {
	t, err := template.New("proxy.hcl").Funcs(template.FuncMap{"quote": quote}).Parse(proxyText)
	if err != nil {
		return fmt.Errorf("parse the template of proxy.hcl: %w", err)
	}
	return t.Execute(w, d)
}

// quote writes a string as HCL reads it: Go's quotes, and its template marks doubled.
func quote(s string) string {
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(strconv.Quote(s))
}
