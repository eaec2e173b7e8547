package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/sallyport/sallyport/identity"
)

// A trial is one `test` block of the bundle: an ask, some people's yes, and what is
// to come of it. The loader runs all of them, so a policy that fails its own tests
// is never used.
type trial struct {
	name      string
	at        hcl.Range
	in        Input
	approvals []identity.User
	expect    expectation
}

type expectation struct {
	decision    string // allow, pending, deny
	missing     int    // -1: not asked
	rule, field string // empty: not asked
	longest     time.Duration
}

// An Outcome is what came of one test.
type Outcome struct {
	Test     string   `json:"test"`
	At       string   `json:"at"`
	Failed   string   `json:"failed,omitempty"` // empty: passed
	Decision Decision `json:"decision"`
}

// trialTime is when a test happens that does not say: a Wednesday at noon.
func (s *set) trialTime() time.Time { return time.Date(2030, 1, 2, 12, 0, 0, 0, s.zone) }

func (s *set) readTests(f *findings, blocks []*hclsyntax.Block) []*trial {
	users := map[string]map[string]identity.User{} // by file and name
	for _, b := range blocks {
		if b.Type != "user" {
			continue
		}
		name, ok := f.labels(b, 1)
		if !ok || !s.unique(f, b, b.TypeRange.Filename+" "+name) {
			continue
		}
		f.blocks(b, "user "+name)
		r := f.block(b, "user "+name)
		file := b.TypeRange.Filename
		if users[file] == nil {
			users[file] = map[string]identity.User{}
		}
		users[file][name] = s.readUser(f, r, name, identity.User{})
		r.done()
	}
	var tests []*trial
	for _, b := range blocks {
		switch b.Type {
		case "user":
		case "test":
			if t := s.readTest(f, b, users[b.TypeRange.Filename]); t != nil {
				tests = append(tests, t)
			}
		default:
			f.bad(b.TypeRange, "Unknown block", "There is no block %q in a test file.%s", b.Type, didYouMean(b.Type, []string{"test", "user"}))
		}
	}
	return tests
}

// readUser reads groups, claims, issuer, kind and person of a test's user.
func (s *set) readUser(f *findings, r *fields, name string, base identity.User) identity.User {
	u := base
	if u.Subject == "" {
		u = identity.User{Subject: name, Email: lowerASCII(name), Kind: identity.Person}
		if s.persons > 1 {
			u.Person = name
		}
	}
	if r.has("kind") {
		u.Kind = identity.Kind(r.word("kind", string(identity.Person), string(identity.Workload)))
	}
	if r.has("issuer") || u.Issuer == "" {
		u.Issuer = s.issuerNamed(f, r, u.Kind)
	}
	if groups := r.list("groups"); groups != nil {
		u.Groups = groups
	}
	if claims := r.texts("claims"); claims != nil {
		u.Claims = claims
	}
	if person := r.str("person"); person != "" {
		u.Person = person
	}
	r.known = append(r.known, "kind")
	return u
}

// issuerNamed returns the URL of the named issuer, else of the first of the kind.
func (s *set) issuerNamed(f *findings, r *fields, k identity.Kind) string {
	name := r.str("issuer")
	for _, i := range s.identity.Issuers {
		if i.Name == name || name == "" && i.Kind == k {
			return i.URL
		}
	}
	f.bad(r.where("issuer"), "Unknown issuer", "No issuer %q vouches for a %s.", name, k)
	return ""
}

func (s *set) readTest(f *findings, b *hclsyntax.Block, users map[string]identity.User) *trial {
	name, ok := f.labels(b, 1)
	if !ok || !s.unique(f, b, name) {
		return nil
	}
	t := &trial{name: name, at: b.DefRange()}
	inner := f.blocks(b, "test", "request", "expect")
	r := f.block(b, "test")
	for _, by := range r.list("approvals") {
		u, ok := users[by]
		if !ok {
			u = identity.User{Subject: by, Email: lowerASCII(by), Kind: identity.Person}
			if s.persons > 1 {
				u.Person = by
			}
			for _, i := range s.identity.Issuers {
				if i.Kind == identity.Person {
					u.Issuer = i.URL
					break
				}
			}
		}
		t.approvals = append(t.approvals, u)
	}
	r.done()
	request, expect := f.one(inner, "request"), f.one(inner, "expect")
	if request == nil || expect == nil {
		f.bad(b.DefRange(), "Missing", "A test has request { } and expect { }.")
		return nil
	}
	t.in = s.readRequest(f, request, users)
	for i, u := range t.approvals {
		if u.Email == t.in.User.Email {
			t.approvals[i] = t.in.User // with the groups that the request gives them
		}
	}
	t.expect = readExpect(f, expect)
	return t
}

