package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/credential"
	"github.com/sallyport/sallyport/notify"
)

// Defaults of the limits block.
const (
	defaultConnections          = 32_000
	defaultConnectionsPerSource = 8_000
	defaultHeld                 = 10_000
	defaultHeldPerSource        = 100
	defaultHandshake            = 20 * time.Second
	defaultSignIn               = 5 * time.Minute
	defaultGrace                = 30 * time.Second
)

var (
	digest   = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	logName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)
)

// checker finds all that is wrong, and fills in what is left out.
type checker struct {
	c         *Config
	file      *hcl.File
	dir       string
	protocols []string
	diags     hcl.Diagnostics
}

func (v *checker) check() {
	v.gate()
	v.listeners()
	v.store()
	v.audit()
	v.policy()
	v.loginCA()
	v.secret(&v.c.SealKey, v.c.Body, "seal_key")
	v.credentials()
	v.notify()
	v.limits()
}

// bad adds one finding. What was not decoded has been reported already.
func (v *checker) bad(at hcl.Range, summary, detail string, args ...any) {
	if len(args) > 0 {
		detail = fmt.Sprintf(detail, args...)
	}
	v.diags = append(v.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: &at})
}

// at is where a key's value stands, for the snippet.
func at(body hcl.Body, key string) hcl.Range {
	b, ok := body.(*hclsyntax.Body)
	if !ok {
		return hcl.Range{}
	}
	if attr, found := b.Attributes[key]; found {
		return attr.Expr.Range()
	}
	return b.MissingItemRange()
}

func (v *checker) gate() {
	g := &v.c.Gate
	if g.Body == nil {
		return
	}
	base, err := url.Parse(g.URL)
	switch {
	case g.URL == "": // missing: said by the decoder
	case err != nil || base.Host == "" || base.Hostname() == "":
		v.bad(at(g.Body, "url"), "No URL", "Write where browsers reach this gate, such as \"https://gate.example.com\".")
	case base.Scheme != "https":
		v.bad(at(g.Body, "url"), "Not https", "Sign-ins and cookies could be read on the way. Write \"https://%s\".", base.Host)
	case strings.Trim(base.Path, "/") != "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil:
		v.bad(at(g.Body, "url"), "More than a host", "The gate's pages stand at the top of their own name. Write \"https://%s\".", base.Host)
	default:
		base.Path = ""
		g.Base, g.URL = base, base.String()
	}
	if g.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			v.bad(at(g.Body, "node"), "No name for this node", "The host has no name (%v). Write node = \"gate-1\".", err)
		}
		g.Node = host
	}
	if g.Node != "" && !nodeName.MatchString(g.Node) {
		v.bad(at(g.Body, "node"), "Not a node's name", "Letters, digits, dot, dash and underscore; at most 63.")
	}
	if v.path(&g.CA); g.CA != "" {
		v.readable(g.CA, g.Body, "ca")
	}
	if g.Name == "" && g.Base != nil {
		g.Name = g.Base.Host
	}
	if len(g.Name) > 100 {
		v.bad(at(g.Body, "name"), "Name is too long", "At most 100 bytes.")
	}
}

