package policycmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/policycmd"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/session"
)

// run types a command of `sallyport policy`.
func run(t testing.TB, args ...string) (string, error) {
	t.Helper()
	c := policycmd.New(policycmd.Builtin{
		Protocols: []string{"postgres"}, Scopes: map[string][]string{"postgres": {"databases"}},
		Check: func(string, []policy.Target) []policy.Problem { return nil },
	})
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetArgs(args)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func said(t *testing.T, out string, err error, parts ...string) {
	t.Helper()
	if err != nil {
		out += "\n" + err.Error()
	}
	for _, part := range parts {
		if !strings.Contains(out, part) {
			t.Errorf("it does not say %q:\n%s", part, out)
		}
	}
}

// What a gate decided is decided again from its log alone.
func TestReplayIsExact(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	here := netip.MustParseAddr("192.0.2.7")
	for _, ask := range []struct {
		who  identity.User
		what session.NewRequest
	}{
		{gatetest.Alice, session.NewRequest{Target: "orders", Role: "writer", Reason: "INC-1", Duration: 7 * time.Minute}},
		{gatetest.Alice, session.NewRequest{Target: "orders", Role: "owner"}},
		{gatetest.Alice, session.NewRequest{Target: "orders", Role: "reader"}}, // no reason
		{gatetest.Bob, session.NewRequest{Target: "orders", Role: "owner"}},    // no rule
		{gatetest.Alice, session.NewRequest{Target: "odrers", Role: "reader"}}, // no target
	} {
		if _, err := f.Ask(t.Context(), f.SignIn(t, ask.who), here, ask.what); err != nil {
			if _, ok := session.Message(err); !ok {
				t.Fatal(err)
			}
		}
	}
	f.Close(t)
	log := filepath.Join(f.Dir, "audit")
	out, err := run(t, "replay", "--dir", f.PolicyDir, "--log", log)
	said(t, out, err, "5 decisions, 0 come out otherwise; the log is verified.")
	if err != nil {
		t.Fatal(err)
	}
	out, err = run(t, "replay", "--dir", f.PolicyDir, "--log", log, "--since", "1s", "--json")
	said(t, out, err, `"log": "verified"`)

	// Another policy: what it decides otherwise, for whom, then and now.
	rules := filepath.Join(f.PolicyDir, "policy", "rules.hcl")
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "count = 2", "count = 1", 1)
	changed = strings.Replace(changed, `role    = ["owner"]
  who     = { groups = ["engineering"] }`, `role    = ["owner"]
  who     = { groups = ["dba"] }`, 1)
	if err := os.WriteFile(rules, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = run(t, "replay", "--dir", f.PolicyDir, "--log", log)
	said(t, out, err, "5 decisions, 3 come out otherwise", "allow by orders-write: 2 of dba, 7m of 1h", "allow by orders-write: 1 of dba, 7m of 1h",
		"allow by orders-own: at once, 1h of 1h", "deny: no rule lets you use orders as owner")
	if err != nil {
		t.Error(err)
	}
}

// A decision that the release which it names cannot have made.
func TestReplayFindsWhatWasNotDecidedSo(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	p := f.Policy()
	in := policy.Input{User: gatetest.Bob, Proof: identity.ByBrowser, Target: "orders", Role: "owner", Time: time.Now().UTC(), Client: netip.MustParseAddr("192.0.2.7")}
	d := p.Decide(in)
	d.Effect, d.Rule = policy.Allow, "orders-own"
	if _, err := f.Log.Record(t.Context(), audit.Event{Type: audit.AskRefused, Actor: "gate", Body: map[string]any{"input": in, "decision": d}}); err != nil {
		t.Fatal(err)
	}
	f.Close(t)
	out, err := run(t, "replay", "--dir", f.PolicyDir, "--log", filepath.Join(f.Dir, "audit"))
	said(t, out, err, "1 decisions, 1 come out otherwise", "1 decisions cannot have been made by the release that they name")
	if err == nil {
		t.Error("it is no failure")
	}
}

func TestReplayOfATamperedLogProvesNothing(t *testing.T) {
	f := gatetest.New(t, gatetest.Options{})
	f.SignIn(t, gatetest.Alice)
	f.Close(t)
	segment := filepath.Join(f.Dir, "audit", "wal", "000000.seg")
	text, err := os.ReadFile(segment)
	if err != nil {
		segment = filepath.Join(f.Dir, "audit", "wal", "000001.seg")
		if text, err = os.ReadFile(segment); err != nil {
			t.Fatal(err)
		}
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(segment, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "replay", "--dir", f.PolicyDir, "--log", filepath.Join(f.Dir, "audit"))
	said(t, out, err, "the log is tampered; type: sallyport audit verify")
	if err == nil {
		t.Error("it is no failure")
	}
}

// filled is a log of so many decisions, and the policy's folder.
func filled(t testing.TB, n int) (dir, log string) {
	t.Helper()
	f := gatetest.New(t, gatetest.Options{})
	in := policy.Input{User: gatetest.Alice, Proof: identity.ByBrowser, Target: "orders", Role: "reader", Reason: "INC-1 the orders are stuck", Time: time.Now().UTC(), Client: netip.MustParseAddr("192.0.2.7")}
	dir, log = f.PolicyDir, filepath.Join(f.Dir, "audit")
	p := f.Policy()
	f.Close(t)
	l, err := audit.Open(audit.Config{Dir: log, Node: "gate"})
	if err != nil {
		t.Fatal(err)
	}
	at := l.Counter()
	var rows []audit.Pending
	for i := range n {
		in.Time = in.Time.Add(time.Millisecond)
		in.Role = []string{"reader", "writer", "owner", "nobody"}[i%4]
		at++
		row, err := l.Encode(audit.Event{Type: audit.AskRefused, Actor: "gate", Time: in.Time, Body: map[string]any{"input": in, "decision": p.Decide(in)}}, at)
		if err != nil {
			t.Fatal(err)
		}
		if rows = append(rows, row); len(rows) == 1000 || i == n-1 {
			if _, err := l.Append(context.Background(), rows); err != nil {
				t.Fatal(err)
			}
			rows = rows[:0]
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, log
}

// The number to reach is 100,000 decisions in 30 s.
func BenchmarkReplay(b *testing.B) {
	const n = 100_000
	dir, log := filled(b, n)
	for b.Loop() {
		out, err := run(b, "replay", "--dir", dir, "--log", log, "--json")
		var got struct{ Decisions, Differ int }
		if err != nil || json.Unmarshal([]byte(out), &got) != nil || got.Decisions != n || got.Differ != 0 {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}
