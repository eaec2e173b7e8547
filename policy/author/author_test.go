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
		"longer":             {rule("rule", "a", hour) + rule("rule", "b", `  longest = "2h"`), ""},
		"conditional":        {rule("rule", "a", hour+"\n  when = request.hour < 6") + rule("rule", "b", hour), ""},
		"needs a reason":     {rule("rule", "a", hour+"\n  reason = \"required\"") + rule("rule", "b", hour), ""},
		"forbidden":          {rule("rule", "a", hour) + rule("forbid", "f", ""), "a is wholly forbidden by f"},
		"forbidden for all":  {rule("rule", "a", hour) + `forbid "f" {}`, "a is wholly forbidden by f"},
		"forbidden for some": {rule("rule", "a", hour) + `forbid "f" { who = { groups = ["contractors"] } }`, ""},
		"nobody left":        {`rule "a" {` + "\n  target = { name = \"orders\" }\n  role = [\"reader\"]\n  who = { emails = [\"x@e\"] }\n" + hour + approve(`"x@e"`) + "\n}", "nobody decides on their own request"},
		"too few":            {rule("rule", "a", hour+approve(`"x@e"`)+approve(`"x@e"`)), "2 different people have to say yes, but only 1 are named"},
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

func TestCoverage(t *testing.T) {
	gaps := func(tests string) string {
		d := policy.NewDraft(map[string][]byte{"policy/all.hcl": []byte(base + rule("rule", "r", hour+"\n  reason = \"required\"")), "policy/x.test.hcl": []byte(tests)}, nil)
		if err := d.Err(); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, g := range Coverage(d) {
			all = append(all, g.Gap)
		}
		return strings.Join(all, "; ")
	}
	if got := gaps(""); got != "no test is allowed by it" {
		t.Errorf("without tests: %q", got)
	}
	if got := gaps(twoTests); got != "without who no test fails" {
		t.Errorf("with two: %q", got)
	}
	stranger := strings.NewReplacer("no reason", "stranger", `["engineering"]`, `["sales"]`, `role   = "reader"`, "role = \"reader\"\n reason = \"x\"").Replace(twoTests[strings.Index(twoTests, `test "no reason"`):])
	if got := gaps(twoTests + stranger); got != "" {
		t.Errorf("with all: %q", got)
	}
}

func TestDiff(t *testing.T) {
	before := draft(t, rule("rule", "r", hour)+`right "cut" { who = { groups = ["dba"] } }`)
	for name, c := range map[string]struct{ old, text, access, block string }{
		"nothing":      {"", "", "", ""},
		"spaces":       {"= \"1h\"", "=   \"1h\"", "", ""},
		"longer":       {`"1h"`, `"8h"`, "orders reader group engineering: automatic, up to 1h -> automatic, up to 8h", "rule r: changed"},
		"other group":  {`"engineering"`, `"sales"`, "orders reader group sales:  -> automatic, up to 1h", "rule r: changed"},
		"condition":    {`"1h"`, "\"1h\"\n when = request.hour < 6", "under a condition", "rule r: changed"},
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
