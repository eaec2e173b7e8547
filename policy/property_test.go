package policy

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/identity"
)

// A generated rule, by its parts.
func genBlock(t *rapid.T, i int) string {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	var b strings.Builder
	kind := pick("kind", "rule", "rule", "rule", "forbid", "break_glass")
	fmt.Fprintf(&b, "%s \"%s%d\" {\n", kind, pick("letter", "a", "m", "z"), i)
	fmt.Fprintf(&b, "target = %s\n", pick("target", `{ name = "orders" }`, `{ labels = { env = "prod" } }`, `{ names = ["orders", "billing"] }`))
	b.WriteString("role = [\"reader\"]\n")
	fmt.Fprintf(&b, "who = %s\n", pick("who", `{ everybody = true }`, `{ groups = ["g1"] }`, `{ groups = ["g2", "g3"] }`, `{ emails = ["alice@example.com"] }`))
	if w := pick("when", "", "", "request.hour < 12", "request.minutes > 60", `has(user.groups, "g3")`, `target.labels.env == "prod" && request.weekday != "sunday"`); w != "" {
		fmt.Fprintf(&b, "when = %s\n", w)
	}
	if kind == "forbid" {
		return b.String() + "}\n"
	}
	fmt.Fprintf(&b, "longest = \"%dm\"\n", 100+i)
	if p := pick("proof", "", "", `["certificate"]`); p != "" {
		fmt.Fprintf(&b, "proof = %s\n", p)
	}
	fmt.Fprintf(&b, "reason = %q\n", pick("reason", "optional", "required"))
	fmt.Fprintf(&b, "timeout = \"%dm\"\nhold = \"%dm\"\n", 100+i, 50+i)
	if kind == "break_glass" {
		return b.String() + "review = { groups = [\"g1\"] }\n}\n"
	}
	for range rapid.IntRange(0, 2).Draw(t, "stages") {
		fmt.Fprintf(&b, "approve {\n count = %d\n from = { groups = [\"g%d\"] }\n}\n", rapid.IntRange(1, 2).Draw(t, "count"), 1000+i)
	}
	return b.String() + "}\n"
}

func genAsk(t *rapid.T) Input {
	u := person(rapid.SampledFrom([]string{"alice", "bob"}).Draw(t, "user"), rapid.SliceOfDistinct(rapid.SampledFrom([]string{"g1", "g2", "g3"}), rapid.ID).Draw(t, "groups")...)
	in := ask(u, rapid.SampledFrom([]string{"orders", "billing", "nothing"}).Draw(t, "target"), "reader")
	in.Proof = rapid.SampledFrom([]identity.ProofKind{identity.ByBrowser, identity.ByCertificate}).Draw(t, "proof")
	in.Duration = time.Duration(rapid.IntRange(0, 200).Draw(t, "minutes")) * time.Minute
	in.Time = now.Add(time.Duration(rapid.IntRange(0, 7*24).Draw(t, "hours")) * time.Hour)
	in.Reason = rapid.SampledFrom([]string{"", "because"}).Draw(t, "reason")
	in.BreakGlass = rapid.Bool().Draw(t, "glass")
	if rapid.Bool().Draw(t, "elsewhere") {
		in.Browser = in.Client.Next()
	}
	return in
}

func compiled(t *rapid.T, blocks []string) *set {
	src := rulesOnly("")
	for i, b := range blocks {
		src[fmt.Sprintf("policy/r%d.hcl", i)] = []byte(b)
	}
	return compiledFrom(t, src)
}

func compiledFrom(t *rapid.T, src map[string][]byte) *set {
	s, _, f := compile(src)
	if f.Diags.HasErrors() {
		t.Fatal(f.Diags)
	}
	return s
}

func genBlocks(t *rapid.T) []string {
	var blocks []string
	for i := range rapid.IntRange(0, 8).Draw(t, "rules") {
		blocks = append(blocks, genBlock(t, i))
	}
	return blocks
}

func TestPropertyOrderMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := genBlocks(t)
		in := genAsk(t)
		a := compiled(t, blocks).decide(in)
		shuffled := append([]string{}, blocks...)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		b := compiledFrom(t, rulesOnly(strings.Join(shuffled, "\n"))).decide(in)
		a.At, b.At = "", ""
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("in one order %+v, in another %+v", a, b)
		}
	})
}

func TestPropertyForbidNeverAllowsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := genBlocks(t)
		in := genAsk(t)
		before := compiled(t, blocks).decide(in)
		more := genBlock(t, 99)
		for !strings.HasPrefix(more, "forbid") {
			more = genBlock(t, 99)
		}
		after := compiled(t, append(blocks, more)).decide(in)
		if after.Effect == Allow && before.Effect != Allow {
			t.Fatalf("denied (%s) without the forbid, allowed by %s with it", before.Why, after.Rule)
		}
		if after.Effect == Allow && before.Effect == Allow && len(after.Stages) < len(before.Stages) && after.Rule != before.Rule {
			t.Fatalf("%s asks fewer people than %s did", after.Rule, before.Rule)
		}
	})
}

// Every rule has a length, a time-out and approvers that no other has.
func TestPropertyNoDecisionUsesTwoRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := compiled(t, genBlocks(t))
		in := genAsk(t)
		d := s.decide(in)
		if d.Effect != Allow {
			return
		}
		for _, r := range s.rules {
			if r.name != d.Rule {
				continue
			}
			if d.Longest != r.longest || d.RequestTimeout != r.timeout || d.Hold != r.hold || d.Duration > r.longest || !reflect.DeepEqual(d.Stages, cloneStages(r.stages)) || d.BreakGlass != (r.kind == kindBreakGlass) || d.BreakGlass != in.BreakGlass {
				t.Fatalf("%+v is not all of rule %s", d, r.name)
			}
			if !r.who.matches(&in.User) || d.Automatic() && !in.SameAddress() || r.reason && in.Reason == "" {
				t.Fatalf("rule %s does not admit %+v", r.name, in)
			}
			return
		}
		t.Fatalf("no rule %q", d.Rule)
	})
}
