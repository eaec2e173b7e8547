package policy

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/identity"
)

func mayNot(t *testing.T, err error, say string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), say) {
		t.Errorf("got %v, want %q", err, say)
	}
}

func TestWhoMayApprove(t *testing.T) {
	p := mustLoad(t, files())
	stage := p.Decide(ask(person("alice", "engineering", "dba"), "orders", "reader")).Stages[0]
	alice, bob := person("alice", "engineering", "dba"), person("bob", "dba")
	if err := p.MayApprove(stage, alice, bob); err != nil {
		t.Errorf("bob may not: %v", err)
	}
	mayNot(t, p.MayApprove(stage, alice, alice), "nobody decides on their own request")
	mayNot(t, p.MayApprove(stage, alice, person("bob")), "this waits for 1 of dba, and you are not among them")
	agent := bob
	agent.Kind = identity.Workload
	mayNot(t, p.MayApprove(stage, alice, agent), "only a person decides")
	agent.Kind = ""
	mayNot(t, p.MayApprove(stage, alice, agent), "only a person decides")
	elsewhere := bob
	elsewhere.Issuer = "https://evil.example.com"
	mayNot(t, p.MayApprove(stage, alice, elsewhere), "does not know the identity provider")
}

const twoIssuers = `
issuer "corp" {
  url          = "https://id.example.com"
  client_id    = "sallyport"
  person_claim = "employee"
}
issuer "partner" {
  url          = "https://id.partner.example"
  client_id    = "sallyport"
  person_claim = "employee"
}`

// Two accounts of one person are one person, and an account of nobody knows whom is none.
func TestTwoIdentitiesOfOnePerson(t *testing.T) {
	src := files()
	src["policy/identity.hcl"] = []byte(twoIssuers)
	p := mustLoad(t, src)
	alice := person("alice", "engineering")
	alice.Person = "4711"
	other := identity.User{Issuer: "https://id.partner.example", Subject: "a.smith", Email: "a.smith@partner.example", Person: "4711", Kind: identity.Person, Groups: []string{"dba"}}
	d := p.Decide(ask(alice, "orders", "reader"))
	allowed(t, d, "orders-read")
	mayNot(t, p.MayApprove(d.Stages[0], alice, other), "nobody decides on their own request")
	if _, missing := d.Progress(alice, []identity.User{other}); missing != 1 {
		t.Error("one person's second account counted")
	}
	other.Person = ""
	mayNot(t, p.MayApprove(d.Stages[0], alice, other), "does not say whose it is")
	other.Person, alice.Person = "4712", ""
	mayNot(t, p.MayApprove(d.Stages[0], alice, other), "does not say whose it is")
	alice.Person = "4711"
	if err := p.MayApprove(d.Stages[0], alice, other); err != nil {
		t.Errorf("another person may not: %v", err)
	}
}

func TestSeveralIssuersNeedThePersonClaim(t *testing.T) {
	src := files()
	src["policy/identity.hcl"] = []byte(strings.Replace(twoIssuers, `person_claim = "employee"`, "", 1))
	_, err := load(t, src)
	mayNot(t, err, "could approve their own request: issuer corp needs person_claim")
}

// One person in two groups is one of two people (hoop), within a stage and across stages.
func TestOnePersonCountsOnce(t *testing.T) {
	alice, bob, carol := person("alice"), person("bob", "dba", "security"), person("carol", "dba")
	two := Decision{Stages: []Stage{{Count: 2, From: People{Groups: []string{"dba", "security"}}}}}
	both := Decision{Stages: []Stage{{Count: 1, From: People{Groups: []string{"dba"}}}, {Count: 1, From: People{Groups: []string{"security"}}}}}
	for _, c := range []struct {
		d              Decision
		yes            []identity.User
		stage, missing int
	}{
		{two, nil, 0, 2},
		{two, []identity.User{bob, bob}, 0, 1},
		{two, []identity.User{bob, carol}, 1, 0},
		{two, []identity.User{alice, bob}, 0, 1},
		{both, []identity.User{bob, bob}, 1, 1},
		{both, []identity.User{carol, bob}, 2, 0},
		{both, []identity.User{carol, carol}, 1, 1},
	} {
		if stage, missing := c.d.Progress(alice, c.yes); stage != c.stage || missing != c.missing {
			t.Errorf("after %v: stage %d, %d missing; want %d, %d", c.yes, stage, missing, c.stage, c.missing)
		}
	}
}

func TestRights(t *testing.T) {
	p := mustLoad(t, rulesOnly(`
right "review" { who = { groups = ["security"] } }
right "cut" {
  who    = { groups = ["dba"] }
  target = { name = "orders" }
}
right "users" { who = { emails = ["sam@example.com"] } }`))
	sam, dba := person("sam", "security"), person("bob", "dba")
	robot := sam
	robot.Kind = identity.Workload
	for _, c := range []struct {
		right  Right
		u      identity.User
		target string
		has    bool
	}{
		{RightReview, sam, "orders", true},
		{RightReview, sam, "", true},
		{RightReview, dba, "orders", false},
		{RightReview, robot, "orders", false},
		{RightCut, dba, "orders", true},
		{RightCut, dba, "billing", false},
		{RightCut, dba, "", false},
		{RightCut, dba, "gone", false},
		{RightCut, sam, "orders", false},
		{RightUsers, sam, "", true},
		{RightAudit, sam, "", false},
		{"approve", sam, "", false},
	} {
		if p.Has(c.right, c.u, c.target) != c.has {
			t.Errorf("%s of %s over %q: %v", c.right, c.u, c.target, !c.has)
		}
	}
}
