package policy

import (
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/identity"
)

var (
	protocolWords = []string{"postgres", "ssh", "http"}
	proofWords    = []string{string(identity.ByBrowser), string(identity.ByCertificate), string(identity.ByToken), string(identity.ByOAuth), string(identity.ByWorkload)}
	nameForm      = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
	roleForm      = regexp.MustCompile(`^[a-z_][a-z0-9._-]{0,62}$`)
	wordForm      = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	pinForm       = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// A set is the content of a policy, compiled. It never changes.
type set struct {
	identity Identity
	issuers  map[string]*Issuer // by URL
	persons  int                // how many of them are for people
	claims   []string           // that any issuer maps, sorted
	zone     *time.Location
	targets  map[string]*Target
	names    []string // of targets, sorted
	labels   []string // keys of labels, sorted
	tickets  map[string]*ticket
	rules    []*rule // rules and break-glass rules, by name
	forbids  []*rule
	rights   []*right
	covers   map[string]*cover // by target
	places   map[string]hcl.Range
}

// A cover is what concerns one target.
type cover struct {
	rules, forbids []*rule
}

// A ticket is a kind of ticket number.
type ticket struct {
	name    string
	pattern *regexp.Regexp
	hint    string
}

// sources are the files of a bundle, by path below it.
type sources map[string][]byte

// compile reads every block of every file. It never stops at the first finding.
// The order of files and blocks means nothing, so whatever others refer to goes first.
func compile(src sources) (*set, []*trial, *findings) {
	f := &findings{}
	s := &set{
		targets: map[string]*Target{}, tickets: map[string]*ticket{}, issuers: map[string]*Issuer{},
		covers: map[string]*cover{}, places: map[string]hcl.Range{}, zone: time.UTC,
	}
	blocks := map[string][]*hclsyntax.Block{}
	var tests []*hclsyntax.Block
	for _, path := range sortedKeys(src) {
		if !strings.HasSuffix(path, ".hcl") {
			continue
		}
		file, diags := hclsyntax.ParseConfig(src[path], path, hcl.InitialPos)
		f.diags = append(f.diags, diags...)
		if diags.HasErrors() {
			continue
		}
		body, ok := file.Body.(*hclsyntax.Body)
		if !ok {
			continue
		}
		for _, name := range sortedKeys(body.Attributes) {
			f.bad(body.Attributes[name].NameRange, "Outside a block", "%s stands in no block.", name)
		}
		if strings.HasSuffix(path, ".test.hcl") {
			tests = append(tests, body.Blocks...)
			continue
		}
		for _, b := range body.Blocks {
			if !slices.Contains(blockWords, b.Type) {
				f.bad(b.TypeRange, "Unknown block", "There is no block %q.%s", b.Type, didYouMean(b.Type, blockWords))
				continue
			}
			blocks[b.Type] = append(blocks[b.Type], b)
		}
	}
	s.readClock(f, blocks["clock"])
	s.readIssuers(f, blocks["issuer"], src)
	s.readTickets(f, blocks["ticket"])
	s.readTargets(f, blocks["target"], src)
	for _, kind := range []string{kindRule, kindForbid, kindBreakGlass} {
		for _, b := range blocks[kind] {
			s.readRule(f, b)
		}
	}
	for _, b := range blocks["right"] {
		s.readRight(f, b)
	}
	s.index()
	return s, s.readTests(f, tests), f
}

var blockWords = []string{"rule", "forbid", "break_glass", "right", "target", "issuer", "ticket", "clock"}

// index notes which rules concern which target, and puts rules into one order.
func (s *set) index() {
	byName := func(a, b *rule) int { return strings.Compare(a.name, b.name) }
	slices.SortFunc(s.rules, byName)
	slices.SortFunc(s.forbids, byName)
	for _, name := range s.names {
		c := &cover{}
		t := s.targets[name]
		for _, r := range s.rules {
			if r.target.matches(t) {
				c.rules = append(c.rules, r)
			}
		}
		for _, r := range s.forbids {
			if r.target.matches(t) {
				c.forbids = append(c.forbids, r)
			}
		}
		s.covers[name] = c
	}
}

// unique refuses a second block of the same kind and name.
func (s *set) unique(f *findings, b *hclsyntax.Block, name string) bool {
	key := b.Type + " " + name
	if b.Type == kindForbid || b.Type == kindBreakGlass {
		key = kindRule + " " + name // they share their names: an entry says "rule x"
	}
	if first, ok := s.places[key]; ok {
		f.bad(b.DefRange(), "Written twice", "%s %q is already at %s:%d.", b.Type, name, first.Filename, first.Start.Line)
		return false
	}
	s.places[key] = b.DefRange()
	return true
}

func (s *set) readClock(f *findings, blocks []*hclsyntax.Block) {
	b := f.one(blocks, "clock")
	if b == nil {
		return
	}
	f.blocks(b, "clock")
	r := f.block(b, "clock")
	zone := r.need("zone")
	r.done()
	if zone == "" {
		return
	}
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		f.bad(r.attrs["zone"].Range(), "Unknown zone", "Write a zone such as \"Europe/Berlin\" or \"UTC\".")
		return
	}
	s.zone = loc
}

func (s *set) readTickets(f *findings, blocks []*hclsyntax.Block) {
	for _, b := range blocks {
		name, ok := f.labels(b, 1)
		if !ok || !s.unique(f, b, name) {
			continue
		}
		f.blocks(b, "ticket "+name)
		r := f.block(b, "ticket "+name)
		t := &ticket{name: name, hint: r.str("hint")}
		if p := r.need("pattern"); p != "" {
			re, err := regexp.Compile(`^(?:` + p + `)$`)
			if err != nil {
				f.bad(r.attrs["pattern"].Range(), "Not a pattern", "It is a regular expression (RE2): %v.", err)
			} else {
				t.pattern = re
			}
		}
		r.done()
		s.tickets[name] = t
	}
}

