package author

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

const base = `
issuer "corp" {
  url       = "https://id.example.com"
  client_id = "sallyport"
}
target "orders" {
  protocol = "postgres"
  address  = "db.example.com:5432"
  role "reader" {}
  role "writer" {}
}
`

func rule(kind, name, more string) string {
	return kind + ` "` + name + `" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
` + more + "\n}\n"
}

func draft(t *testing.T, text string) *policy.Draft {
	t.Helper()
	d := policy.NewDraft(map[string][]byte{"policy/all.hcl": []byte(base + text)}, nil)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	return d
}

func approve(from string) string { return "\n  approve { from = { emails = [" + from + "] } }" }

const hour = `  longest = "1h"`

func TestRulesThatAreLessThanTheyLook(t *testing.T) {
	for name, c := range map[string]struct{ text, say string }{
		"shadowed":           {rule("rule", "a", hour) + rule("rule", "b", hour+approve(`"x@e"`)), ""}, // a has no approval: b may be meant for longer asks
		"same":               {rule("rule", "a", hour) + rule("rule", "b", hour), "a at policy/all.hcl:12 admits all that b admits"},
		"shorter":            {rule("rule", "a", hour+approve(`"x@e"`)) + rule("rule", "b", `  longest = "30m"`+approve(`"x@e"`)), "a at policy/all.hcl:12 admits all that b admits"},
		"longer":             {rule("rule", "a", hour) + rule("rule", "b", `  longest = "2h"`), "note: Overlap"},
		"conditional":        {rule("rule", "a", hour+"\n  when = request.hour < 6") + rule("rule", "b", hour), "note: Overlap"},
		"needs a reason":     {rule("rule", "a", hour+"\n  reason = \"required\"") + rule("rule", "b", hour), "note: Overlap"},
		"forbidden":          {rule("rule", "a", hour) + rule("forbid", "f", ""), "a is wholly forbidden by f"},
		"forbidden for all":  {rule("rule", "a", hour) + `forbid "f" {}`, "a is wholly forbidden by f"},
		"forbidden for some": {rule("rule", "a", hour) + `forbid "f" { who = { groups = ["contractors"] } }`, ""},
		"nobody left":        {`rule "a" {` + "\n  target = { name = \"orders\" }\n  role = [\"reader\"]\n  who = { emails = [\"x@e\"] }\n" + hour + approve(`"x@e"`) + "\n}", "nobody decides on their own request"},
		"too few":            {rule("rule", "a", hour+approve(`"x@e"`)+approve(`"x@e"`)), "2 different people have to say yes, and the 1 that are named cannot"},
		"one for two":        {rule("rule", "a", hour+approve(`"x@e"`)+approve(`"x@e"`)+approve(`"y@e", "z@e"`)), "3 different people have to say yes, and the 3 that are named cannot"},
		"beside a group":     {rule("rule", "a", hour+approve(`"x@e"`)+approve(`"x@e"`)+"\n  approve { from = { groups = [\"dba\"] } }"), "2 different people have to say yes"},
		"just enough":        {rule("rule", "a", hour+approve(`"x@e", "y@e"`)+approve(`"x@e"`)), ""},
		"escalation":         {rule("rule", "a", hour) + rule("rule", "b", `  longest = "8h"`+approve(`"x@e"`)), "note: Overlap"},
		"says whom":          {rule("rule", "a", hour) + rule("rule", "b", `  longest = "8h"`+approve(`"x@e"`)), "a at policy/all.hcl:12 can admit the same ask (groups engineering, orders as reader), and comes first: it asks 0, and this one 1."},
		"other people":       {rule("rule", "a", hour) + strings.Replace(rule("rule", "b", `  longest = "8h"`), "engineering", "sales", 1), ""},
		"other role":         {rule("rule", "a", hour) + strings.Replace(rule("rule", "b", `  longest = "8h"`), "reader", "writer", 1), ""},
		"enough":             {rule("rule", "a", hour+approve(`"x@e"`)+approve(`"y@e"`)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			findings := Check(draft(t, c.text))
			if err := Print(&b, findings); err != nil {
				t.Fatal(err)
			}
			if c.say == "" && name != "shadowed" && b.Len() > 0 || !strings.Contains(b.String(), c.say) {
				t.Errorf("got %q, want %q", b.String(), c.say)
			}
			if Errors(findings) != 0 {
				t.Error("a warning is counted as an error")
			}
		})
	}
}