func (v *checker) listeners() {
	known := append([]string{"web"}, v.protocols...)
	seen := map[string]bool{}
	web := false
	for i := range v.c.Listeners {
		l := &v.c.Listeners[i]
		web = web || l.Protocol == "web"
		if !slices.Contains(known, l.Protocol) {
			v.bad(l.Range, "Unknown protocol", "%s", suggest(l.Protocol, known))
		}
		host, port, err := net.SplitHostPort(l.Address)
		if n, numErr := strconv.Atoi(port); err != nil || numErr != nil || n < 0 || n > 65535 {
			v.bad(l.Range, "Not an address", "%q is not host:port, such as \"0.0.0.0:5432\" or \":5432\".", l.Address)
		}
		if _, _, err := net.SplitHostPort(l.Advertise); l.Advertise != "" && err != nil {
			v.bad(at(l.Body, "advertise"), "Not an address", "%q is not host:port, such as \"gate.example.com:5432\".", l.Advertise)
		}
		if l.Advertise == "" && v.c.Gate.Base != nil {
			l.Advertise = net.JoinHostPort(v.c.Gate.Base.Hostname(), port)
		}
		if seen[l.Address] && port != "0" {
			v.bad(l.Range, "Address taken", "Another listen block binds %s already.", l.Address)
		}
		seen[l.Address] = true
		if l.TLS != nil {
			v.pair(l.TLS)
		}
		switch {
		case encrypted(l.Protocol):
			if l.TLS != nil || written(l.Body, "plaintext") {
				v.bad(l.Range, "Encrypted already", "The protocol %s brings its own encryption, so neither tls nor plaintext belongs here; take it out.", l.Protocol)
			}
		case l.TLS == nil && !l.Plaintext:
			v.bad(l.Range, "No TLS", "Everything could be read and changed on the way. Add tls { certificate = \"...\"  key = \"...\" }.")
		case l.Protocol == "web" && l.Plaintext && l.TLS != nil:
			v.bad(at(l.Body, "plaintext"), "Both TLS and plaintext", "The web listener speaks one of them. Take plaintext out.")
		case l.Protocol == "web" && l.Plaintext && !loopback(host):
			v.bad(at(l.Body, "plaintext"), "Plaintext beyond loopback", "Sign-ins and cookies could be read on the way. Add a tls block, or bind 127.0.0.1 behind a TLS proxy on this machine.")
		}
		l.Options = v.options(l.OptionBlock)
	}
	if !web && v.c.Body != nil {
		v.bad(v.file.Body.MissingItemRange(), "No web listener", "Nobody could sign in or approve. Add: listen \"web\" \":443\" { tls { ... } }.")
	}
}

// encrypted reports that a protocol brings its own encryption.
func encrypted(protocol string) bool { return protocol == "ssh" }

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// options decodes a protocol's own block later, when its struct is known.
func (v *checker) options(block *OptionBlock) func(any) error {
	var body hcl.Body = hcl.EmptyBody()
	if block != nil {
		body = block.Remain
	}
	return func(into any) error {
		if diags := gohcl.DecodeBody(body, nil, into); diags.HasErrors() {
			return &Error{file: v.file, name: v.c.Path, Diags: diags}
		}
		if o, ok := into.(interface{ Files() []*string }); ok {
			for _, path := range o.Files() {
				v.path(path)
			}
		}
		return nil
	}
}

// suggest names the nearest known word.
func suggest(word string, known []string) string {
	for _, k := range known {
		if strings.EqualFold(k, word) || near(k, word) {
			return fmt.Sprintf("There is no %q. Did you mean %q?", word, k)
		}
	}
	return fmt.Sprintf("There is no %q. Known are: %s.", word, strings.Join(known, ", "))
}

// near reports that one edit, or a common beginning, joins two words.
func near(a, b string) bool {
	n := min(len(a), len(b))
	return n >= 3 && (a[:n] == b[:n] || a[len(a)-n:] == b[len(b)-n:] || len(a) == len(b) && differ(a, b) <= 2)
}