func (s *set) readRequest(f *findings, b *hclsyntax.Block, users map[string]identity.User) Input {
	f.blocks(b, "request")
	r := f.block(b, "request")
	name := r.need("user")
	in := Input{
		User: s.readUser(f, r, name, users[name]), Target: r.need("target"), Role: r.need("role"), Object: r.str("object"),
		Reason: r.str("reason"), Ticket: r.str("ticket"), Duration: r.span("duration", 0, time.Second, 365*day), BreakGlass: r.flag("break_glass"),
		Time: s.trialTime(), Client: netip.MustParseAddr("192.0.2.1"),
	}
	in.Proof = identity.ProofKind(r.word("proof", proofWords...))
	if in.User.Kind == identity.Workload && !r.has("proof") {
		in.Proof = identity.ByWorkload
	}
	if at := r.str("at"); at != "" {
		when, err := time.ParseInLocation("2006-01-02 15:04", at, s.zone)
		if err != nil {
			f.bad(r.where("at"), "Not a time", "Write at = \"2030-01-31 22:30\", in the policy's zone.")
		}
		in.Time = when
	}
	for _, a := range []struct {
		name string
		into *netip.Addr
	}{{"client", &in.Client}, {"browser", &in.Browser}} {
		if raw := r.str(a.name); raw != "" {
			addr, err := netip.ParseAddr(raw)
			if err != nil {
				f.bad(r.where(a.name), "Not an address", "Write an IP address.")
			}
			*a.into = addr
		}
	}
	r.done()
	return in
}

func readExpect(f *findings, b *hclsyntax.Block) expectation {
	f.blocks(b, "expect")
	r := f.block(b, "expect")
	r.need("decision")
	e := expectation{
		decision: r.word("decision", "allow", "pending", "deny"), missing: r.whole("missing", -1, 0, mostPeople),
		rule: r.str("rule"), field: r.str("field"), longest: r.span("longest", 0, time.Second, 365*day),
	}
	r.done()
	return e
}

// run decides the test's ask.
func (t *trial) run(s *set) Outcome {
	d := s.decide(t.in)
	o := Outcome{Test: t.name, At: fmt.Sprintf("%s:%d", t.at.Filename, t.at.Start.Line), Decision: d}
	got, missing := string(d.Effect), 0
	if d.Effect == Allow {
		yes := slices.DeleteFunc(slices.Clone(t.approvals), func(u identity.User) bool {
			// Who may approve in no stage is counted by nobody.
			return !slices.ContainsFunc(d.Stages, func(st Stage) bool { return s.mayApprove(st, t.in.User, u) == nil })
		})
		if _, missing = d.Progress(t.in.User, yes); missing > 0 {
			got = "pending"
		}
	}
	var wrong []string
	check := func(what string, asked bool, want, have any) {
		if asked && want != have {
			wrong = append(wrong, fmt.Sprintf("%s is %v and not %v", what, have, want))
		}
	}
	e := t.expect
	check("the decision", true, e.decision, got)
	check("missing", e.missing >= 0, e.missing, missing)
	check("the rule", e.rule != "", e.rule, d.Rule)
	check("the field", e.field != "", e.field, d.Field)
	check("longest", e.longest != 0, e.longest, d.Longest)
	if len(wrong) > 0 {
		o.Failed = strings.Join(wrong, ", ") + " (" + d.Why + ")"
	}
	return o
}

// lacks reports that a whole policy has none of something.
func (f *findings) lacks(what string) {
	f.diags = append(f.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Missing", Detail: fmt.Sprintf("The policy has no %s.", what)})
}