func TestFindingsShowTheSource(t *testing.T) {
	d := policy.NewDraft(map[string][]byte{"policy/all.hcl": []byte(base + "rule \"a\" {\n\treson = \"\x1b[2J\"\n}\n")}, nil)
	findings := Check(d)
	var b bytes.Buffer
	if err := Print(&b, findings); err != nil {
		t.Fatal(err)
	}
	if Errors(findings) == 0 || !strings.Contains(b.String(), "policy/all.hcl:13:2: error: Unknown attribute\n   13 | \treson = ") || !strings.Contains(b.String(), "      | \t^\n") {
		t.Errorf("got %q", b.String())
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("an escape sequence reaches the terminal")
	}
	if !slices.IsSortedFunc(findings, func(a, b Finding) int { return a.Line - b.Line }) {
		t.Error("not in the file's order")
	}
}

const twoTests = `
test "yes" {
  request {
    user   = "a@e"
    groups = ["engineering"]
    target = "orders"
    role   = "reader"
    reason = "x"
  }
  expect { decision = "allow" }
}
test "no reason" {
  request {
    user   = "a@e"
    groups = ["engineering"]
    target = "orders"
    role   = "reader"
  }
  expect { decision = "deny" }
}
`

func gaps(t *testing.T, rules, tests string) string {
	t.Helper()
	d := policy.NewDraft(map[string][]byte{"policy/all.hcl": []byte(base + rules), "policy/x.test.hcl": []byte(tests)}, nil)
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	for _, o := range d.Test() {
		if o.Failed != "" {
			t.Fatalf("%s: %s", o.Test, o.Failed)
		}
	}
	var all []string
	for _, g := range Coverage(d) {
		all = append(all, g.Gap)
	}
	for _, o := range d.Test() { // what was taken away is back
		if o.Failed != "" {
			t.Errorf("%s afterwards: %s", o.Test, o.Failed)
		}
	}
	return strings.Join(all, "; ")
}

func TestCoverage(t *testing.T) {
	reason := rule("rule", "r", hour+"\n  reason = \"required\"")
	if got := gaps(t, reason, ""); got != "no test is allowed by it" {
		t.Errorf("without tests: %q", got)
	}
	if got := gaps(t, reason, twoTests); got != "without role no test fails; without who no test fails; with twice its longest no test fails" {
		t.Errorf("with two: %q", got)
	}
	denied := twoTests[strings.Index(twoTests, `test "no reason"`):]
	why := strings.NewReplacer("no reason", "stranger", `["engineering"]`, `["sales"]`, `role   = "reader"`, "role = \"reader\"\n reason = \"x\"")
	writer := strings.NewReplacer("no reason", "writer", `role   = "reader"`, "role = \"writer\"\n reason = \"x\"")
	long := strings.NewReplacer("no reason", "long", `role   = "reader"`, "role = \"reader\"\n reason = \"x\"\n duration = \"61m\"")
	if got := gaps(t, reason, twoTests+why.Replace(denied)+writer.Replace(denied)+long.Replace(denied)); got != "" {
		t.Errorf("with all: %q", got)
	}
}

const stagesTest = `
user "a@e" { groups = ["engineering"] }
user "b@e" { groups = ["dba"] }
user "c@e" { groups = ["dba"] }
user "d@e" { groups = ["lead"] }
test "yes" {
  request {
    user   = "a@e"
    target = "orders"
    role   = "reader"
  }
  approvals = [YESES]
  expect {
    decision = "DECISION"
    MORE
  }
}
`

