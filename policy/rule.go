package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy/scope"
	"github.com/sallyport/sallyport/policy/strict"
	"github.com/sallyport/sallyport/policy/when"
)

const (
	kindRule       = "rule"
	kindForbid     = "forbid"
	kindBreakGlass = "break_glass"
)

const (
	defaultTimeout    = time.Hour // of a pending request
	leastHold         = time.Second
	defaultExtensions = 3
	longestGrant      = 30 * strict.Day
	longestTimeout    = 7 * strict.Day
	mostPeople        = 20
)

// A rule is one rule, forbid or break_glass block, complete in itself.
type rule struct {
	kind, name string
	at         hcl.Range
	covered    []*Target // by name
	roles      []string  // empty (forbid only): every role
	who        who
	proof      []identity.ProofKind    // empty: any
	when       *when.Condition[*facts] // nil: always

	longest, standard, timeout time.Duration
	hold                       time.Duration // 0: as long as timeout
	reason                     bool
	ticket                     *ticket
	scope                      Scope
	stages                     []Stage
	warnings                   []time.Duration
	extensions                 int
	review                     People // break_glass: who looks at it afterwards
	reviewWithin               time.Duration
	why                        string // forbid: what the user is told
}

// people is how many have to say yes.
func (r *rule) people() int {
	n := 0
	for _, s := range r.stages {
		n += s.Count
	}
	return n
}

func (r *rule) place() string { return fmt.Sprintf("%s:%d", r.at.Filename, r.at.Start.Line) }

// A selector picks targets; the zero selector picks all.
type selector struct {
	names    []string
	labels   map[string]string
	protocol string
}

func (s selector) matches(t *Target) bool {
	if len(s.names) > 0 && !slices.Contains(s.names, t.Name) {
		return false
	}
	if s.protocol != "" && s.protocol != t.Protocol {
		return false
	}
	for key, value := range s.labels {
		if have, ok := t.Labels[key]; !ok || have != value {
			return false
		}
	}
	return true
}

// covered lists the targets that sel picks, by name.
func (s *set) covered(sel selector) []*Target {
	var covered []*Target
	for _, name := range s.names {
		if t := s.targets[name]; sel.matches(t) {
			covered = append(covered, t)
		}
	}
	return covered
}

// A who picks users. Groups and e-mails widen each other, claims and issuer narrow.
type who struct {
	everybody bool
	people    People
	claims    map[string][]string
	issuer    string // URL; empty: any
}

func (w who) matches(u *identity.User) bool {
	if w.issuer != "" && u.Issuer != w.issuer {
		return false
	}
	for claim, values := range w.claims {
		have, ok := u.Claims[claim]
		if !ok || !slices.Contains(values, have) {
			return false
		}
	}
	if len(w.people.Groups) == 0 && len(w.people.Emails) == 0 {
		return w.everybody || len(w.claims) > 0
	}
	return w.people.names(*u)
}

func (s *set) readRule(f *strict.Findings, b *hclsyntax.Block) {
	name, ok := f.Label(b, 1)
	if !ok || !s.unique(f, b, name) {
		return
	}
	what := b.Type + " " + name
	if !nameForm.MatchString(name) {
		f.Bad(b.LabelRanges[0], "Not a name", "Names of rules are of lower-case letters, digits, dots, dashes and underscores.")
	}
	r := f.Block(b, what)
	x := &rule{kind: b.Type, name: name, at: b.DefRange(), covered: s.covered(s.readSelector(f, r)), who: s.readWho(f, r)}
	x.roles = r.List("role")
	for _, p := range r.List("proof") {
		if !slices.Contains(proofWords, p) {
			f.Bad(r.Where("proof"), "Unknown word", "proof names some of %s.%s", strings.Join(proofWords, ", "), strict.DidYouMean(p, proofWords))
		}
		x.proof = append(x.proof, identity.ProofKind(p))
	}
	if expr := r.Take("when"); expr != nil {
		x.when = when.Compile(f, expr, s.words())
	}
	switch b.Type {
	case kindForbid:
		f.Blocks(b, what)
		x.why = r.Str("why")
		s.forbids = append(s.forbids, x)
	case kindBreakGlass:
		s.readAllow(f, b, r, x, "scope")
		s.readReview(f, r, x)
		s.rules = append(s.rules, x)
	default:
		s.readAllow(f, b, r, x, "scope", "approve")
		s.rules = append(s.rules, x)
	}
	r.Done()
	s.checkCover(f, r, x)
}

