package web

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/oidc"
	"github.com/sallyport/sallyport/internal/gatetest"
)

const pipelineRule = `
rule "ci" {
  target  = { name = "orders" }
  role    = ["owner"]
  who     = { claims = { repository = "shop/app", ref = "refs/heads/main" } }
  longest = "10m"
  reason  = "required"
}
`

func TestRecipeForPipelinesThatExchangeTheirToken(t *testing.T) {
	ci := gatetest.NewCI(t)
	f := gatetest.New(t, gatetest.Options{CI: ci, Rules: pipelineRule})
	server := httptest.NewUnstartedServer(nil)
	sealer, err := identity.NewSealer([32]byte{1})
	fatal(t, err)
	pages, err := New(Config{
		Gate: f.Gate, Log: f.Log, Recordings: f.Recordings, CA: f.CA, Sealer: sealer, URL: "https://" + server.Listener.Addr().String(),
		Issuer: func() (*oidc.RelyingParty, error) { return nil, nil }, //nolint:nilnil // nobody signs in here
		Verify: func(context.Context, string) (audit.Report, error) { return audit.Report{}, nil },
	})
	fatal(t, err)
	t.Cleanup(pages.Close)
	server.Config.Handler = pages
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	fatal(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	swap := []string{"https://gate.example.com/api", "--cacert " + ca + " " + server.URL + "/api", "https://gate.example.com", gatetest.Audience, "web-1", "orders", `"deploy"`, `"owner"`, "| jq -r .token)", "| jq -r .token); echo got $TOKEN"}
	out, err := ci.Recipe(t, "", swap, "JWT=$(curl", "TOKEN=$(curl")
	token := identity.Token(strings.TrimSpace(strings.TrimPrefix(out, "got ")))
	if purpose, bad := identity.PurposeOf(token); err != nil || bad != nil || purpose != identity.ForGrant {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err = ci.Recipe(t, ci.Token(t, map[string]any{"ref": "refs/heads/evil"}), append(swap, "curl -sSf", "curl -sS"), "TOKEN=$(curl")
	if err != nil || out != "got null\n" {
		t.Errorf("another branch: %v\n%s", err, out)
	}
}
