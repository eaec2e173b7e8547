package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
)

func person(name string, groups ...string) identity.User {
	return identity.User{Issuer: "https://id.example.com", Subject: name, Email: name + "@example.com", Kind: identity.Person, Groups: groups}
}

func ask(u identity.User, target, role string) Input {
	return Input{User: u, Proof: identity.ByBrowser, Target: target, Role: role, Reason: "INC-7", Client: netip.MustParseAddr("192.0.2.1"), Time: now}
}

// rulesOnly is a bundle with these rules and no others.
func rulesOnly(rules string) map[string][]byte {
	src := files()
	delete(src, "policy/tests/rules.test.hcl")
	src["policy/rules.hcl"] = []byte(rules)
	return src
}

func allowed(t *testing.T, d Decision, rule string) {
	t.Helper()
	if d.Effect != Allow || d.Rule != rule {
		t.Errorf("got %s by %q (%s), want allow by %q", d.Effect, d.Rule, d.Why, rule)
	}
}

func denied(t *testing.T, d Decision, words ...string) {
	t.Helper()
	if d.Effect != Deny {
		t.Errorf("got %s by %q, want deny", d.Effect, d.Rule)
	}
	for _, w := range words {
		if !strings.Contains(d.Why+"; "+d.Hint, w) {
			t.Errorf("%q; %q does not say %q", d.Why, d.Hint, w)
		}
	}
}

func TestDecisionCarriesEverything(t *testing.T) {
	p := mustLoad(t, files())
	d := p.Decide(ask(person("alice", "engineering"), "orders", "reader"))
	allowed(t, d, "orders-read")
	if d.Version != 1 || d.Digest != p.Digest() || d.Duration != 30*time.Minute || d.Longest != time.Hour || d.RequestTimeout != time.Hour || d.Automatic() {
		t.Errorf("got %+v", d)
	}
	if d.At != "policy/rules.hcl:6" || len(d.Stages) != 1 || d.Stages[0].String() != "1 of dba" || d.Why != "rule orders-read allows it after the yes of 1 of dba" {
		t.Errorf("got %+v", d)
	}
	if !slices.Equal(d.Warnings, []time.Duration{5 * time.Minute, time.Minute}) {
		t.Errorf("warns %v before the end", d.Warnings)
	}
}

func TestDefaultDeny(t *testing.T) {
	p := mustLoad(t, files())
	alice := person("alice", "engineering")
	denied(t, p.Decide(ask(alice, "orders", "writer")), "no rule lets you use orders as writer", "you can ask for it as reader")
	denied(t, p.Decide(ask(alice, "orders", "Reader")), "no rule lets you use orders as Reader")
	denied(t, p.Decide(ask(alice, "ordesr", "reader")), "no rule lets you use ordesr as reader", `did you mean "orders"?`)
	// A target that exists and one that does not look alike to whom it is no concern of.
	denied(t, p.Decide(ask(person("mallory"), "orders", "reader")), "no rule lets you use orders as reader", "no rule is about you")
	denied(t, p.Decide(ask(person("mallory"), "nothing", "reader")), "no rule lets you use nothing as reader", "no rule is about you")
	denied(t, p.Decide(Input{Time: now}))
}

func TestAnIdentityProviderThatIsGone(t *testing.T) {
	p := mustLoad(t, files())
	alice := person("alice", "engineering")
	alice.Issuer = "https://id.example.com/"
	denied(t, p.Decide(ask(alice, "orders", "reader")), "does not know the identity provider")
	alice = person("alice", "engineering")
	alice.Kind = identity.Workload // its issuer vouches for people
	denied(t, p.Decide(ask(alice, "orders", "reader")), "does not know the identity provider")
}

func TestExpiredPolicyAllowsNothingNew(t *testing.T) {
	p := mustLoad(t, files())
	in := ask(person("alice", "engineering"), "orders", "reader")
	in.Time = p.Expires().Add(-time.Second)
	allowed(t, p.Decide(in), "orders-read")
	in.Time = p.Expires()
	denied(t, p.Decide(in), "the policy expired at", "ask its signers")
}

