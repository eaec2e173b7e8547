package http

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// What is wrong with a target's options is said with its file and line, before anybody
// signs them.
func TestOptionsAreChecked(t *testing.T) {
	const good = `
target "app" {
  protocol = "http"
  address  = "127.0.0.1:1"
  tls { mode = "off" }
  options {
    host      = "app.example.com"
    role      = "user"
    websocket = true
    origins   = ["https://other.example.com"]
    headers   = { "X-WebAuth-User" = "email" }
    max_body  = 1000
  }
  role "user" {
    credential = "app"
    options { auth = "bearer" }
  }
}
`
	check := func(text string) []string {
		d := policy.NewDraft(map[string][]byte{"policy/targets.hcl": []byte(text)}, nil)
		before := len(d.Diags) // there are no issuers
		d.CheckOptions(func(_ string, targets []policy.Target) []policy.Problem { return Protocol{}.Check(targets) })
		var said []string
		for _, diag := range d.Diags[before:] {
			said = append(said, fmt.Sprintf("%s:%d %s: %s", diag.Subject.Filename, diag.Subject.Start.Line, diag.Summary, diag.Detail))
		}
		return said
	}
	if said := check(good); len(said) > 0 {
		t.Errorf("what is right is wrong: %q", said)
	}
	for _, one := range []struct{ old, text, want string }{
		{`host      = "app.example.com"`, ``, "targets.hcl:6 Missing required argument"},
		{`"app.example.com"`, `"https://app.example.com/"`, `targets.hcl:7 Not an option: "https://app.example.com/" is no host name`},
		{`"app.example.com"`, `"app.example.com:443"`, `targets.hcl:7 Not an option`},
		{`websocket = true`, `web_socket = true`, "targets.hcl:9 Unsupported argument"},
		{`websocket = true`, `websocket = "perhaps"`, "targets.hcl:9 Unsuitable value type"},
		{`role      = "user"`, `role      = "usr"`, `targets.hcl:8 Not an option: The target has no role "usr"`},
		{`"https://other.example.com"`, `"other.example.com/x"`, "targets.hcl:10 Not an option"},
		{`"X-WebAuth-User"`, `"X_Forwarded-For"`, "targets.hcl:11 Not an option: The header X_Forwarded-For is not free"},
		{`"X-WebAuth-User"`, `"X WebAuth"`, "targets.hcl:11 Not an option"},
		{`= "email"`, `= "mail"`, `targets.hcl:11 Not an option: "mail" is nothing that a header can say`},
		{`max_body  = 1000`, `max_body  = -1`, "targets.hcl:12 Not an option"},
		{`max_body  = 1000`, `identity_for = "31s"`, `targets.hcl:12 Not an option: "31s" is no duration of at most 30s`},
		{`max_body  = 1000`, `identity_for = "0s"`, "targets.hcl:12 Not an option"},
		{`max_body  = 1000`, `identity_for = "always"`, "targets.hcl:12 Not an option"},
		{`auth = "bearer"`, `auth = "token"`, "targets.hcl:16 Not an option: Say how the credential is shown"},
		{`options { auth = "bearer" }`, ``, "targets.hcl:14 Not an option: Say how the credential is shown"},
		{`auth = "bearer"`, `auth = "header"`, "targets.hcl:16 Not an option: Write header ="},
		{`auth = "bearer"`, `auth = "certificate"`, "targets.hcl:16 Not an option: A certificate is shown in TLS"},
		{`auth = "bearer"`, `how = "bearer"`, "targets.hcl:16 Unsupported argument"},
		{`credential = "app"`, ``, "targets.hcl:16 Not an option: This role has no credential"},
	} {
		text := strings.Replace(good, one.old, one.text, 1)
		if said := check(text); text == good || len(said) != 1 || !strings.Contains(said[0], one.want) {
			t.Errorf("%s in place of %s: %q", one.text, one.old, said)
		}
	}
	twice := good + strings.Replace(strings.Replace(good, `"app"`, `"second"`, 1), "app.example.com", "APP.example.com", 1)
	if said := check(twice); len(said) != 1 || !strings.Contains(said[0], "targets.hcl:25 Not an option: The target app has this host already") {
		t.Errorf("%q", said)
	}
}
