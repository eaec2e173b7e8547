package gatetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/oidc"
	"github.com/sallyport/sallyport/internal/devidp"
)

// Audience is whom the tokens of a CI are for.
const Audience = "https://gate.test"

// A CI is a real OpenID Provider on loopback that vouches for pipelines, and a relying
// party that trusts it.
type CI struct {
	*devidp.Provider
	party *oidc.RelyingParty
}

var ciClaims = map[string]string{"repository": "repository", "ref": "ref", "run": "run_id", "owner": "owner"}

// NewCI starts one, until the test ends.
func NewCI(t testing.TB) *CI {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	ci := &CI{}
	ci.Provider, err = devidp.Start(devidp.Config{Addr: "127.0.0.1:0", Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}})
	must(t, err)
	t.Cleanup(func() { _ = ci.Close() })
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	ci.party, err = oidc.New([]oidc.Config{{
		Issuer: ci.URL(), Kind: identity.Workload, Audiences: []string{Audience}, Claims: ciClaims, HTTPClient: &http.Client{Transport: transport},
	}})
	must(t, err)
	return ci
}

func (ci *CI) hcl() string {
	return `issuer "ci" {
  url       = "` + ci.URL() + `"
  kind      = "workload"
  audiences = ["` + Audience + `"]
  claims    = { repository = "repository", ref = "ref", run = "run_id", owner = "owner" }
}
`
}

// Token is the JWT of a job of shop/app on main, as long as those of large CI systems
// are. Changes are other claims.
func (ci *CI) Token(t testing.TB, changes map[string]any) identity.Token {
	t.Helper()
	claims := map[string]any{
		"repository": "shop/app", "ref": "refs/heads/main", "run_id": "1", "workflow_ref": strings.Repeat("shop/app/.github/workflows/deploy.yml@", 40),
	}
	for name, value := range changes {
		claims[name] = value
	}
	raw, err := ci.WorkloadToken("repo:shop/app:environment:production", Audience, claims)
	must(t, err)
	return identity.Token(raw)
}

// Recipe runs the lines of docs/clients.md that hold one of the words, one after another
// in one shell, as a job does. swap is what stands in the guide and what this test has
// instead, in turns. The job gets its token from an address that answers as that of
// GitHub Actions does; jwt, where it is not empty, is in its environment as GitLab has it.
func (ci *CI) Recipe(t testing.TB, jwt identity.Token, swap []string, words ...string) (string, error) {
	t.Helper()
	guide := "docs/clients.md"
	for range 3 {
		if _, err := os.Stat(guide); err == nil {
			break
		}
		guide = filepath.Join("..", guide)
	}
	text, err := os.ReadFile(guide)
	must(t, err)
	var script []string
	for _, word := range words {
		found := 0
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, word) {
				found++
				line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "- "))
				script = append(script, strings.NewReplacer(swap...).Replace(strings.Trim(line, "`")))
			}
		}
		if found != 1 {
			t.Fatalf("%d lines of %s hold %q, want one", found, guide, word)
		}
	}
	jobs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer of-the-job" || r.URL.Query().Get("api-version") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		token := ci.Token(t, map[string]any{"aud": r.URL.Query().Get("audience")})
		_, _ = w.Write([]byte(`{"count": 1, "value": "` + token.Reveal() + `"}`))
	}))
	defer jobs.Close()
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", strings.Join(script, "\n"))
	cmd.Dir = t.TempDir()
	must(t, os.WriteFile(filepath.Join(cmd.Dir, "migrate.sql"), []byte("select current_user;\n"), 0o600))
	cmd.Env = append(os.Environ(), "ACTIONS_ID_TOKEN_REQUEST_URL="+jobs.URL+"/?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=of-the-job", "JWT="+jwt.Reveal())
	out, err := cmd.CombinedOutput()
	return string(out), err
}
