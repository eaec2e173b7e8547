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
	"github.com/sallyport/sallyport/policy/scope"
	"github.com/sallyport/sallyport/policy/strict"
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
	scope       *Scope // nil: not asked
}

// An Outcome is what came of one test.
type Outcome struct {
	Test     string   `json:"test"`
	At       string   `json:"at"`
	Target   string   `json:"target"`
	Role     string   `json:"role"`
	Failed   string   `json:"failed,omitempty"` // empty: passed
	Decision Decision `json:"decision"`
}

// trialTime is when a test happens that does not say: a Wednesday at noon.
func (s *set) trialTime() time.Time { return time.Date(2030, 1, 2, 12, 0, 0, 0, s.zone) }

func (s *set) readTests(f *strict.Findings, blocks []*hclsyntax.Block) []*trial {
	users := map[string]map[string]identity.User{} // by file and name
	for _, b := range blocks {
		if b.Type != "user" {
			continue
		}
		name, ok := f.Label(b, 1)
		if !ok || !s.unique(f, b, b.TypeRange.Filename+" "+name) {
			continue
		}
		f.Blocks(b, "user "+name)
		r := f.Block(b, "user "+name)
		file := b.TypeRange.Filename
		if users[file] == nil {
			users[file] = map[string]identity.User{}
		}
		users[file][name] = s.readUser(f, r, name, identity.User{})
		r.Done()
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
			f.Bad(b.TypeRange, "Unknown block", "There is no block %q in a test file.%s", b.Type, strict.DidYouMean(b.Type, []string{"test", "user"}))
		}
	}
	return tests
}

// readUser reads groups, claims, issuer, kind and person of a test's user.
func (s *set) readUser(f *strict.Findings, r *strict.Fields, name string, base identity.User) identity.User {
	u := base
	if u.Subject == "" {
		u = identity.User{Subject: name, Email: lowerASCII(name), Kind: identity.Person}
		if s.persons > 1 {
			u.Person = name
		}
	}
	if r.Take("kind") != nil {
		u.Kind = identity.Kind(r.Word("kind", string(identity.Person), string(identity.Workload)))
	}
	if r.Has("issuer") || u.Issuer == "" {
		u.Issuer = s.issuerNamed(f, r, u.Kind)
	}
	if groups := r.List("groups"); groups != nil {
		u.Groups = groups
	}
	if claims := r.Texts("claims"); claims != nil {
		u.Claims = claims
	}
	if person := r.Str("person"); person != "" {
		u.Person = person
	}
	return u
}

// issuerNamed returns the URL of the named issuer, else of the first of the kind.
func (s *set) issuerNamed(f *strict.Findings, r *strict.Fields, k identity.Kind) string {
	name := r.Str("issuer")
	for _, i := range s.identity.Issuers {
		if i.Name == name || name == "" && i.Kind == k {
			return i.URL
		}
	}
	f.Bad(r.Where("issuer"), "Unknown issuer", "No issuer %q vouches for a %s.", name, k)
	return ""
}

func (s *set) readTest(f *strict.Findings, b *hclsyntax.Block, users map[string]identity.User) *trial {
	name, ok := f.Label(b, 1)
	if !ok || !s.unique(f, b, name) {
		return nil
	}
	t := &trial{name: name, at: b.DefRange()}
	inner := f.Blocks(b, "test", "request", "expect")
	r := f.Block(b, "test")
	for _, by := range r.List("approvals") {
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
	r.Done()
	request, expect := f.One(inner, "request"), f.One(inner, "expect")
	if request == nil || expect == nil {
		f.Bad(b.DefRange(), "Missing", "A test has request { } and expect { }.")
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

func (s *set) readRequest(f *strict.Findings, b *hclsyntax.Block, users map[string]identity.User) Input {
	f.Blocks(b, "request")
	r := f.Block(b, "request")
	name := r.Need("user")
	in := Input{
		User: s.readUser(f, r, name, users[name]), Target: r.Need("target"), Role: r.Need("role"), Object: r.Str("object"),
		Reason: r.Str("reason"), Ticket: r.Str("ticket"), Duration: r.Span("duration", 0, time.Second, 365*strict.Day), BreakGlass: r.Flag("break_glass"),
		Time: s.trialTime(), Client: netip.MustParseAddr("192.0.2.1"),
	}
	in.Proof = identity.ProofKind(r.Word("proof", proofWords...))
	if in.User.Kind == identity.Workload && !r.Has("proof") {
		in.Proof = identity.ByWorkload
	}
	if at := r.Str("at"); at != "" {
		when, err := time.ParseInLocation("2006-01-02 15:04", at, s.zone)
		if err != nil {
			f.Bad(r.Where("at"), "Not a time", "Write at = \"2030-01-31 22:30\", in the policy's zone.")
		}
		in.Time = when
	}
	for _, a := range []struct {
		name string
		into *netip.Addr
	}{{"client", &in.Client}, {"browser", &in.Browser}} {
		if raw := r.Str(a.name); raw != "" {
			addr, err := netip.ParseAddr(raw)
			if err != nil {
				f.Bad(r.Where(a.name), "Not an address", "Write an IP address.")
			}
			*a.into = addr
		}
	}
	r.Done()
	return in
}

func readExpect(f *strict.Findings, b *hclsyntax.Block) expectation {
	inner := f.Blocks(b, "expect", "scope")
	r := f.Block(b, "expect")
	r.Need("decision")
	e := expectation{
		decision: r.Word("decision", "allow", "pending", "deny"), missing: r.Whole("missing", -1, 0, mostPeople),
		rule: r.Str("rule"), field: r.Str("field"), longest: r.Span("longest", 0, time.Second, 365*strict.Day),
	}
	r.Done()
	if block := f.One(inner, "scope"); block != nil {
		s := scope.Read(f, block, "expect")
		e.scope = &s
	}
	return e
}

// run decides the test's ask.
func (t *trial) run(s *set) Outcome {
	d := s.decide(t.in)
	o := Outcome{Test: t.name, Target: t.in.Target, Role: t.in.Role, At: fmt.Sprintf("%s:%d", t.at.Filename, t.at.Start.Line), Decision: d}
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
	if e.scope != nil {
		check("the scope", true, e.scope.String(), d.Scope.String())
	}
	if len(wrong) > 0 {
		o.Failed = strings.Join(wrong, ", ") + " (" + d.Why + ")"
	}
	return o
}
