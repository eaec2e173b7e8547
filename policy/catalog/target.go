package catalog

import (
	"crypto/x509"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/policy/strict"
)

// Protocols are the words that a target's protocol can be.
func Protocols() []string { return []string{"postgres", "ssh", "http"} }

var (
	nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	roleForm = regexp.MustCompile(`^[a-z_][a-z0-9._-]{0,62}$`)
	wordForm = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	pinForm  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// A Target is something behind the gate, as the signed bundle describes it.
type Target struct {
	Name     string
	Protocol string // "postgres", "ssh", "http"
	Address  string // host:port, or the absolute path of a unix socket
	Labels   map[string]string
	TLS      TLS
	Roles    map[string]Role
	// Options decodes the target's own `options` block into a protocol's struct
	// with hcl tags; unknown attributes are errors with file and line. Without such
	// a block it leaves into as it is.
	Options func(into any) error

	where func(option string) hcl.Range
}

// Where is the place of one of the target's options, or of a role's where role is not
// empty; else the block's. An option within a block of the options is "block.option".
func (t Target) Where(role, option string) hcl.Range {
	where := t.where
	if r, ok := t.Roles[role]; ok {
		where = r.where
	}
	if where == nil {
		return hcl.Range{}
	}
	return where(option)
}

// TLS says how the gate knows the target. The zero value verifies certificate and
// name against the system's roots.
type TLS struct {
	Mode       string         // "verify-full" (default), or "off" for loopback and unix sockets only
	Roots      *x509.CertPool // from a file inside the bundle, parsed once; nil: the system's
	ServerName string         // default: the address's host
	Pins       []string       // "sha256:<hex>" of the leaf's SubjectPublicKeyInfo; any one matches
}

// A Role is an account at the target, and the credential that opens it.
type Role struct {
	Name       string
	Account    string // the account's name at the target; default: Name
	Credential string // a name that proxy.hcl maps to a place; empty: none
	// Options is as Target.Options, for the role's block.
	Options func(into any) error

	where func(option string) hcl.Range
}

// A Problem is what a protocol finds wrong with a target's options.
type Problem struct {
	Target string
	Role   string // whose options; empty: the target's own
	Option string // empty: all of them
	Say    string // a sentence: what is wrong, and what to write
	Err    error  // of Options, in place of Option and Say
}

// ReadTarget reads a target block; src are the files of the bundle, for its CA.
func ReadTarget(f *strict.Findings, b *hclsyntax.Block, name string, src map[string][]byte) *Target {
	what := "target " + name
	inner := f.Blocks(b, what, "tls", "options", "role")
	r := f.Block(b, what)
	r.Need("protocol")
	t := &Target{Name: name, Protocol: r.Word("protocol", append([]string{""}, Protocols()...)...), Address: r.Need("address"), Labels: r.Texts("labels"), Roles: map[string]Role{}}
	r.Done()
	for key := range t.Labels {
		if !wordForm.MatchString(key) {
			f.Bad(r.Where("labels"), "Not a name", "The label %q is not of lower-case letters, digits, dashes and underscores.", key)
		}
	}
	local := checkAddress(f, r, t.Address)
	t.TLS = readTLS(f, f.One(inner, "tls"), t, what, local, src)
	t.Options, t.where = options(b, f.One(inner, "options"))
	for _, rb := range inner {
		if rb.Type != "role" {
			continue
		}
		role, ok := f.Label(rb, 1)
		if !ok {
			continue
		}
		if !roleForm.MatchString(role) {
			f.Bad(rb.LabelRanges[0], "Not a name", "Names of roles are of lower-case letters, digits, dots, dashes and underscores.")
		}
		if _, twice := t.Roles[role]; twice {
			f.Bad(rb.DefRange(), "Written twice", "%s has the role %q already.", what, role)
			continue
		}
		in := f.Blocks(rb, "role "+role, "options")
		rr := f.Block(rb, "role "+role)
		made := Role{Name: role, Account: either(rr.Str("account"), role), Credential: rr.Str("credential")}
		made.Options, made.where = options(rb, f.One(in, "options"))
		t.Roles[role] = made
		rr.Done()
	}
	if len(t.Roles) == 0 {
		f.Bad(b.DefRange(), "No role", "%s needs at least one role \"name\" { }.", what)
	}
	return t
}

func either(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// checkAddress reports whether the address cannot leave this machine.
func checkAddress(f *strict.Findings, r *strict.Fields, address string) (local bool) {
	if address == "" {
		return false
	}
	if strings.HasPrefix(address, "/") {
		return true
	}
	host, port, err := net.SplitHostPort(address)
	n, errPort := strconv.Atoi(port)
	if err != nil || errPort != nil || host == "" || n < 1 || n > 65535 || strings.ContainsAny(host, " /@?#%\\\t\r\n") {
		f.Bad(r.Where("address"), "Not an address", "Write \"host:port\", or the absolute path of a unix socket.")
		return false
	}
	return isLoopback(host)
}

// isLoopback takes addresses only: what localhost means is in a file of the machine.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func readTLS(f *strict.Findings, b *hclsyntax.Block, t *Target, what string, local bool, src map[string][]byte) TLS {
	if t.Protocol == "ssh" {
		if b != nil {
			f.Bad(b.DefRange(), "No TLS in SSH", "Pin the host keys in options { }.")
		}
		return TLS{}
	}
	tls := TLS{Mode: "verify-full"}
	if strings.HasPrefix(t.Address, "/") {
		tls.Mode = "off" // no protocol here speaks TLS over a unix socket
	}
	if b == nil {
		return tls
	}
	f.Blocks(b, "tls of "+what)
	r := f.Block(b, "tls of "+what)
	tls.Mode = r.Word("mode", tls.Mode, "verify-full", "off")
	tls.ServerName = r.Str("server_name")
	if pem := readCA(f, r, src); pem != nil {
		tls.Roots = x509.NewCertPool() // of none where readCA found fault with it: then it trusts nobody
		tls.Roots.AppendCertsFromPEM(pem)
	}
	tls.Pins = r.List("pin")
	r.Done()
	for _, pin := range tls.Pins {
		if !pinForm.MatchString(pin) {
			f.Bad(r.Where("pin"), "Not a pin", "Write \"sha256:\" and the 64 hexadecimal digits of the certificate's public key.")
		}
	}
	if tls.Mode == "off" && !local {
		f.Bad(r.Where("mode"), "Plaintext", "Without TLS the credential could be read on the way: mode = \"off\" is only for loopback addresses and unix sockets.")
	}
	if tls.Mode == "off" && (tls.Roots != nil || tls.ServerName != "" || tls.Pins != nil) {
		f.Bad(r.Where("mode"), "Never checked", "With mode = \"off\" nothing checks ca, server_name and pin; take them away.")
	}
	return tls
}

// readCA returns the file of the bundle that the attribute ca names.
func readCA(f *strict.Findings, r *strict.Fields, src map[string][]byte) []byte {
	name := r.Str("ca")
	if name == "" {
		return nil
	}
	text, ok := src["policy/"+name]
	if !ok {
		f.Bad(r.Where("ca"), "No such file", "There is no file policy/%s in the bundle.", name)
		return nil
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		f.Bad(r.Where("ca"), "Not a CA file", "policy/%s has no certificate in PEM.", name)
	}
	return text
}

// options returns the decoder of an `options` block, and where each option stands; b is
// nil where outer has none.
func options(outer, b *hclsyntax.Block) (func(any) error, func(option string) hcl.Range) {
	if b == nil {
		return func(any) error { return nil }, func(string) hcl.Range { return outer.DefRange() }
	}
	decode := func(into any) error { return strict.Err(gohcl.DecodeBody(b.Body, nil, into)) }
	return decode, func(option string) hcl.Range {
		at, within := b.DefRange(), b.Body
		for name := range strings.SplitSeq(option, ".") {
			if attr, ok := within.Attributes[name]; ok {
				return attr.Range()
			}
			i := slices.IndexFunc(within.Blocks, func(inner *hclsyntax.Block) bool { return inner.Type == name })
			if i < 0 {
				return at
			}
			at, within = within.Blocks[i].DefRange(), within.Blocks[i].Body
		}
		return at
	}
}
