package postgres

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
)

const pipelineRule = `
rule "deploy" {
  target  = { name = "orders" }
  role    = ["writer"]
  who     = { claims = { repository = "shop/app", ref = "refs/heads/main" } }
  longest = "10m"
}
`

func TestPipelinesTokenIsThePassword(t *testing.T) {
	ci := gatetest.NewCI(t)
	r := newRig(t, rigOptions{rules: pipelineRule, gate: gatetest.Options{CI: ci}})
	job := func(token string) (string, error) {
		t.Setenv("PGPASSWORD", token)
		return r.run(t, r.dsn(nil, "user=writer+token dbname=orders"), "-At", "-c", "select current_user")
	}
	token := ci.Token(t, map[string]any{"pad": strings.Repeat("x", 4000)}).Reveal()
	if len(token) < 7000 {
		t.Fatalf("the token has only %d bytes", len(token))
	}
	if out, err := job(token); err != nil || out != "writer\n" {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, wrong := range map[string]string{
		"another audience": ci.Token(t, map[string]any{"aud": "https://other.example.com"}).Reveal(),
		"cut":              token[:len(token)-9],
		"longer than any":  token + strings.Repeat("x", 4000),
	} {
		out, err := job(wrong)
		if err == nil || !strings.Contains(out, "FATAL:  sallyport: that ") || strings.Contains(out, "NOTICE") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if strings.Contains(r.log.String(), token) {
		t.Fatal("a token is in the log")
	}
}

func TestRecipesForPipelines(t *testing.T) {
	ci := gatetest.NewCI(t)
	r := newRig(t, rigOptions{rules: pipelineRule, gate: gatetest.Options{CI: ci}})
	swap := []string{
		"https://gate.example.com", gatetest.Audience, "host=gate.example.com", "host=localhost port=" + r.port,
		"sslrootcert=system", "sslrootcert=" + r.ca, "migrator", "writer",
	}
	for name, recipe := range map[string]struct {
		jwt   identity.Token
		lines []string
	}{
		"GitHub": {"", []string{"JWT=$(curl", `PGPASSWORD="$JWT" psql`}},
		"GitLab": {ci.Token(t, nil), []string{"password=$JWT"}},
	} {
		if out, err := ci.Recipe(t, recipe.jwt, swap, recipe.lines...); err != nil || !strings.Contains(out, "writer") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