func TestReasonTicketAndDuration(t *testing.T) {
	p := mustLoad(t, rulesOnly(`
ticket "jira" {
  pattern = "INC-[0-9]+"
  hint    = "give it as INC-42"
}
rule "r" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  reason  = "required"
  ticket  = "jira"
}`))
	in := ask(person("alice", "engineering"), "orders", "reader")
	in.Reason, in.Ticket, in.Duration = " \t", "", 2*time.Hour
	for _, step := range []struct{ field, say string }{
		{"duration", "rule r allows at most 1h; ask for 1h or less"},
		{"ticket", "rule r asks for a ticket; give it as INC-42"},
		{"ticket", "that is no jira ticket; give it as INC-42"},
		{"reason", "say why you need this; rule r asks for a reason"},
	} {
		d := p.Decide(in)
		denied(t, d, step.say)
		if d.Field != step.field || d.Rule != "r" {
			t.Errorf("the field is %q of %q, want %q", d.Field, d.Rule, step.field)
		}
		switch {
		case in.Duration > time.Hour:
			in.Duration = time.Hour
		case in.Ticket == "":
			in.Ticket = "XINC-42" // only the whole of it is a match
		case in.Ticket == "XINC-42":
			in.Ticket = "INC-42"
		default:
			in.Reason = "stuck order"
		}
	}
	d := p.Decide(in)
	allowed(t, d, "r")
	if d.Duration != time.Hour {
		t.Errorf("for %s", d.Duration)
	}
	in.Duration = -time.Minute
	denied(t, p.Decide(in), "below zero")
}

// "No approval" of one rule never combines with the duration of another (TEAM).
func TestNoDecisionCombinesTwoRules(t *testing.T) {
	p := mustLoad(t, rulesOnly(`
rule "short" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "15m"
}
rule "long" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "8h"
  approve { from = { groups = ["dba"] } }
}`))
	in := ask(person("alice", "engineering"), "orders", "reader")
	d := p.Decide(in)
	allowed(t, d, "short")
	if !d.Automatic() || d.Longest != 15*time.Minute || d.Duration != 15*time.Minute {
		t.Errorf("got %+v", d)
	}
	in.Duration = 4 * time.Hour
	d = p.Decide(in)
	allowed(t, d, "long")
	if d.Automatic() || d.Longest != 8*time.Hour {
		t.Errorf("got %+v", d)
	}
}

func TestFewestPeopleThenName(t *testing.T) {
	rule := func(name string, count string) string {
		return `rule "` + name + `" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  approve {
    count = ` + count + `
    from  = { groups = ["dba"] }
  }
}
`
	}
	p := mustLoad(t, rulesOnly(rule("a", "2")+rule("z", "1")+rule("m", "1")))
	allowed(t, p.Decide(ask(person("alice", "engineering"), "orders", "reader")), "m")
}

func TestForbidBeatsAllow(t *testing.T) {
	src := rulesOnly(`
rule "all" {
  target  = { labels = { env = "prod" } }
  role    = ["reader"]
  who     = { everybody = true }
  longest = "1h"
}
forbid "no-contractors" {
  target = { name = "billing" }
  who    = { groups = ["contractors"], emails = ["Bob@example.com"] }
  why    = "contractors do not see billing"
}`)
	p := mustLoad(t, src)
	contractor := person("carl", "engineering", "contractors")
	allowed(t, p.Decide(ask(contractor, "orders", "reader")), "all")
	d := p.Decide(ask(contractor, "billing", "reader"))
	denied(t, d, "contractors do not see billing")
	if d.Rule != "no-contractors" {
		t.Errorf("by %q", d.Rule)
	}
	// A capital letter in an e-mail is no way around a forbid.
	bob := person("bob")
	bob.Email = "BOB@Example.com"
	denied(t, p.Decide(ask(bob, "billing", "reader")), "contractors do not see billing")
}

