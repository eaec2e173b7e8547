package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/identity"
)

const (
	kindRule       = "rule"
	kindForbid     = "forbid"
	kindBreakGlass = "break_glass"
)

const (
	defaultTimeout    = time.Hour // of a pending request
	defaultExtensions = 3
	longestGrant      = 30 * day
	longestTimeout    = 7 * day
	mostPeople        = 20
)

// A rule is one rule, forbid or break_glass block, complete in itself.
type rule struct {
	kind, name string
	at         hcl.Range
	target     selector
	roles      []string // empty (forbid only): every role
	who        who
	proof      []identity.ProofKind // empty: any
	when       *condition           // nil: always

	longest, standard, timeout time.Duration
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

func (s *set) readRule(f *findings, b *hclsyntax.Block) {
	name, ok := f.labels(b, 1)
	if !ok || !s.unique(f, b, name) {
		return
	}
	what := b.Type + " " + name
	if !nameForm.MatchString(name) {
		f.bad(b.LabelRanges[0], "Not a name", "Names of rules are of lower-case letters, digits, dots, dashes and underscores.")
	}
	r := f.block(b, what)
	x := &rule{kind: b.Type, name: name, at: b.DefRange(), target: s.readSelector(f, r), who: s.readWho(f, r)}
	x.roles = r.list("role")
	for _, p := range r.list("proof") {
		if !slices.Contains(proofWords, p) {
			f.bad(r.where("proof"), "Unknown word", "proof names some of %s.%s", strings.Join(proofWords, ", "), didYouMean(p, proofWords))
		}
		x.proof = append(x.proof, identity.ProofKind(p))
	}
	if expr := r.take("when"); expr != nil {
		x.when = f.condition(expr, s.claims)
		if x.when == nil {
			x.when = &condition{holds: func(*facts) (bool, error) { return false, nil }, at: expr.Range()}
		}
	}
	switch b.Type {
	case kindForbid:
		f.blocks(b, what)
		x.why = r.str("why")
		s.forbids = append(s.forbids, x)
	case kindBreakGlass:
		s.readAllow(f, b, r, x, "scope")
		s.readReview(f, r, x)
		s.rules = append(s.rules, x)
	default:
		s.readAllow(f, b, r, x, "scope", "approve")
		s.rules = append(s.rules, x)
	}
	r.done()
	s.checkCover(f, r, x)
}

// readAllow reads what forbid has not.
func (s *set) readAllow(f *findings, b *hclsyntax.Block, r *fields, x *rule, allowed ...string) {
	for _, name := range []string{"target", "role", "who", "longest"} {
		if !r.has(name) {
			f.bad(r.at, "Missing", "%s needs %s: a rule says all that it allows.", r.what, name)
		}
	}
	x.longest = r.span("longest", 0, time.Minute, longestGrant)
	x.standard = r.span("default", x.longest, time.Minute, longestGrant)
	if x.standard > x.longest && r.has("longest") {
		f.bad(r.where("default"), "Out of range", "default is longer than longest.")
	}
	x.reason = r.word("reason", "optional", "required") == "required"
	if t := r.str("ticket"); t != "" {
		if x.ticket = s.tickets[t]; x.ticket == nil {
			f.bad(r.where("ticket"), "Unknown ticket", "Write ticket %q { pattern = \"...\" } somewhere.%s", t, didYouMean(t, sortedKeys(s.tickets)))
			x.ticket = &ticket{name: t}
		}
	}
	x.timeout = r.span("timeout", defaultTimeout, time.Minute, longestTimeout)
	x.extensions = r.whole("extensions", defaultExtensions, 0, 100)
	x.warnings = []time.Duration{5 * time.Minute, time.Minute}
	if r.has("warnings") {
		x.warnings = nil
		for _, text := range r.list("warnings") {
			x.warnings = append(x.warnings, f.duration(r.attrs["warnings"], "warnings", text, time.Second, longestGrant))
		}
		slices.Sort(x.warnings)
		slices.Reverse(x.warnings)
		x.warnings = slices.Compact(x.warnings)
	}
	inner := f.blocks(b, r.what, allowed...)
	x.scope = readScope(f, f.one(inner, "scope"), r.what)
	for _, a := range inner {
		if a.Type == "approve" {
			x.stages = append(x.stages, readStage(f, a, r.what))
		}
	}
	if n := x.people(); n > mostPeople {
		f.bad(r.at, "Too many", "%d people are asked; %d is the most.", n, mostPeople)
	}
}

func readStage(f *findings, b *hclsyntax.Block, what string) Stage {
	f.labels(b, 0)
	f.blocks(b, "approve of "+what)
	r := f.block(b, "approve of "+what)
	stage := Stage{Count: r.whole("count", 1, 1, mostPeople)}
	if !r.has("from") {
		f.bad(r.at, "Missing", "%s needs from = { groups = [\"...\"] }: who may say yes.", r.what)
	}
	stage.From = readPeople(r.object("from"))
	r.done()
	if len(stage.From.Groups) == 0 && len(stage.From.Emails) > 0 && len(stage.From.Emails) < stage.Count {
		f.bad(r.where("count"), "Nobody left", "%d have to say yes, but only %d are named.", stage.Count, len(stage.From.Emails))
	}
	return stage
}

// readPeople reads { groups, emails }; o may be nil.
func readPeople(o *fields) People {
	if o == nil {
		return People{}
	}
	p := People{Groups: o.list("groups"), Emails: lowerAll(o.list("emails"))}
	o.done()
	if len(p.Groups) == 0 && len(p.Emails) == 0 {
		o.f.bad(o.at, "Nobody", "%s names nobody; write groups or emails.", o.what)
	}
	return p
}

func lowerAll(list []string) []string {
	for i := range list {
		list[i] = lowerASCII(list[i])
	}
	return list
}

func (s *set) readReview(f *findings, r *fields, x *rule) {
	if !r.has("review") {
		f.bad(r.at, "Missing", "%s needs review = { groups = [\"...\"], within = \"24h\" }: who looks at it afterwards, and until when.", r.what)
	}
	o := r.object("review")
	if o == nil {
		return
	}
	x.reviewWithin = o.span("within", day, time.Hour, 30*day)
	x.review = readPeople(o)
}

// readSelector reads target = { ... }; absent, it picks all.
func (s *set) readSelector(f *findings, r *fields) selector {
	o := r.object("target")
	if o == nil {
		return selector{}
	}
	sel := selector{names: o.list("names"), labels: o.texts("labels"), protocol: o.word("protocol", append([]string{""}, protocolWords...)...)}
	if one := o.str("name"); one != "" {
		if sel.names != nil {
			f.bad(o.where("name"), "Written twice", "Write name or names.")
		}
		sel.names = append(sel.names, one)
	}
	o.done()
	for _, n := range sel.names {
		if s.targets[n] == nil {
			f.bad(o.where(choose(o.has("name"), "name", "names")), "No such target", "There is no target %q.%s", n, didYouMean(n, s.names))
		}
	}
	for _, key := range sortedKeys(sel.labels) {
		if !slices.Contains(s.labels, key) {
			f.bad(o.where("labels"), "No such label", "No target has a label %q.%s", key, didYouMean(key, s.labels))
		}
	}
	if len(o.attrs) == 0 {
		f.bad(o.at, "Nothing", "%s picks nothing; write name, names, labels or protocol.", o.what)
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
func (s *set) readWho(f *findings, r *fields) who {
	if !r.has("who") {
		r.take("who")
		return who{everybody: true}
	}
	o := r.object("who")
	if o == nil {
		return who{}
	}
	w := who{everybody: o.flag("everybody"), people: People{Groups: o.list("groups"), Emails: lowerAll(o.list("emails"))}, claims: s.readClaims(f, o)}
	if name := o.str("issuer"); name != "" {
		names := []string{}
		for _, i := range s.identity.Issuers {
			names = append(names, i.Name)
			if i.Name == name {
				w.issuer = i.URL
			}
		}
		if w.issuer == "" {
			f.bad(o.where("issuer"), "Unknown issuer", "There is no issuer %q.%s", name, didYouMean(name, names))
			w.issuer = "none"
		}
	}
	o.done()
	named := len(w.people.Groups) > 0 || len(w.people.Emails) > 0 || len(w.claims) > 0
	switch {
	case !named && !w.everybody:
		f.bad(o.at, "Nobody", "%s names nobody; write groups, emails or claims, or everybody = true.", o.what)
	case named && w.everybody:
		f.bad(o.where("everybody"), "Too much", "%s says everybody and then some; write one of them.", o.what)
	}
	s.sameClaim(f, o, w)
	return w
}

func (s *set) readClaims(f *findings, o *fields) map[string][]string {
	if !o.has("claims") {
		o.take("claims")
		return nil
	}
	c := o.object("claims")
	if c == nil {
		return nil
	}
	claims := map[string][]string{}
	for _, key := range sortedKeys(c.attrs) {
		if !slices.Contains(s.claims, key) {
			f.bad(c.keys[key], "Unknown claim", "No issuer maps a claim %q.%s", key, didYouMean(key, s.claims))
		}
		if _, isList := c.attrs[key].(*hclsyntax.TupleConsExpr); isList {
			claims[key] = c.list(key)
		} else if v := c.str(key); v != "" {
			claims[key] = []string{v}
		}
	}
	if len(c.attrs) == 0 {
		f.bad(c.at, "Nobody", "%s is empty.", c.what)
	}
	c.done()
	return claims
}

// sameClaim asks for the issuer where several map a claim: what one of them vouches
// for, another could let anybody write.
func (s *set) sameClaim(f *findings, o *fields, w who) {
	if w.issuer != "" {
		return
	}
	for _, claim := range sortedKeys(w.claims) {
		n := 0
		for _, i := range s.identity.Issuers {
			if _, ok := i.Claims[claim]; ok {
				n++
			}
		}
		if n > 1 {
			f.bad(o.where("claims"), "Whose claim?", "%d issuers map the claim %q; write issuer = \"...\" beside it.", n, claim)
		}
	}
}

func readScope(f *findings, b *hclsyntax.Block, what string) Scope {
	if b == nil {
		return Scope{}
	}
	f.blocks(b, "scope of "+what)
	r := f.block(b, "scope of "+what)
	s := Scope{ReadOnly: r.flag("read_only"), Databases: r.list("databases"), Channels: r.list("channels"), Forward: r.list("forward"), Methods: r.list("methods"), Paths: r.list("paths")}
	r.done()
	for _, c := range s.Channels {
		if !slices.Contains(channelWords, c) {
			f.bad(r.where("channels"), "Unknown word", "channels names some of %s.%s", strings.Join(channelWords, ", "), didYouMean(c, channelWords))
		}
	}
	if len(s.Forward) > 0 && !slices.Contains(s.Channels, "forward") {
		f.bad(r.where("forward"), "Never used", "forward names destinations, but channels has no \"forward\".")
	}
	if slices.Contains(s.Channels, "forward") && len(s.Forward) == 0 {
		f.bad(r.where("channels"), "To everywhere", "The channel forward needs forward = [\"host:port\"].")
	}
	return s
}

var channelWords = []string{"shell", "exec", "sftp", "forward", "agent", "x11"}

// checkCover looks at the targets that the rule covers: roles that they have not,
// labels that its condition reads and they lack.
func (s *set) checkCover(f *findings, r *fields, x *rule) {
	var covered []*Target
	for _, name := range s.names {
		if t := s.targets[name]; x.target.matches(t) {
			covered = append(covered, t)
		}
	}
	if len(covered) == 0 {
		if len(x.target.names) == 0 {
			f.warn(r.where("target"), "Never used", "No target is covered by %s.", r.what)
		}
		return
	}
	for _, role := range x.roles {
		has := func(t *Target) bool { _, ok := t.Roles[role]; return ok }
		if !slices.ContainsFunc(covered, has) {
			var roles []string
			for _, t := range covered {
				roles = append(roles, sortedKeys(t.Roles)...)
			}
			f.bad(r.where("role"), "No such role", "No target that it covers has a role %q.%s", role, didYouMean(role, roles))
		}
	}
	if x.when == nil {
		return
	}
	for _, label := range sortedKeys(x.when.labels) {
		for _, t := range covered {
			if _, ok := t.Labels[label]; !ok {
				f.bad(x.when.labels[label], "No such label", "Target %s, which it covers, has no label %q.%s", t.Name, label, didYouMean(label, sortedKeys(t.Labels)))
				break
			}
		}
	}
}