// readAllow reads what forbid has not.
func (s *set) readAllow(f *strict.Findings, b *hclsyntax.Block, r *strict.Fields, x *rule, allowed ...string) {
	for _, name := range []string{"target", "role", "who", "longest"} {
		if !r.Has(name) {
			f.Bad(r.At, "Missing", "%s needs %s: a rule says all that it allows.", r.What, name)
		}
	}
	x.longest = r.Span("longest", 0, time.Minute, longestGrant)
	x.standard = r.Span("default", x.longest, time.Minute, longestGrant)
	if x.standard > x.longest && r.Has("longest") {
		f.Bad(r.Where("default"), "Out of range", "default is longer than longest.")
	}
	x.reason = r.Word("reason", "optional", "required") == "required"
	if t := r.Str("ticket"); t != "" {
		if x.ticket = s.tickets[t]; x.ticket == nil {
			f.Bad(r.Where("ticket"), "Unknown ticket", "Write ticket %q { pattern = \"...\" } somewhere.%s", t, strict.DidYouMean(t, strict.SortedKeys(s.tickets)))
			x.ticket = &ticket{name: t}
		}
	}
	x.timeout = r.Span("timeout", defaultTimeout, time.Minute, longestTimeout)
	if x.hold = r.Span("hold", 0, leastHold, longestTimeout); x.hold > x.timeout {
		f.Bad(r.Where("hold"), "Out of range", "hold is longer than timeout: when the request has timed out, nothing is left to wait for.")
	}
	x.extensions = r.Whole("extensions", defaultExtensions, 0, 100)
	x.warnings = []time.Duration{5 * time.Minute, time.Minute}
	if r.Has("warnings") {
		x.warnings = nil
		for _, text := range r.List("warnings") {
			x.warnings = append(x.warnings, f.Duration(r.Attrs["warnings"], "warnings", text, time.Second, longestGrant))
		}
		slices.Sort(x.warnings)
		slices.Reverse(x.warnings)
		x.warnings = slices.Compact(x.warnings)
	}
	inner := f.Blocks(b, r.What, allowed...)
	x.scope = scope.Read(f, f.One(inner, "scope"), r.What)
	for _, a := range inner {
		if a.Type == "approve" {
			x.stages = append(x.stages, readStage(f, a, r.What))
		}
	}
	if n := x.people(); n > mostPeople {
		f.Bad(r.At, "Too many", "%d people are asked; %d is the most.", n, mostPeople)
	}
}

func readStage(f *strict.Findings, b *hclsyntax.Block, what string) Stage {
	f.Label(b, 0)
	f.Blocks(b, "approve of "+what)
	r := f.Block(b, "approve of "+what)
	stage := Stage{Count: r.Whole("count", 1, 1, mostPeople)}
	if !r.Has("from") {
		f.Bad(r.At, "Missing", "%s needs from = { groups = [\"...\"] }: who may say yes.", r.What)
	}
	stage.From = readPeople(r.Object("from"))
	r.Done()
	if len(stage.From.Groups) == 0 && len(stage.From.Emails) > 0 && len(stage.From.Emails) < stage.Count {
		f.Bad(r.Where("count"), "Nobody left", "%d have to say yes, but only %d are named.", stage.Count, len(stage.From.Emails))
	}
	return stage
}

// readPeople reads { groups, emails }; o may be nil.
func readPeople(o *strict.Fields) People {
	if o == nil {
		return People{}
	}
	p := People{Groups: o.List("groups"), Emails: lowerAll(o.List("emails"))}
	o.Done()
	if len(p.Groups) == 0 && len(p.Emails) == 0 {
		o.F.Bad(o.At, "Nobody", "%s names nobody; write groups or emails.", o.What)
	}
	return p
}

func lowerAll(list []string) []string {
	for i := range list {
		list[i] = lowerASCII(list[i])
	}
	return list
}

func (s *set) readReview(f *strict.Findings, r *strict.Fields, x *rule) {
	if !r.Has("review") {
		f.Bad(r.At, "Missing", "%s needs review = { groups = [\"...\"], within = \"24h\" }: who looks at it afterwards, and until when.", r.What)
	}
	o := r.Object("review")
	if o == nil {
		return
	}
	x.reviewWithin = o.Span("within", strict.Day, time.Hour, 30*strict.Day)
	x.review = readPeople(o)
}

// readSelector reads target = { ... }; absent, it picks all.
func (s *set) readSelector(f *strict.Findings, r *strict.Fields) selector {
	o := r.Object("target")
	if o == nil {
		return selector{}
	}
	sel := selector{names: o.List("names"), labels: o.Texts("labels"), protocol: o.Word("protocol", append([]string{""}, protocolWords...)...)}
	if one := o.Str("name"); one != "" {
		if sel.names != nil {
			f.Bad(o.Where("name"), "Written twice", "Write name or names.")
		}
		sel.names = append(sel.names, one)
	}
	o.Done()
	for _, n := range sel.names {
		if s.targets[n] == nil {
			f.Bad(o.Where(choose(o.Has("name"), "name", "names")), "No such target", "There is no target %q.%s", n, strict.DidYouMean(n, s.names))
		}
	}
	for _, key := range strict.SortedKeys(sel.labels) {
		if !slices.Contains(s.labels, key) {
			f.Bad(o.Where("labels"), "No such label", "No target has a label %q.%s", key, strict.DidYouMean(key, s.labels))
		}
	}
	if len(o.Attrs) == 0 {
		f.Bad(o.At, "Nothing", "%s picks nothing; write name, names, labels or protocol.", o.What)
	}
	return sel
}

