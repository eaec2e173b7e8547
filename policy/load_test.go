package policy

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport/sallyport/policy/bundle"
	"github.com/sallyport/sallyport/policy/strict"
)

const identityHCL = `
issuer "corp" {
  url       = "https://id.example.com"
  client_id = "sallyport"
}
`

const targetsHCL = `
target "orders" {
  protocol = "postgres"
  address  = "db.example.com:5432"
  labels   = { env = "prod", kind = "postgres" }
  role "reader" { credential = "orders-reader" }
  role "writer" { credential = "orders-writer" }
}
target "billing" {
  protocol = "postgres"
  address  = "/run/postgresql/.s.PGSQL.5432"
  labels   = { env = "prod" }
  role "reader" { account = "billing_ro" }
}
`

const rulesHCL = `
ticket "jira" {
  pattern = "[A-Z]+-[0-9]+"
  hint    = "give it as INC-42"
}
rule "orders-read" {
  target  = { name = "orders" }
  role    = ["reader"]
  who     = { groups = ["engineering"] }
  longest = "1h"
  default = "30m"
  reason  = "required"
  approve {
    count = 1
    from  = { groups = ["dba"] }
  }
}
forbid "no-contractors" {
  target = { name = "billing" }
  who    = { groups = ["contractors"] }
}
right "review" {
  who = { groups = ["security"] }
}
`

const testsHCL = `
test "a dba does not approve their own request" {
  request {
    user   = "eve@example.com"
    groups = ["engineering", "dba"]
    target = "orders"
    role   = "reader"
    reason = "INC-7"
  }
  approvals = ["eve@example.com"]
  expect {
    decision = "pending"
    missing  = 1
  }
}
`

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func files(more ...string) map[string][]byte {
	src := map[string][]byte{"policy/identity.hcl": []byte(identityHCL), "policy/targets.hcl": []byte(targetsHCL), "policy/rules.hcl": []byte(rulesHCL), "policy/tests/rules.test.hcl": []byte(testsHCL)}
	for i := 0; i < len(more); i += 2 {
		src["policy/"+more[i]] = []byte(more[i+1])
	}
	return src
}

func load(t testing.TB, src map[string][]byte) (*Policy, error) {
	t.Helper()
	dir := t.TempDir()
	root, err := bundle.Create(dir, src, 1, now.Add(90*strict.Day), map[string]ssh.Signer{"alice": newKey(t)})
	if err != nil {
		t.Fatal(err)
	}
	return Load(dir, Options{Root: RootPin(root), Now: now, Scopes: map[string][]string{"postgres": {"databases"}}})
}

func mustLoad(t testing.TB, src map[string][]byte) *Policy {
	t.Helper()
	p, err := load(t, src)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestASignedBundleLoads(t *testing.T) {
	p := mustLoad(t, files())
	if p.Version() != 1 || p.Name() != "policy" || len(p.Targets()) != 2 || p.Signers()[0] != "alice" {
		t.Errorf("got version %d of %s with %d targets by %v", p.Version(), p.Name(), len(p.Targets()), p.Signers())
	}
}
