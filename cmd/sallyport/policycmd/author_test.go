package policycmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const identityHCL = `
issuer "corp" {
  url       = "https://id.example.com"
  client_id = "sallyport"
}
clock { zone = "Europe/Berlin" }
`

const targetsHCL = `
target "orders" {
  protocol = "postgres"
  address  = "orders.db.example.com:5432"
  labels   = { env = "prod" }
  role "reader" {}
  role "writer" {}
}
`

const rulesHCL = `
rule "orders-read" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  reason  = "required"
  when    = !between(request.time, "22:00", "06:00") || has(user.groups, "oncall")
  approve {
    count = 1
    from  = { groups = ["dba"] }
  }
}
rule "orders-oncall" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["oncall"] }
  longest = "30m"
  when    = between(request.time, "22:00", "06:00")
}
`

// repo is a policy's folder in git, and people with keys.
type repo struct {
	t   *testing.T
	dir string
}

func newRepo(t *testing.T) *repo {
	t.Helper()
	r := &repo{t, t.TempDir()}
	for name, text := range map[string]string{"identity": identityHCL, "targets": targetsHCL, "rules": rulesHCL} {
		r.write("policy/"+name+".hcl", text)
	}
	r.typed("git", "init", "-q")
	return r
}

func (r *repo) write(name, text string) {
	r.t.Helper()
	file := filepath.Join(r.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repo) edit(name, before, after string) {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil || !strings.Contains(string(text), before) {
		r.t.Fatalf("%s has no %q (%v)", name, before, err)
	}
	r.write(name, strings.Replace(string(text), before, after, 1))
}

// typed runs another program in the folder.
func (r *repo) typed(name string, args ...string) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), name, args...)
	cmd.Dir = r.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// does runs a command of `sallyport policy`, which must succeed.
func (r *repo) does(args ...string) string {
	r.t.Helper()
	out, err := run(r.t, append(args, "--dir", r.dir)...)
	if err != nil {
		r.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

// answers is does with --json, decoded.
func (r *repo) answers(args ...string) map[string]any {
	r.t.Helper()
	out := r.does(append(args, "--json")...)
	var v map[string]any
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		r.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return v
}

// keys makes keys whose private halves are in an ssh-agent only, and returns the paths
// of their public halves.
func (r *repo) keys(names ...string) map[string]string {
	r.t.Helper()
	dir := r.t.TempDir()
	socket := filepath.Join(dir, "agent")
	agent := exec.CommandContext(r.t.Context(), "ssh-agent", "-D", "-a", socket)
	out, err := agent.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() }) // ended by the signal, which it says
	if _, err := out.Read(make([]byte, 1)); err != nil {               // it says where it is once it is there
		r.t.Fatal(err)
	}
	r.t.Setenv("SSH_AUTH_SOCK", socket)
	files := map[string]string{}
	for _, name := range names {
		key := filepath.Join(dir, name)
		r.typed("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key)
		r.typed("ssh-add", "-q", key)
		if err := os.Remove(key); err != nil {
			r.t.Fatal(err)
		}
		files[name] = key + ".pub"
	}
	return files
}

// Keys that are nowhere but in an agent sign releases and trust roots, and every step
// answers programs.
func TestSigningByAnAgent(t *testing.T) {
	r := newRepo(t)
	key := r.keys("alice", "bob", "carol")
	made := r.answers("root", "init", "--threshold", "2", "--signer", "alice="+key["alice"], "--signer", "bob="+key["bob"])
	root, _ := made["digest"].(string)
	if made["root"] != 1.0 || !strings.HasPrefix(root, "sha256:") {
		t.Errorf("root init: %v", made)
	}
	r.does("release", "1", "--expires", "90d")
	review := r.answers("review", "1")
	if review["version"] != 1.0 || review["against"] != "" || len(review["changes"].(map[string]any)["access"].([]any)) == 0 {
		t.Errorf("review: %v", review)
	}
	for i, name := range []string{"alice", "bob"} {
		if signed := r.answers("sign", "1", "--key", key[name]); signed["who"] != name || signed["missing"] != float64(1-i) {
			t.Errorf("sign: %v", signed)
		}
	}
	out, err := run(t, "sign", "1", "--key", key["carol"], "--dir", r.dir)
	said(t, out, err, "the signature ")
	if err == nil {
		t.Error("the key of somebody else signs")
	}
	r.does("verify", "--root", root)

	next := r.answers("root", "next", "--threshold", "2", "--signer", "bob="+key["bob"], "--signer", "carol="+key["carol"])
	if next["root"] != 2.0 || next["digest"] == root {
		t.Errorf("root next: %v", next)
	}
	for _, name := range []string{"alice", "bob", "carol"} {
		if signed := r.answers("root", "sign", "2", "--key", key[name]); signed["who"] != name {
			t.Errorf("root sign: %v", signed)
		}
	}
	r.edit("policy/rules.hcl", `"1h"`, `"2h"`)
	r.does("release", "2")
	r.does("sign", "2", "--key", key["bob"])
	r.does("sign", "2", "--key", key["carol"])
	r.does("verify", "--root", root)
}

// Who could approve this at three in the morning, and would it be automatic?
func TestExplainAtNight(t *testing.T) {
	r := newRepo(t)
	ask := func(more ...string) []string {
		return append([]string{"explain", "--user", "eve@example.com", "--group", "engineering", "--target", "orders", "--role", "reader"}, more...)
	}
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"by day": {ask("--at", "2030-01-31 15:00"), []string{
			"orders as reader at 2030-01-31 15:00 CET: allowed for 1h after the yes of people", "stage 1: 1 of dba, but not eve@example.com", "*  rule orders-read",
			"is only about groups oncall",
		}},
		"by night": {ask("--at", "2030-01-31 03:00"), []string{"orders as reader at 2030-01-31 03:00 CET: deny", "the condition of rule orders-read does not hold"}},
		"oncall by night": {ask("--group", "oncall", "--at", "2030-01-31 03:00"), []string{
			"allowed at once, for 30m", "*  rule orders-oncall", "*  rule orders-read",
		}},
		"from elsewhere":   {ask("--group", "oncall", "--at", "2030-01-31 03:00", "--browser", "198.51.100.1"), []string{"after the yes of people", "does not let you in by itself"}},
		"without a reason": {ask("--reason", "", "--at", "2030-01-31 15:00"), []string{"deny", "say why you need this", "rule orders-read asks for a reason"}},
		"another role":     {[]string{"explain", "--user", "eve@example.com", "--group", "engineering", "--target", "orders", "--role", "writer"}, []string{"no rule lets you use orders as writer", "you can ask for it as reader", "is not about the role writer"}},
	} {
		t.Run(name, func(t *testing.T) { said(t, r.does(c.args...), nil, c.says...) })
	}
	v := r.answers(ask("--group", "oncall", "--at", "2030-01-31 03:00")...)
	if v["automatic"] != true || v["decision"].(map[string]any)["rule"] != "orders-oncall" {
		t.Errorf("as JSON: %v", v)
	}
}

