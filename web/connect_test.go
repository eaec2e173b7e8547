package web

import (
	"encoding/json"
	"html"
	"net/url"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/session"
)

// A grant's page has the line to type for each protocol, with and without the token.
func TestGrantPageHasTheLineToType(t *testing.T) {
	f := start(t)
	alice := f.as(t, "alice")
	base, err := url.Parse(f.base)
	fatal(t, err)
	at := "https://grafana.example:" + base.Port() + "/"
	for _, c := range []struct{ target, role, plain, before, after string }{
		{"web-1", "deploy", "ssh -p 2222 deploy@web-1@gate.example", "ssh -p 2222 deploy+token@web-1@gate.example", "ssh -p 2222 deploy+token@web-1@gate.example"},
		{"grafana", "viewer", at, "curl -H 'Authorization: Bearer TOKEN' " + at, "curl -H 'Authorization: Bearer spg_"},
	} {
		body, err := json.Marshal(map[string]string{"target": c.target, "role": c.role})
		fatal(t, err)
		r := decode[session.Request](t, alice.api("POST", "/api/v1/requests", "", json.RawMessage(body)).want(t, 201))
		page := html.UnescapeString(alice.get("/g/"+r.Grant).want(t, 200).body)
		for _, line := range []string{c.plain, c.before} {
			if !strings.Contains(page, "<code>"+line+"</code>") {
				t.Errorf("%s: the page lacks %s:\n%s", c.target, line, page)
			}
		}
		if page = html.UnescapeString(alice.post("/g/"+r.Grant+"/token").want(t, 200).body); !strings.Contains(page, "<code>"+c.after) {
			t.Errorf("%s: with the token the page lacks %s:\n%s", c.target, c.after, page)
		}
	}
	f.web.config.Addresses = nil
	r := decode[session.Request](t, alice.api("POST", "/api/v1/requests", "", json.RawMessage(`{"target":"web-1","role":"deploy"}`)))
	alice.get("/g/"+r.Grant).want(t, 200, "This gate has no address to connect to")
}