func choose(which bool, a, b string) string {
	if which {
		return a
	}
	return b
}

// readWho reads who = { ... }; absent, it is everybody (which only forbid may say so).
func (s *set) readWho(f *strict.Findings, r *strict.Fields) who {
	if !r.Has("who") {
		r.Take("who")
		return who{everybody: true}
	}
	o := r.Object("who")
	if o == nil {
		return who{}
	}
	w := who{everybody: o.Flag("everybody"), people: People{Groups: o.List("groups"), Emails: lowerAll(o.List("emails"))}, claims: s.readClaims(f, o)}
	if name := o.Str("issuer"); name != "" {
		names := []string{}
		for _, i := range s.identity.Issuers {
			names = append(names, i.Name)
			if i.Name == name {
				w.issuer = i.URL
			}
		}
		if w.issuer == "" {
			f.Bad(o.Where("issuer"), "Unknown issuer", "There is no issuer %q.%s", name, strict.DidYouMean(name, names))
			w.issuer = "none"
		}
	}
	o.Done()
	named := len(w.people.Groups) > 0 || len(w.people.Emails) > 0 || len(w.claims) > 0
	switch {
	case !named && !w.everybody:
		f.Bad(o.At, "Nobody", "%s names nobody; write groups, emails or claims, or everybody = true.", o.What)
	case named && w.everybody:
		f.Bad(o.Where("everybody"), "Too much", "%s says everybody and then some; write one of them.", o.What)
	}
	s.sameClaim(f, o, w)
	return w
}

func (s *set) readClaims(f *strict.Findings, o *strict.Fields) map[string][]string {
	if !o.Has("claims") {
		o.Take("claims")
		return nil
	}
	c := o.Object("claims")
	if c == nil {
		return nil
	}
	claims := map[string][]string{}
	for _, key := range strict.SortedKeys(c.Attrs) {
		if !slices.Contains(s.claims, key) {
			f.Bad(c.Keys[key], "Unknown claim", "No issuer maps a claim %q.%s", key, strict.DidYouMean(key, s.claims))
		}
		if _, isList := c.Attrs[key].(*hclsyntax.TupleConsExpr); isList {
			claims[key] = c.List(key)
		} else if v := c.Str(key); v != "" {
			claims[key] = []string{v}
		}
	}
	if len(c.Attrs) == 0 {
		f.Bad(c.At, "Nobody", "%s is empty.", c.What)
	}
	c.Done()
	return claims
}

// sameClaim asks for the issuer where several map a claim: what one of them vouches
// for, another could let anybody write.
func (s *set) sameClaim(f *strict.Findings, o *strict.Fields, w who) {
	if w.issuer != "" {
		return
	}
	for _, claim := range strict.SortedKeys(w.claims) {
		n := 0
		for _, i := range s.identity.Issuers {
			if _, ok := i.Claims[claim]; ok {
				n++
			}
		}
		if n > 1 {
			f.Bad(o.Where("claims"), "Whose claim?", "%d issuers map the claim %q; write issuer = \"...\" beside it.", n, claim)
		}
	}
}

// checkCover looks at the targets that the rule covers: roles that they have not,
// labels that its condition reads and they lack.
func (s *set) checkCover(f *strict.Findings, r *strict.Fields, x *rule) {
	covered := x.covered
	if len(covered) == 0 {
		f.Warn(r.Where("target"), "Never used", "No target is covered by %s.", r.What)
		return
	}
	for _, role := range x.roles {
		has := func(t *Target) bool { _, ok := t.Roles[role]; return ok }
		if !slices.ContainsFunc(covered, has) {
			var roles []string
			for _, t := range covered {
				roles = append(roles, strict.SortedKeys(t.Roles)...)
			}
			f.Bad(r.Where("role"), "No such role", "No target that it covers has a role %q.%s", role, strict.DidYouMean(role, roles))
		}
	}
	if x.when == nil {
		return
	}
	for _, word := range strict.SortedKeys(x.when.Reads) {
		label, ok := strings.CutPrefix(word, "target.labels.")
		if !ok {
			continue
		}
		for _, t := range covered {
			if _, ok := t.Labels[label]; !ok {
				f.Bad(x.when.Reads[word], "No such label", "Target %s, which it covers, has no label %q.%s", t.Name, label, strict.DidYouMean(label, strict.SortedKeys(t.Labels)))
				break
			}
		}
	}
}
