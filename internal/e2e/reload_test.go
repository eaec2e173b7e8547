package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/session"
)

// A real SIGHUP to the real program: a release of the policy, certificates and credentials
// are taken over; what has to wait for a restart is named; what is refused changes
// nothing. Whoever is still allowed stays connected, and nobody else does.
func TestReloadByHangup(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	rules := m.at("policy", "policy", "rules.hcl")
	m.release(t)
	m.serve(t)
	kept, _ := m.opened(t, "20m")
	kept.types(t, "SELECT 'before' || ' reload';")
	kept.says(t, "before reload")
	hangup := func(want ...string) string {
		t.Helper()
		from := len(m.log.String())
		if err := m.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			m.says(t, from, text)
		}
		return m.log.String()[from:]
	}

	// Nothing changed; then an unsigned change, which is refused.
	hangup("msg=reloaded policy=1", "need_restart=[]")
	m.edit(t, rules, `longest = "1h"`, `longest = "2h"`)
	hangup(`msg="not reloaded"`, "policy 1 goes on: policy refused: ")
	m.release(t)
	hangup("msg=reloaded policy=2", "need_restart=[]")

	// A broken proxy.hcl changes nothing; a changed option has to wait, and is named.
	m.edit(t, m.config, "limits {", "limmits {")
	hangup(`msg="not reloaded"`, "there is one error", "limmits")
	m.edit(t, m.config, "limmits {", "limits {")
	m.edit(t, m.config, `listen "web"`, "# a word\nlisten \"web\"")
	hangup("need_restart=[]")
	m.edit(t, m.config, `listen "postgres"`, "listen \"web\" \"127.0.0.1:"+port(t)+"\" {\n  plaintext = true\n  options {\n    trusted_proxies = [\"127.0.0.0/8\"]\n  }\n}\nlisten \"postgres\"")
	m.edit(t, m.config, `grace = "1s"`, `grace = "2s"`)
	hangup(`need_restart="[limits listen]"`)

	// A target with a credential of its own comes with policy and proxy.hcl together.
	m.write(t, "credentials/second", "pencil sharpener, 42")
	m.edit(t, m.config, `credential "orders-reader"`, "credential \"second\" {\n  from = \"file:"+m.at("credentials", "second")+"\"\n}\ncredential \"orders-reader\"")
	targets, err := os.ReadFile(m.at("policy", "policy", "targets.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, "policy/policy/targets.hcl", string(targets)+target("second", fmt.Sprintf("localhost:%d", m.pg.Port), "db-ca.crt", "second"))
	m.edit(t, rules, `rule "orders-read" {`, "rule \"second\" {\n  target  = { name = \"second\" }\n  role    = [\"reader\"]\n  who     = { groups = [\"engineering\"] }\n  longest = \"1h\"\n}\n\nrule \"orders-read\" {")
	m.release(t)
	hangup("msg=reloaded policy=3")
	if err := m.connect(t, m.login(t, "alice@example.com"), "second", "reader"); err != nil {
		t.Errorf("the new target: %v", err)
	}

	kept.types(t, "SELECT 'after' || ' reload';")
	kept.says(t, "after reload")
	if live := list[session.Record](t, m.signedIn(t, "alice@example.com"), "sessions", "?state=live"); len(live) != 1 {
		t.Errorf("live after reloads that still allow it: %+v", live)
	}
	// A policy that no longer allows it cuts, at once and with words.
	m.edit(t, rules, "groups = [\"engineering\"] }\n  longest = \"2h\"", "groups = [\"nobody\"] }\n  longest = \"2h\"")
	if err := os.Remove(m.at("policy", "policy", "tests", "rules.test.hcl")); err != nil {
		t.Fatal(err)
	}
	m.release(t)
	hangup("msg=reloaded policy=4")
	kept.types(t, "SELECT 'too late';")
	if shown, err := kept.ends(t); err == nil || !strings.Contains(shown, "FATAL:  sallyport: the policy changed: ") || strings.Contains(shown, "\ntoo late") {
		t.Errorf("under a policy that no longer allows it (%v) it shows:\n%s", err, shown)
	}
	m.saidNoTrace(t)
	if err := m.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if out := m.verify(t); !strings.HasPrefix(out, "verified: ") {
		t.Errorf("verify says %s", out)
	}
}