// A forbid about the duration sees the rule's default, too.
func TestForbidSeesTheDefaultDuration(t *testing.T) {
	p := mustLoad(t, rulesOnly(`
rule "long" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { everybody = true }
  longest = "8h"
}
forbid "short-only" { when = request.minutes > 60 }`))
	in := ask(person("alice"), "orders", "reader")
	denied(t, p.Decide(in), "rule short-only forbids it")
	in.Duration = time.Hour
	allowed(t, p.Decide(in), "long")
	in.Duration = time.Hour + time.Second
	denied(t, p.Decide(in), "rule short-only forbids it")
}

func TestTwoAddressesNeedPeople(t *testing.T) {
	p := mustLoad(t, rulesOnly(`
rule "auto" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { everybody = true }
  longest = "1h"
}
rule "people" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { everybody = true }
  longest = "1h"
  approve { from = { groups = ["dba"] } }
}
break_glass "sev1" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { everybody = true }
  longest = "1h"
  review  = { groups = ["security"], within = "12h" }
}`))
	in := ask(person("alice"), "orders", "reader")
	in.Browser = netip.MustParseAddr("192.0.2.1")
	allowed(t, p.Decide(in), "auto")
	in.Browser = netip.MustParseAddr("198.51.100.9")
	denied(t, p.Decide(in), "you signed in from another address than your connection comes from")
	in.Role = "writer"
	allowed(t, p.Decide(in), "people")
	in.BreakGlass = true
	denied(t, p.Decide(in), "another address")
	in.Browser = netip.Addr{}
	d := p.Decide(in)
	allowed(t, d, "sev1")
	if !d.BreakGlass || !d.Automatic() || d.Review.String() != "security" || d.ReviewWithin != 12*time.Hour {
		t.Errorf("got %+v", d)
	}
	// Nobody breaks the glass by accident, and with a broken glass no other rule applies.
	in.BreakGlass = false
	allowed(t, p.Decide(in), "people")
	in.BreakGlass, in.Role = true, "reader"
	denied(t, p.Decide(in), "no break-glass rule lets you use orders as reader")
}

func TestProofs(t *testing.T) {
	p := mustLoad(t, rulesOnly(`
rule "r" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { everybody = true }
  longest = "1h"
  proof   = ["certificate", "token"]
}`))
	in := ask(person("alice"), "orders", "reader")
	for _, proof := range []identity.ProofKind{identity.ByBrowser, "", identity.ByOAuth} {
		in.Proof = proof
		denied(t, p.Decide(in), "rule r does not take the proof", "it takes: certificate, token")
	}
	in.Proof = identity.ByToken
	allowed(t, p.Decide(in), "r")
}

func TestObjectsAndNeeds(t *testing.T) {
	p := mustLoad(t, rulesOnly(`
rule "r" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { everybody = true }
  longest = "1h"
  scope { databases = ["analytics"] }
}`))
	in := ask(person("alice"), "orders", "reader")
	allowed(t, p.Decide(in), "r")
	in.Object = "analytics"
	allowed(t, p.Decide(in), "r")
	in.Object = "postgres"
	denied(t, p.Decide(in), "rule r does not allow orders/postgres")

	s := Scope{Channels: []string{"shell", "forward"}, Forward: []string{"db:5432"}}
	for _, c := range []struct {
		need Scope
		ok   bool
	}{
		{Scope{}, true},
		{Scope{Channels: []string{"shell"}}, true},
		{Scope{Channels: []string{"sftp"}}, false},
		{Scope{Channels: []string{"forward"}, Forward: []string{"db:5432"}}, true},
		{Scope{Channels: []string{"forward"}, Forward: []string{"db:22"}}, false},
		{Scope{Channels: []string{"listen"}}, false},
	} {
		if s.Admits(c.need) != c.ok {
			t.Errorf("%+v admits %+v: %v", s, c.need, !c.ok)
		}
	}
	l := Scope{Channels: []string{"listen"}, Listen: []string{"127.0.0.1:80"}}
	if l.Admits(Scope{Channels: []string{"forward"}}) || !l.Admits(Scope{Listen: []string{"127.0.0.1:80"}}) || l.Admits(Scope{Listen: []string{"127.0.0.1:81"}}) {
		t.Errorf("%+v admits what it should not, or not what it should", l)
	}
	if !slices.Equal(s.Parts(), []string{"channels", "forward"}) || (Scope{}).Parts() != nil {
		t.Errorf("parts %v", s.Parts())
	}
}

