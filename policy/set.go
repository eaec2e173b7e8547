package policy

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/catalog"
	"github.com/sallyport/sallyport/policy/strict"
)

var (
	protocolWords = catalog.Protocols()
	proofWords    = []string{string(identity.ByBrowser), string(identity.ByCertificate), string(identity.ByToken), string(identity.ByOAuth), string(identity.ByWorkload)}
	nameForm      = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
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
func compile(src sources) (*set, []*trial, *strict.Findings) {
	f := &strict.Findings{}
	s := &set{
		targets: map[string]*Target{}, tickets: map[string]*ticket{}, issuers: map[string]*Issuer{},
		covers: map[string]*cover{}, places: map[string]hcl.Range{}, zone: time.UTC,
	}
	blocks := map[string][]*hclsyntax.Block{}
	var tests []*hclsyntax.Block
	for _, path := range strict.SortedKeys(src) {
		if !strings.HasSuffix(path, ".hcl") {
			continue
		}
		file, diags := hclsyntax.ParseConfig(src[path], path, hcl.InitialPos)
		f.Diags = append(f.Diags, diags...)
		if diags.HasErrors() {
			continue
		}
		body, ok := file.Body.(*hclsyntax.Body)
		if !ok {
			continue
		}
		for _, name := range strict.SortedKeys(body.Attributes) {
			f.Bad(body.Attributes[name].NameRange, "Outside a block", "%s stands in no block.", name)
		}
		if strings.HasSuffix(path, ".test.hcl") {
			tests = append(tests, body.Blocks...)
			continue
		}
		for _, b := range body.Blocks {
			if !slices.Contains(blockWords, b.Type) {
				f.Bad(b.TypeRange, "Unknown block", "There is no block %q.%s", b.Type, strict.DidYouMean(b.Type, blockWords))
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

// list returns the targets by name.
func (s *set) list() []Target {
	targets := make([]Target, 0, len(s.names))
	for _, name := range s.names {
		targets = append(targets, *s.targets[name])
	}
	return targets
}

var blockWords = []string{"rule", "forbid", "break_glass", "right", "target", "issuer", "ticket", "clock"}

// index notes which rules concern which target, and puts rules into one order.
func (s *set) index() {
	byName := func(a, b *rule) int { return strings.Compare(a.name, b.name) }
	slices.SortFunc(s.rules, byName)
	slices.SortFunc(s.forbids, byName)
	for _, name := range s.names {
		s.covers[name] = &cover{}
	}
	for _, r := range s.rules {
		for _, t := range r.covered {
			s.covers[t.Name].rules = append(s.covers[t.Name].rules, r)
		}
	}
	for _, r := range s.forbids {
		for _, t := range r.covered {
			s.covers[t.Name].forbids = append(s.covers[t.Name].forbids, r)
		}
	}
}

// unique refuses a second block of the same kind and name.
func (s *set) unique(f *strict.Findings, b *hclsyntax.Block, name string) bool {
	key := b.Type + " " + name
	if b.Type == kindForbid || b.Type == kindBreakGlass {
		key = kindRule + " " + name // they share their names: an entry says "rule x"
	}
	if first, ok := s.places[key]; ok {
		f.Bad(b.DefRange(), "Written twice", "%s %q is already at %s:%d.", b.Type, name, first.Filename, first.Start.Line)
		return false
	}
	s.places[key] = b.DefRange()
	return true
}

func (s *set) readClock(f *strict.Findings, blocks []*hclsyntax.Block) {
	b := f.One(blocks, "clock")
	if b == nil {
		return
	}
	f.Blocks(b, "clock")
	r := f.Block(b, "clock")
	zone := r.Need("zone")
	r.Done()
	if zone == "" {
		return
	}
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		f.Bad(r.Attrs["zone"].Range(), "Unknown zone", "Write a zone such as \"Europe/Berlin\" or \"UTC\".")
		return
	}
	s.zone = loc
}

func (s *set) readTickets(f *strict.Findings, blocks []*hclsyntax.Block) {
	for _, b := range blocks {
		name, ok := f.Label(b, 1)
		if !ok || !s.unique(f, b, name) {
			continue
		}
		f.Blocks(b, "ticket "+name)
		r := f.Block(b, "ticket "+name)
		t := &ticket{name: name, hint: r.Str("hint")}
		if p := r.Need("pattern"); p != "" {
			re, err := regexp.Compile(`^(?:` + p + `)$`)
			if err != nil {
				f.Bad(r.Attrs["pattern"].Range(), "Not a pattern", "It is a regular expression (RE2): %v.", err)
			} else {
				t.pattern = re
			}
		}
		r.Done()
		s.tickets[name] = t
	}
}

func (s *set) readTargets(f *strict.Findings, blocks []*hclsyntax.Block, src sources) {
	for _, b := range blocks {
		name, ok := f.Label(b, 1)
		if !ok || !s.unique(f, b, name) {
			continue
		}
		if !nameForm.MatchString(name) {
			f.Bad(b.LabelRanges[0], "Not a name", "Names of targets are of lower-case letters, digits, dots, dashes and underscores, because people type them into their clients.")
		}
		s.targets[name] = catalog.ReadTarget(f, b, name, src)
		s.names = append(s.names, name)
		for key := range s.targets[name].Labels {
			s.labels = append(s.labels, key)
		}
	}
	slices.Sort(s.names)
	slices.Sort(s.labels)
	s.labels = slices.Compact(s.labels)
}
