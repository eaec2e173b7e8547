package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// large is a policy of so many rules and targets, all of which concern one another as
// far as a real one's do: by labels.
func large(rules, targets int) map[string][]byte {
	var t, r strings.Builder
	for i := range targets {
		fmt.Fprintf(&t, "target \"t%d\" {\n  protocol = \"postgres\"\n  address = \"db%d.example.com:5432\"\n  labels = { env = \"prod\", team = \"t%d\" }\n  role \"reader\" {}\n  role \"writer\" {}\n}\n", i, i, i%50)
	}
	for i := range rules {
		fmt.Fprintf(&r, "rule \"r%d\" {\n  target = { labels = { env = \"prod\", team = \"t%d\" } }\n  role = [\"reader\", \"writer\"]\n  who = { groups = [\"g%d\", \"all%d\"] }\n  longest = \"1h\"\n  reason = \"required\"\n  when = request.hour < 22 || has(user.groups, \"oncall\")\n  approve { from = { groups = [\"dba\"] } }\n}\n", i, i%50, i, i%10)
	}
	return map[string][]byte{"policy/identity.hcl": []byte(identityHCL), "policy/targets.hcl": []byte(t.String()), "policy/rules.hcl": []byte(r.String())}
}

func BenchmarkDecide(b *testing.B) {
	p := mustLoad(b, large(500, 2000))
	groups := []string{"all1", "all3"}
	for i := range 50 {
		groups = append(groups, fmt.Sprintf("other%d", i))
	}
	in := ask(person("alice", groups...), "t1", "reader")
	if d := p.Decide(in); d.Effect != Allow {
		b.Fatal(d.Why)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(in)
	}
}

func BenchmarkCheck(b *testing.B) {
	src := large(500, 2000)
	for b.Loop() {
		if d := NewDraft(src, map[string][]string{}); d.Err() != nil {
			b.Fatal(d.Err())
		}
	}
}

// Generous: a shared machine under load must still pass.
func TestLargePolicyIsQuick(t *testing.T) {
	start := time.Now()
	p := mustLoad(t, large(500, 2000))
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("loading takes %s", took)
	}
	in := ask(person("alice", "all1"), "t1", "reader")
	start = time.Now()
	for range 1000 {
		p.Decide(in)
	}
	if took := time.Since(start) / 1000; took > time.Millisecond {
		t.Errorf("a decision takes %s", took)
	}
}
