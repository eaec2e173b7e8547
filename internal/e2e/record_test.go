package e2e

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// Every decision says under which configuration of the machine it was made, beside the
// policy: who can change proxy.hcl can change which policy is asked at all.
func TestDecisionsNameTheConfiguration(t *testing.T) {
	d := sharedDemo(t)
	source, err := os.ReadFile(filepath.Join(d.Dir, "proxy.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("sha256:%x", sha256.Sum256(source))
	d.asked(t, "reader", "5m", "bob@example.com")
	alice := d.signedIn(t, "alice@example.com")
	if status, text := alice.api(t, http.MethodPost, "/api/v1/requests", map[string]string{"target": "orders", "role": "nosuch"}); status != http.StatusForbidden {
		t.Fatalf("a role that there is not: %d %s", status, text)
	}
	type entry struct {
		Type string
		Body struct {
			Config   string
			Decision struct{ Config string }
		}
	}
	status, text := d.signedIn(t, "sam@example.com").api(t, http.MethodGet, "/api/v1/log/entries?limit=500", nil)
	if status != http.StatusOK {
		t.Fatalf("the log: %d %s", status, text)
	}
	wanted := map[string]bool{
		"request.created": true, "approval.given": true, "request.approved": true, "grant.active": true, "ask.refused": true,
	}
	for _, e := range must[struct{ Entries []entry }](t, text).Entries {
		for _, got := range []string{e.Body.Config, e.Body.Decision.Config} {
			if got == want {
				wanted[e.Type] = false
			} else if got != "" {
				t.Errorf("%s was decided under %q, want %q", e.Type, got, want)
			}
		}
	}
	for kind, missing := range wanted {
		if missing {
			t.Errorf("no %s says that it was decided under this configuration", kind)
		}
	}
}