func (s *set) readTargets(f *findings, blocks []*hclsyntax.Block, src sources) {
	for _, b := range blocks {
		name, ok := f.labels(b, 1)
		if !ok || !s.unique(f, b, name) {
			continue
		}
		if !nameForm.MatchString(name) {
			f.bad(b.LabelRanges[0], "Not a name", "Names of targets are of lower-case letters, digits, dots, dashes and underscores, because people type them into their clients.")
		}
		s.targets[name] = readTarget(f, b, name, src)
		s.names = append(s.names, name)
		for key := range s.targets[name].Labels {
			s.labels = append(s.labels, key)
		}
	}
	slices.Sort(s.names)
	slices.Sort(s.labels)
	s.labels = slices.Compact(s.labels)
}

func readTarget(f *findings, b *hclsyntax.Block, name string, src sources) *Target {
	what := "target " + name
	inner := f.blocks(b, what, "tls", "options", "role")
	r := f.block(b, what)
	r.need("protocol")
	t := &Target{Name: name, Protocol: r.word("protocol", append([]string{""}, protocolWords...)...), Address: r.need("address"), Labels: r.texts("labels"), Roles: map[string]Role{}}
	r.done()
	for key := range t.Labels {
		if !wordForm.MatchString(key) {
			f.bad(r.where("labels"), "Not a name", "The label %q is not of lower-case letters, digits, dashes and underscores.", key)
		}
	}
	local := checkAddress(f, r, t.Address)
	t.TLS = readTLS(f, f.one(inner, "tls"), t, what, local, src)
	t.Options = options(f.one(inner, "options"))
	for _, rb := range inner {
		if rb.Type != "role" {
			continue
		}
		role, ok := f.labels(rb, 1)
		if !ok {
			continue
		}
		if !roleForm.MatchString(role) {
			f.bad(rb.LabelRanges[0], "Not a name", "Names of roles are of lower-case letters, digits, dots, dashes and underscores.")
		}
		if _, twice := t.Roles[role]; twice {
			f.bad(rb.DefRange(), "Written twice", "%s has the role %q already.", what, role)
			continue
		}
		in := f.blocks(rb, "role "+role, "options")
		rr := f.block(rb, "role "+role)
		t.Roles[role] = Role{Name: role, Account: either(rr.str("account"), role), Credential: rr.str("credential"), Options: options(f.one(in, "options"))}
		rr.done()
	}
	if len(t.Roles) == 0 {
		f.bad(b.DefRange(), "No role", "%s needs at least one role \"name\" { }.", what)
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
func checkAddress(f *findings, r *fields, address string) (local bool) {
	if address == "" {
		return false
	}
	if strings.HasPrefix(address, "/") {
		return true
	}
	host, port, err := net.SplitHostPort(address)
	n, errPort := strconv.Atoi(port)
	if err != nil || errPort != nil || host == "" || n < 1 || n > 65535 || strings.ContainsAny(host, " /@?#%\\\t\r\n") {
		f.bad(r.where("address"), "Not an address", "Write \"host:port\", or the absolute path of a unix socket.")
		return false
	}
	return isLoopback(host)
}

// isLoopback takes addresses only: what localhost means is in a file of the machine.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func readTLS(f *findings, b *hclsyntax.Block, t *Target, what string, local bool, src sources) TLS {
	if t.Protocol == "ssh" {
		if b != nil {
			f.bad(b.DefRange(), "No TLS in SSH", "Pin the host keys in options { }.")
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
	f.blocks(b, "tls of "+what)
	r := f.block(b, "tls of "+what)
	tls.Mode = r.word("mode", tls.Mode, "verify-full", "off")
	tls.ServerName = r.str("server_name")
	tls.CA = readCA(f, r, src)
	tls.Pins = r.list("pin")
	r.done()
	for _, pin := range tls.Pins {
		if !pinForm.MatchString(pin) {
			f.bad(r.where("pin"), "Not a pin", "Write \"sha256:\" and the 64 hexadecimal digits of the certificate's public key.")
		}
	}
	if tls.Mode == "off" && !local {
		f.bad(r.where("mode"), "Plaintext", "Without TLS the credential could be read on the way: mode = \"off\" is only for loopback addresses and unix sockets.")
	}
	if tls.Mode == "off" && (tls.CA != nil || tls.ServerName != "" || tls.Pins != nil) {
		f.bad(r.where("mode"), "Never checked", "With mode = \"off\" nothing checks ca, server_name and pin; take them away.")
	}
	return tls
}

// readCA returns the file of the bundle that the attribute ca names.
func readCA(f *findings, r *fields, src sources) []byte {
	name := r.str("ca")
	if name == "" {
		return nil
	}
	text, ok := src["policy/"+name]
	if !ok {
		f.bad(r.where("ca"), "No such file", "There is no file policy/%s in the bundle.", name)
		return nil
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		f.bad(r.where("ca"), "Not a CA file", "policy/%s has no certificate in PEM.", name)
	}
	return text
}

// checkURL refuses what is not https, save on this machine's loopback.
func checkURL(f *findings, r *fields, name, raw string) {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		f.bad(r.where(name), "Not an address", "Write it as the issuer's own configuration has it: https://id.example.com")
	case u.Scheme == "https":
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	default:
		f.bad(r.where(name), "Plaintext", "An issuer is reached by https; http is only for loopback addresses.")
	}
}