// Each stage, each person of a stage and the scope are clauses too.
func TestCoverageOfStagesAndScope(t *testing.T) {
	staged := rule("rule", "r", hour+"\n scope { databases = [\"x\"] }\n approve {\n count = 2\n from = { groups = [\"dba\"] }\n }\n approve { from = { groups = [\"lead\"] } }")
	test := func(name, yeses, decision, more string) string {
		return strings.NewReplacer(`"yes"`, `"`+name+`"`, "YESES", yeses, "DECISION", decision, "MORE", more).Replace(stagesTest[strings.Index(stagesTest, "test"):])
	}
	users := stagesTest[:strings.Index(stagesTest, "test")]
	all := users + test("all", `"b@e", "c@e", "d@e"`, "allow", "")
	for _, gap := range []string{"without scope no", "without stage 1 no", "without one of the 2 in stage 1 no", "without stage 2 no"} {
		if got := gaps(t, staged, all+test("none", `"a@e"`, "pending", "")); !strings.Contains(got, gap) {
			t.Errorf("one test leaves %q, and not %q", got, gap)
		}
	}
	all += test("no lead", `"b@e", "c@e"`, "pending", "missing = 1") + test("one dba", `"b@e", "d@e"`, "pending", "missing = 1") +
		test("scoped", `"b@e"`, "pending", `scope { databases = ["x"] }`)
	if got := gaps(t, staged, all); strings.Contains(got, "stage") || strings.Contains(got, "scope") {
		t.Errorf("left: %q", got)
	}
}

func TestDiff(t *testing.T) {
	before := draft(t, rule("rule", "r", hour)+`right "cut" { who = { groups = ["dba"] } }`)
	for name, c := range map[string]struct{ old, text, access, block string }{
		"nothing":      {"", "", "", ""},
		"spaces":       {"= \"1h\"", "=   \"1h\"", "", ""},
		"longer":       {`"1h"`, `"8h"`, "orders reader group engineering: automatic, up to 1h -> automatic, up to 8h", "rule r: changed"},
		"other group":  {`"engineering"`, `"sales"`, "orders reader group sales:  -> automatic, up to 1h", "rule r: changed"},
		"condition":    {`"1h"`, "\"1h\"\n when = request.hour <    6", "automatic, up to 1h, when request.hour < 6", "rule r: changed"},
		"scope":        {`"1h"`, "\"1h\"\n scope {\n read_only = true\n databases = [\"x\"]\n }", "automatic, up to 1h, read-only; databases x", "rule r: changed"},
		"moved target": {"db.example.com", "db.evil.example", "orders - the target itself", "target orders: changed"},
		"credential":   {`role "reader" {}`, `role "reader" { credential = "root" }`, "orders reader the role itself: account reader, credential  -> account reader, credential root", ""},
		"issuer":       {"id.example.com", "id.evil.example", "- - issuer corp", "issuer corp: changed"},
		"right":        {`["dba"]`, `["dba", "sales"]`, "", "right cut: changed"},
		"default":      {`"1h"`, "\"1h\"\n default = \"5m\"", "", "rule r: changed"},
	} {
		t.Run(name, func(t *testing.T) {
			text := string(before.Files["policy/all.hcl"])
			after := policy.NewDraft(map[string][]byte{"policy/all.hcl": []byte(strings.Replace(text, c.old, c.text, 1))}, nil)
			if err := after.Err(); err != nil {
				t.Fatal(err)
			}
			d := Diff(before, after)
			var lines []string
			for _, ch := range d.Access {
				lines = append(lines, ch.Target+" "+ch.Role+" "+ch.Who+": "+strings.Join(ch.Before, "|")+" -> "+strings.Join(ch.After, "|"))
			}
			if got := strings.Join(lines, "\n"); !strings.Contains(got, c.access) || c.access == "" && got != "" {
				t.Errorf("access %q, want %q", got, c.access)
			}
			if got := strings.Join(d.Blocks, "\n"); !strings.Contains(got, c.block) || c.block == "" && c.access == "" && got != "" {
				t.Errorf("blocks %q, want %q", got, c.block)
			}
			if d.None() != (c.access == "" && c.block == "") {
				t.Errorf("none: %v", d.None())
			}
		})
	}
}

func TestFormat(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "policy"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "policy", "a.hcl")
	if err := os.WriteFile(file, []byte("clock {\nzone=\"UTC\"\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		changed, err := Format(dir, true)
		if err != nil || len(changed) != want {
			t.Errorf("changed %d files (%v), want %d", len(changed), err, want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "clock {\n  zone = \"UTC\"\n}\n" {
		t.Errorf("got %q, %v", text, err)
	}
}
