package http

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/gatetest"
)

const pipelineRule = `
rule "ci" {
  target  = { name = "app" }
  role    = ["user"]
  who     = { claims = { repository = "shop/app", ref = "refs/heads/main" } }
  longest = "10m"
}
`

// A pipeline's JWT that is for the gate lets it in and goes no further; one that is for
// somebody else proves nothing here, and is the target's own credential.
func TestPipelinesTokenIsABearer(t *testing.T) {
	ci := gatetest.NewCI(t)
	app := newSeen()
	w := newWorld(t, app, options{ci: ci})
	c := w.client(t, false)
	bearer := "Authorization: Bearer "
	if s := ask(t, c, http.MethodGet, w.app+"/", bearer+ci.Token(t, nil).Reveal()); s.status != http.StatusOK {
		t.Fatalf("%+v", s)
	}
	if got := app.last(t).Header.Values("Authorization"); got != nil {
		t.Errorf("the target got the pipeline's token: %v", got)
	}
	theirs := ci.Token(t, map[string]any{"aud": "https://app.localhost"}).Reveal()
	ask(t, c, http.MethodGet, w.app+"/", bearer+theirs).refused(t, http.StatusUnauthorized, "Nothing is opened yet")
	forged := gatetest.NewCI(t).Token(t, map[string]any{"iss": ci.URL()}).Reveal()
	ask(t, c, http.MethodGet, w.app+"/", bearer+forged).refused(t, http.StatusUnauthorized, "That workload token proves nothing here")
	ask(t, c, http.MethodGet, w.app+"/", bearer+ci.Token(t, map[string]any{"ref": "refs/heads/evil"}).Reveal()).refused(t, http.StatusForbidden, "No rule lets you use app as user")
	if s := ask(t, w.alice(t), http.MethodGet, w.app+"/", bearer+theirs); s.status != http.StatusOK {
		t.Fatalf("%+v", s)
	}
	if got := app.last(t).Header.Get("Authorization"); got != "Bearer "+theirs {
		t.Errorf("the target did not get its own credential: %q", got)
	}
}

func TestRecipeForPipelines(t *testing.T) {
	ci := gatetest.NewCI(t)
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("at " + r.URL.Path)) }), options{ci: ci})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(ca, w.caPEM, 0o600))
	swap := []string{"https://app.gate.example.com", "--cacert " + ca + " " + w.app, "https://gate.example.com", gatetest.Audience}
	out, err := ci.Recipe(t, "", swap, "JWT=$(curl", "https://app.gate.example.com/deploy")
	if err != nil || out != "at /deploy" {
		t.Errorf("%v\n%s", err, out)
	}
}

// The session of a token goes on only while the token, which each request shows, is good.
func TestPipelinesTokenThatEndsIsRefused(t *testing.T) {
	ci := gatetest.NewCI(t)
	w := newWorld(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), options{ci: ci})
	c := w.client(t, false)
	bearer := "Authorization: Bearer " + ci.Token(t, map[string]any{"exp": time.Now().Add(-57 * time.Second).Unix()}).Reveal() // a minute of skew
	if s := ask(t, c, http.MethodGet, w.app+"/", bearer); s.status != http.StatusOK {
		t.Fatalf("%+v", s)
	}
	eventually(t, "the token lives on", func() bool {
		return ask(t, c, http.MethodGet, w.app+"/", bearer).status == http.StatusUnauthorized
	})
}