// What check finds stands in its file, with the line itself, and the exit says so.
func TestCheckPointsAtTheLine(t *testing.T) {
	r := newRepo(t)
	said(t, r.does("check"), nil, "fine: 1 targets, 2 rules, 0 tests")
	r.edit("policy/rules.hcl", "has(user.groups", "hsa(user.groups")
	r.edit("policy/rules.hcl", `longest = "1h"`, `longset = "1h"`)
	out, err := run(t, "check", "--dir", r.dir)
	said(t, out, err, "policy/rules.hcl:6:3: error: Unknown attribute\n    6 |   longset = \"1h\"\n      |   ^", `Did you mean "longest"?`,
		"policy/rules.hcl:8:57: error: Condition", `There is no function hsa. Did you mean "has"?`, "errors in the policy")
	if err == nil {
		t.Error("it is no failure")
	}
	var found struct {
		OK       bool
		Findings []struct {
			File string
			Line int
		}
	}
	out, err = run(t, "check", "--json", "--dir", r.dir)
	if json.NewDecoder(bytes.NewBufferString(out)).Decode(&found) != nil || err == nil || found.OK || len(found.Findings) == 0 || found.Findings[0].Line == 0 {
		t.Errorf("as JSON: %v\n%s", err, out)
	}
}

// The number to reach is 2 s for 500 rules and 2,000 targets, from the files to the last
// finding.
func BenchmarkCheck(b *testing.B) {
	var targets, rules strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&targets, "target \"t%d\" {\n  protocol = \"postgres\"\n  address = \"db%d.example.com:5432\"\n  labels = { env = \"prod\", team = \"t%d\" }\n  role \"reader\" {}\n  role \"writer\" {}\n}\n", i, i, i%50)
	}
	for i := range 500 {
		fmt.Fprintf(&rules, "rule \"r%d\" {\n  target = { labels = { env = \"prod\", team = \"t%d\" } }\n  role = [\"reader\", \"writer\"]\n  who = { groups = [\"g%d\", \"all%d\"] }\n  longest = \"1h\"\n  reason = \"required\"\n  when = request.hour < 22 || has(user.groups, \"oncall\")\n  approve { from = { groups = [\"dba\"] } }\n}\n", i, i%50, i, i%100)
	}
	dir := b.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "policy"), 0o755); err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{"identity": identityHCL, "targets": targets.String(), "rules": rules.String()} {
		if err := os.WriteFile(filepath.Join(dir, "policy", name+".hcl"), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if out, err := run(b, "check", "--json", "--dir", dir); err != nil || !strings.Contains(out, `"ok": true`) {
			b.Fatalf("%v\n%.300s", err, out)
		}
	}
}
