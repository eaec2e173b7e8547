package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/session"
)

// The command line does what the pages do.
func TestVerbsOnTheCommandLine(t *testing.T) {
	d := sharedDemo(t)
	alice, bob, sam := d.login(t, "alice@example.com"), d.login(t, "bob@example.com"), d.login(t, "sam@example.com")
	says := func(home, want string, args ...string) string {
		t.Helper()
		out, err := d.sallyport(t, home, args...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	var r session.Request
	if err := json.Unmarshal([]byte(says(alice, "INC-5", "requests", "new", "orders", "reader", "--reason", "INC-5", "--for", "10m", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	says(alice, "pending", "requests", "show", r.ID)
	says(bob, "Approved.", "requests", "approve", r.ID, "--for", "5m", "--word", "only this once")
	says(alice, "only this once", "requests", "show", r.ID)
	grant := d.activeGrant(t)
	says(alice, grant.ID, "grants", "list", "--state", "active")
	token := strings.TrimSpace(says(alice, "spg_", "token", grant.ID))
	term := d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 'verbs' AS \"over\tall\"", "-c", "SELECT pg_sleep(600)")
	term.says(t, "verbs")
	id := d.signedIn(t, "sam@example.com").live(t, 1)[0].ID
	says(sam, id, "sessions", "list", "--state", "live")
	says(sam, "is cut", "sessions", "kill", id, "--why", "enough")
	if shown, _ := term.ends(t); !strings.Contains(shown, "this session was ended by sam@example.com") {
		t.Errorf("it shows:\n%s", shown)
	}
	says(sam, id, "recordings", "list")
	says(sam, "SELECT pg_sleep(600)", "recordings", "show", id)
	says(sam, `"k":"query"`, "recordings", "show", id, "--json")
	says(sam, "recording.viewed", "audit", "tail", "-n", "5")
	says(sam, `"type": "gate.started"`, "audit", "show", "1", "--json")
	says(sam, "is revoked", "grants", "revoke", grant.ID)
	says(sam, "alice@example.com", "users", "list")
	says(sam, "is disabled", "users", "disable", "alice@example.com", "--why", "left")
	if _, err := d.sallyport(t, alice, "whoami"); err == nil {
		t.Error("a disabled user is still served")
	}
	says(sam, "is enabled", "users", "enable", "alice@example.com")
	says(sam, "orders", "requests", "list")
	if out, err := d.sallyport(t, alice, "users", "list"); err == nil {
		t.Errorf("alice lists users: %s", out)
	}
}

// Tab offers what there is at the gate: targets and roles to ask for, requests to decide,
// grants and sessions to end; and nothing, without a word, where nobody is signed in.
func TestCompletionAtTheGate(t *testing.T) {
	d := sharedDemo(t)
	alice, bob := d.login(t, "alice@example.com"), d.login(t, "bob@example.com")
	offers := func(home string, args ...string) string {
		t.Helper()
		out, err := d.sallyport(t, home, append([]string{"__complete"}, args...)...)
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		return out
	}
	if got := offers(alice, "requests", "new", ""); !strings.Contains(got, "orders\tpostgres\n") || !strings.Contains(got, "web-1\tssh\n") {
		t.Errorf("targets: %s", got)
	}
	if got := offers(alice, "requests", "new", "orders", ""); !strings.Contains(got, "reader\ttakes 1 of: dba") || !strings.Contains(got, "writer\t") || strings.Contains(got, "deploy") {
		t.Errorf("roles of orders: %s", got)
	}
	out, err := d.sallyport(t, alice, "requests", "new", "orders", "reader", "--reason", "INC-6", "--json")
	if err != nil {
		t.Fatal(err)
	}
	id := must[session.Request](t, []byte(out)).ID
	if got := offers(bob, "requests", "approve", ""); !strings.Contains(got, id+"\talice@example.com: orders as reader\n") {
		t.Errorf("requests to decide: %s", got)
	}
	if out, err := d.sallyport(t, bob, "requests", "approve", id); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if got := offers(bob, "requests", "approve", ""); strings.Contains(got, id) {
		t.Errorf("what was decided is still offered: %s", got)
	}
	grant := d.activeGrant(t)
	for _, args := range [][]string{{"token", ""}, {"grants", "release", ""}} {
		if got := offers(alice, args...); !strings.Contains(got, grant.ID+"\talice@example.com: orders as reader\n") {
			t.Errorf("%v: %s", args, got)
		}
	}
	if got := offers(t.TempDir(), "sessions", "kill", ""); strings.Count(got, "\n") != 1 { // the directive alone
		t.Errorf("without a login: %q", got)
	}
}