func differ(a, b string) (n int) {
	for i := range len(a) {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// path makes a path absolute.
func (v *checker) path(p *string) {
	if *p != "" && !filepath.IsAbs(*p) {
		*p = filepath.Join(v.dir, *p)
	}
}

// folder asks that a path's folder exists; the path itself is made when the gate starts.
func (v *checker) folder(p *string, body hcl.Body, key string) {
	v.path(p)
	if *p == "" || body == nil {
		return
	}
	parent := filepath.Dir(*p)
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		v.bad(at(body, key), "No such folder", "Type: install -d -m 0700 %s", parent)
	}
}

func (v *checker) store() {
	v.folder(&v.c.Store.Path, v.c.Store.Body, "path")
	v.folder(&v.c.Recordings.Dir, v.c.Recordings.Body, "dir")
}

func (v *checker) audit() {
	a := &v.c.Audit
	v.folder(&a.Dir, a.Body, "dir")
	if a.Body == nil {
		return
	}
	if a.Origin == "" && v.c.Gate.Base != nil {
		a.Origin = v.c.Gate.Base.Hostname()
	}
	if a.Origin != "" && !logName.MatchString(a.Origin) {
		v.bad(at(a.Body, "origin"), "Not an origin", "Write a name like \"gate.example.com/log\", without scheme and spaces.")
	}
	kind, path, _ := strings.Cut(a.Mirror, ":")
	switch {
	case a.Mirror == "" || a.Mirror == "stdout":
	case kind == "file" && path != "":
		v.folder(&path, a.Body, "mirror")
		a.Mirror = "file:" + path
	default:
		v.bad(at(a.Body, "mirror"), "Not a mirror", "Write \"stdout\" or \"file:/path\".")
	}
}

func (v *checker) policy() {
	p := &v.c.Policy
	if p.Body == nil {
		return
	}
	v.path(&p.Dir)
	there := p.Dir
	if p.Archive != nil {
		v.archive(p.Archive)
		there = filepath.Dir(p.Dir) // dir itself comes with the first archive
	}
	if info, err := os.Stat(there); p.Dir != "" && (err != nil || !info.IsDir()) {
		v.bad(at(p.Body, "dir"), "No policy", "There is no folder %s. Type: sallyport init DIR  to see what one looks like.", there)
	}
	if p.Root != "" && !digest.MatchString(p.Root) {
		v.bad(at(p.Body, "root"), "Not a digest", "Write \"sha256:\" and 64 hexadecimal digits. Type: sha256sum %s", filepath.Join(p.Dir, "trust", "root.1"))
	}
	if p.MinVersion < 0 {
		v.bad(at(p.Body, "min_version"), "Below zero", "Versions begin with 1.")
	}
}

// pair checks that certificate and key can be read; whether they fit is seen when they are loaded.
func (v *checker) pair(p *Pair) {
	if p.Body == nil {
		return
	}
	if v.path(&p.Certificate); p.Certificate != "" {
		v.readable(p.Certificate, p.Body, "certificate")
	}
	v.secret(&p.Key, p.Body, "key")
}

func (v *checker) loginCA() {
	ca := &v.c.LoginCA
	p := Pair{Certificate: ca.Certificate, Key: ca.Key, Body: ca.Body}
	v.pair(&p)
	ca.Certificate, ca.Key = p.Certificate, p.Key
	v.secret(&ca.SSHKey, ca.Body, "ssh_key")
}

// readable checks that a file is there and can be read.
func (v *checker) readable(path string, body hcl.Body, key string) {
	f, err := os.Open(path)
	if err != nil {
		v.bad(at(body, key), "Cannot read the certificate", "%s: %v.", path, cause(err))
		return
	}
	_ = f.Close() // nothing was written
}

// secret checks that a file is there and that only its owner can read it.
func (v *checker) secret(p *string, body hcl.Body, key string) {
	v.path(p)
	if *p == "" || body == nil {
		return
	}
	if err := credential.CheckFile(*p); err != nil {
		v.bad(at(body, key), "Secret file", "%v.", missing(err))
	}
}

// missing says of a file that is not there what to do.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; put it there with mode 0600, or name another place", err)
	}
	return err
}

func (v *checker) credentials() {
	v.c.Set = credential.Set{}
	for _, c := range v.c.Credentials {
		if c.From == "" {
			continue
		}
		source, err := credential.Parse(c.From, v.dir)
		if err != nil {
			v.bad(c.Range, "Not a place", "%v.", err)
			continue
		}
		if _, found := v.c.Set[c.Name]; found {
			v.bad(c.Range, "Named twice", "Another credential block is called %q.", c.Name)
		}
		if path, found := strings.CutPrefix(source.Where(), "file:"); found {
			if err := credential.CheckFile(path); err != nil {
				v.bad(c.Range, "Secret file", "%v.", missing(err))
			}
		}
		v.c.Set[c.Name] = source
	}
}