func TestScopeThatTheProtocolDoesNotEnforce(t *testing.T) {
	_, err := load(t, rulesOnly(`
rule "r" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { everybody = true }
  longest = "1h"
  scope { read_only = true }
}`))
	if err == nil || !strings.Contains(err.Error(), "rule r limits read_only, but for target orders (postgres) nothing would enforce it") {
		t.Errorf("got %v", err)
	}
}

// One decision's slices are not another's, nor the policy's.
func TestDecisionsShareNothing(t *testing.T) {
	p := mustLoad(t, files())
	in := ask(person("alice", "engineering"), "orders", "reader")
	d := p.Decide(in)
	d.Stages[0].From.Groups[0] = "everybody"
	d.Stages[0].Count = 0
	d.Warnings[0] = 0
	if again := p.Decide(in); again.Stages[0].String() != "1 of dba" || again.Warnings[0] != 5*time.Minute {
		t.Errorf("the policy changed: %+v", again)
	}
}

const nightRules = `
clock { zone = "Europe/Berlin" }
rule "night" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { everybody = true }
  longest = "1h"
  when    = between(request.time, "22:00", "06:00")
}`

// A window of 22:00-06:00 that refuses 02:00 (hoop), and one over a change of the clock.
func TestNightWindows(t *testing.T) {
	src := rulesOnly(nightRules)
	p := mustLoad(t, src)
	in := ask(person("alice"), "orders", "reader")
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for clock, ok := range map[string]bool{"21:59": false, "22:00": true, "23:59": true, "00:00": true, "02:00": true, "05:59": true, "06:00": false, "12:00": false} {
		in.Time, err = time.ParseInLocation("2006-01-02 15:04", "2027-01-14 "+clock, berlin)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Decide(in).Effect == Allow; got != ok {
			t.Errorf("at %s: %v", clock, got)
		}
	}
	// 2026-10-25 03:00 is 02:00 again in Berlin: 05:59 is 04:59 UTC, not 03:59.
	p = mustLoad(t, src)
	for utc, ok := range map[string]bool{"2026-10-24T20:00:00Z": true, "2026-10-24T19:59:59Z": false, "2026-10-25T00:30:00Z": true, "2026-10-25T01:30:00Z": true, "2026-10-25T04:59:59Z": true, "2026-10-25T05:00:00Z": false, "2026-03-29T03:59:59Z": true, "2026-03-29T04:00:00Z": false} {
		in.Time, err = time.Parse(time.RFC3339, utc)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Decide(in).Effect == Allow; got != ok {
			t.Errorf("at %s: %v", utc, got)
		}
	}
}