// notify places what the package finds wrong with its own part.
func (v *checker) notify() {
	n := v.c.Notify
	if n == nil {
		n = &notify.Config{}
		v.c.Notify = n
	}
	for i := range n.Webhooks {
		v.path(&n.Webhooks[i].CA)
	}
	if n.Mail != nil {
		v.path(&n.Mail.CA)
	}
	var webhooks, mails []*hclsyntax.Block
	for _, outer := range blocks(v.file.Body, "notify") {
		webhooks = append(webhooks, blocks(outer.Body, "webhook")...)
		mails = append(mails, blocks(outer.Body, "mail")...)
	}
	for _, p := range n.Check(v.c.Set) {
		at := v.file.Body.MissingItemRange()
		if p.Webhook < 0 && len(mails) == 1 {
			at = place(mails[0], p.Key)
		} else if p.Webhook >= 0 && p.Webhook < len(webhooks) {
			at = place(webhooks[p.Webhook], p.Key)
		}
		v.bad(at, p.Summary, "%s", p.Say)
	}
}

// blocks are the blocks of one type in a body.
func blocks(body hcl.Body, kind string) (found []*hclsyntax.Block) {
	if b, ok := body.(*hclsyntax.Body); ok {
		for _, block := range b.Blocks {
			if block.Type == kind {
				found = append(found, block)
			}
		}
	}
	return found
}

// place is where a key stands in a block, or the block's head.
func place(block *hclsyntax.Block, key string) hcl.Range {
	if attr, found := block.Body.Attributes[key]; found {
		return attr.Expr.Range()
	}
	return block.DefRange()
}

func (v *checker) limits() {
	if v.c.Limits == nil {
		v.c.Limits = &Limits{Body: hcl.EmptyBody()}
	}
	l := v.c.Limits
	for _, n := range []struct {
		key      string
		value    *int
		standard int
	}{
		{"connections", &l.Connections, defaultConnections},
		{"connections_per_source", &l.ConnectionsPerSource, defaultConnectionsPerSource},
		{"held", &l.Held, defaultHeld},
		{"held_per_source", &l.HeldPerSource, defaultHeldPerSource},
	} {
		if !written(l.Body, n.key) {
			*n.value = n.standard
		} else if *n.value < 1 {
			v.bad(at(l.Body, n.key), "Below one", "A limit is at least 1; leave it out for %d.", n.standard)
		}
	}
	for _, d := range []struct {
		key            string
		text           string
		value          *time.Duration
		standard, most time.Duration
	}{
		{"handshake", l.Handshake, &l.HandshakeTime, defaultHandshake, 5 * time.Minute},
		{"sign_in", l.SignIn, &l.SignInTime, defaultSignIn, 15 * time.Minute},
		{"grace", l.Grace, &l.GraceTime, defaultGrace, time.Hour},
	} {
		*d.value = d.standard
		if !written(l.Body, d.key) {
			continue
		}
		took, err := time.ParseDuration(d.text)
		if err == nil && (took < 0 || took > d.most || took == 0 && d.key != "grace") {
			err = errors.New("out of bounds")
		}
		if err != nil {
			v.bad(at(l.Body, d.key), "Not a duration here", "Write one like %q, at most %v.", d.standard, d.most)
			continue
		}
		*d.value = took
	}
}

// written reports that a key stands in the file, so that 0 is not taken for "left out".
func written(body hcl.Body, key string) bool {
	b, ok := body.(*hclsyntax.Body)
	if !ok {
		return false
	}
	_, found := b.Attributes[key]
	return found
}