func TestWorkloadsByClaims(t *testing.T) {
	src := rulesOnly(`
issuer "github" {
  url       = "https://token.actions.example.com"
  kind      = "workload"
  audiences = ["sallyport"]
  claims    = { repository = "repository", ref = "ref" }
}
rule "deploy" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { issuer = "github", claims = { repository = "acme/orders", ref = ["refs/heads/main", "refs/heads/hotfix"] } }
  longest = "5m"
}`)
	p := mustLoad(t, src)
	job := identity.User{Issuer: "https://token.actions.example.com", Subject: "repo:acme/orders", Kind: identity.Workload, Claims: map[string]string{"repository": "acme/orders", "ref": "refs/heads/main"}}
	allowed(t, p.Decide(ask(job, "orders", "writer")), "deploy")
	for claim, value := range map[string]string{"repository": "acme/other", "ref": "refs/heads/x"} {
		other := job
		other.Claims = map[string]string{"repository": "acme/orders", "ref": "refs/heads/main", claim: value}
		denied(t, p.Decide(ask(other, "orders", "writer")), "no rule lets you")
	}
	job.Claims = nil
	denied(t, p.Decide(ask(job, "orders", "writer")), "no rule lets you")
	mallory := person("mallory")
	mallory.Claims = map[string]string{"repository": "acme/orders", "ref": "refs/heads/main"}
	denied(t, p.Decide(ask(mallory, "orders", "writer")), "no rule lets you")
}

// What a rule says of its targets narrows: the name, each label, and the protocol.
func TestTargetsAreThoseThatAllOfItIsTrueOf(t *testing.T) {
	rule := func(name, target string) string {
		return `
rule "` + name + `" {
  target  = { ` + target + ` }
  role    = ["reader"]
  who     = { groups = ["` + name + `"] }
  longest = "1h"
}`
	}
	src := rulesOnly(rule("by-protocol", `protocol = "postgres"`) + rule("by-label", `labels = { env = "prod" }`) +
		rule("by-labels", `labels = { env = "prod", kind = "postgres" }`) + rule("by-both", `protocol = "ssh", labels = { env = "prod" }`))
	src["policy/more.hcl"] = []byte(`
target "web-1" {
  protocol = "ssh"
  address  = "web-1.example.com:22"
  labels   = { env = "test" }
  role "reader" { account = "deploy" }
}
target "web-2" {
  protocol = "ssh"
  address  = "web-2.example.com:22"
  labels   = { env = "prod" }
  role "reader" { account = "deploy" }
}`)
	p := mustLoad(t, src)
	for group, targets := range map[string][]string{
		"by-protocol": {"billing", "orders"},
		"by-label":    {"billing", "orders", "web-2"},
		"by-labels":   {"orders"},
		"by-both":     {"web-2"},
	} {
		for _, target := range []string{"billing", "orders", "web-1", "web-2"} {
			if d := p.Decide(ask(person("alice", group), target, "reader")); slices.Contains(targets, target) {
				allowed(t, d, group)
			} else {
				denied(t, d, "no rule lets you use "+target)
			}
		}
	}
}

// A forbid is said although some rule misses for a reason that the user could mend.
func TestForbidShowsBeforeOtherMisses(t *testing.T) {
	p := mustLoad(t, rulesOnly(`
rule "r" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { everybody = true }
  longest = "1h"
  reason  = "required"
}
forbid "no-contractors" { who = { groups = ["contractors"] } }`))
	in := ask(person("carl", "contractors"), "orders", "reader")
	in.Reason = ""
	d := p.Decide(in)
	denied(t, d, "rule no-contractors forbids it")
	if d.Field != "" {
		t.Errorf("asks for the field %q", d.Field)
	}
}

func TestNeedOutsideTheScope(t *testing.T) {
	src := rulesOnly(`
target "web" {
  protocol = "ssh"
  address  = "web.example.com:22"
  role "deploy" {}
}
rule "r" {
  target  = { name = "web" }
  role    = ["deploy"]
  who     = { everybody = true }
  longest = "1h"
  scope { channels = ["shell"] }
}`)
	s, _, f := compile(src)
	if f.Diags.HasErrors() {
		t.Fatal(f.Diags)
	}
	in := ask(person("alice"), "web", "deploy")
	allowed(t, s.decide(in), "r")
	in.Need = Scope{Channels: []string{"shell"}}
	allowed(t, s.decide(in), "r")
	in.Need = Scope{Channels: []string{"sftp"}}
	denied(t, s.decide(in), "this is outside what rule r allows")
}
