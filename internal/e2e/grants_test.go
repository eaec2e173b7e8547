package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/session"
)

// activeGrant is alice's only grant.
func (d *demo) activeGrant(t *testing.T) session.Grant {
	t.Helper()
	grants := list[session.Grant](t, d.signedIn(t, "alice@example.com"), "grants", "?state=active")
	if len(grants) != 1 {
		t.Fatalf("alice has %d grants, not one: %+v", len(grants), grants)
	}
	return grants[0]
}

// token is a new token of alice's only grant, as her page gives it.
func (d *demo) token(t *testing.T) string {
	t.Helper()
	alice := d.signedIn(t, "alice@example.com")
	status, text := alice.api(t, http.MethodPost, "/api/v1/grants/"+d.activeGrant(t).ID+"/token", nil)
	if status/100 != 2 {
		t.Fatalf("token: %d %s", status, text)
	}
	return must[struct{ Token string }](t, text).Token
}

// Class: a remembered yes that matches too widely.
func TestSecondConnectionUnderTheSameGrantAsksAPersonNotAnApprover(t *testing.T) {
	d := sharedDemo(t)
	d.opened(t, "5m")
	grant := d.activeGrant(t)
	second := d.psql(t, "reader", nil, "-c", "SELECT 'second: ' || count(*) FROM outbox")
	link, phrase := second.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	shown := second.says(t, "second: 500")
	if strings.Contains(shown, "waiting for") {
		t.Errorf("a running grant asked an approver again:\n%s", shown)
	}
	if again := d.activeGrant(t); again.ID != grant.ID {
		t.Errorf("the second connection made another grant: %+v", again)
	}
	// Another role is another grant.
	writer := d.psql(t, "writer", nil, "-c", "SELECT 1")
	link, phrase = writer.link(t)
	d.browser(t, "alice@example.com").confirm(t, link, phrase, nil)
	writer.says(t, "waiting for 2 of")
}

func TestTokenServesTenAtOnce(t *testing.T) {
	d := sharedDemo(t)
	d.opened(t, "5m")
	token := d.token(t)
	var all []*terminal
	for i := range 10 {
		all = append(all, d.psql(t, "reader+token", []string{"PGPASSWORD=" + token}, "-c", fmt.Sprintf("SELECT 'row %d of ' || count(*) FROM orders, pg_sleep(0.5)", i)))
	}
	for i, term := range all {
		if shown, err := term.ends(t); err != nil || !strings.Contains(shown, fmt.Sprintf("row %d of 500", i)) {
			t.Errorf("connection %d (%v) shows:\n%s", i, err, shown)
		}
	}
}

// Class: a token opens more than it is for.
func TestGrantTokensCannotApproveAndAPITokensCannotConnect(t *testing.T) {
	d := sharedDemo(t)
	home := d.login(t, "alice@example.com")
	d.opened(t, "5m")
	token := d.token(t)
	for _, call := range []struct{ method, path string }{
		{http.MethodGet, "/api/v1/whoami"},
		{http.MethodGet, "/api/v1/requests"},
		{http.MethodGet, "/api/v1/inbox"},
		{http.MethodPost, "/api/v1/requests/" + d.activeGrant(t).Request + "/approve"},
		{http.MethodPost, "/api/v1/requests"},
	} {
		request, err := http.NewRequestWithContext(t.Context(), call.method, d.Web+call.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		answer, err := d.browser(t, "nobody").http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusUnauthorized || !strings.Contains(string(text), "A grant token only opens connections") {
			t.Errorf("%s %s by a grant token: %d %s", call.method, call.path, answer.StatusCode, text)
		}
	}
	api, err := os.ReadFile(filepath.Join(home, "token"))
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"reader+token", "writer+token"} {
		shown, err := d.psql(t, role, []string{"PGPASSWORD=" + string(api)}, "-c", "SELECT 1").ends(t)
		if err == nil || !strings.Contains(shown, "that token is not valid, or its grant has ended") {
			t.Errorf("%s by an API token (%v) shows:\n%s", role, err, shown)
		}
	}
	// Nor does the grant's token open another role.
	shown, err := d.psql(t, "writer+token", []string{"PGPASSWORD=" + token}, "-c", "SELECT 1").ends(t)
	if err == nil || strings.Contains(shown, "waiting for") || !strings.Contains(shown, "sallyport: ") {
		t.Errorf("writer by reader's token (%v) shows:\n%s", err, shown)
	}
}

var (
	addressForm = regexp.MustCompile(`https://\S+/cli/login\?\S+`)
	codeForm    = regexp.MustCompile(`[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{4}`)
)

// login is `sallyport login --no-browser`, and returns the person's folder.
func (d *demo) login(t *testing.T, email string) (home string) {
	t.Helper()
	home = t.TempDir()
	term := start(t, []string{"SALLYPORT_HOME=" + home}, binary, "login", "--no-browser", "--server", d.Web, "--ca", d.CA)
	address := addressForm.FindString(term.says(t, "Type the code"))
	b := d.browser(t, email)
	p := b.submit(t, b.get(t, address).form(t, "/cli/login"), nil)
	if strings.HasPrefix(p.url.String(), d.Issuer) {
		p = b.fillLogin(t, p)
	}
	code := codeForm.FindString(p.text)
	if code == "" {
		t.Fatalf("no code on the page: %s", p.text)
	}
	term.types(t, code)
	if shown, err := term.ends(t); err != nil || !strings.Contains(shown, "You are signed in as "+email) {
		t.Fatalf("login (%v) shows:\n%s", err, shown)
	}
	for _, name := range []string{"token", "client.key", "client.crt", "login.json"} {
		info, err := os.Stat(filepath.Join(home, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	return home
}

func TestCertificateProvesWithoutABrowser(t *testing.T) {
	d := sharedDemo(t)
	alice, bob := d.login(t, "alice@example.com"), d.login(t, "bob@example.com")
	env := []string{"PGSSLCERT=" + filepath.Join(alice, "client.crt"), "PGSSLKEY=" + filepath.Join(alice, "client.key"), `PGOPTIONS=-c sallyport.reason=INC-42\ pool`}
	first := d.psql(t, "reader", env, "-c", "SELECT 'first: ' || count(*) FROM orders")
	if shown := first.says(t, "waiting for 1 of"); strings.Contains(shown, "your phrase is") {
		t.Errorf("a certificate was asked for a phrase:\n%s", shown)
	}
	out, err := d.sallyport(t, bob, "requests", "list", "--state", "pending")
	if err != nil || !strings.Contains(out, "alice@example.com") || !strings.Contains(out, "INC-42 pool") {
		t.Fatalf("list: %v\n%s", err, out)
	}
	id := strings.Fields(strings.Split(out, "\n")[1])[0]
	// Nobody approves their own request.
	if _, err := d.sallyport(t, alice, "requests", "approve", id); err == nil {
		t.Error("alice approved her own request")
	}
	if out, err := d.sallyport(t, bob, "requests", "approve", id); err != nil {
		t.Fatalf("approve: %v\n%s", err, out)
	}
	first.says(t, "first: 500")
	var all []*terminal
	for range 10 {
		all = append(all, d.psql(t, "reader", env, "-c", "SELECT 'pool: ' || count(*) FROM orders, pg_sleep(0.3)"))
	}
	for _, term := range all {
		if shown, err := term.ends(t); err != nil || !strings.Contains(shown, "pool: 500") {
			t.Errorf("a pool's connection (%v) shows:\n%s", err, shown)
		}
	}
	out, err = d.sallyport(t, alice, "whoami", "--json")
	if err != nil || !strings.Contains(out, `"email": "alice@example.com"`) {
		t.Errorf("whoami: %v %s", err, out)
	}
	if out, err := d.sallyport(t, alice, "logout"); err != nil {
		t.Errorf("logout: %v %s", err, out)
	}
	if _, err := d.sallyport(t, alice, "whoami"); err == nil || !strings.Contains(err.Error(), "sallyport login") {
		t.Errorf("whoami after logout: %v", err)
	}
}

// Class: a bad certificate is told in our words, not by a TLS alert.
func TestForeignCertificateIsRefusedInWords(t *testing.T) {
	d := sharedDemo(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-subj", "/CN=alice@example.com", "-days", "1", "-keyout", key, "-out", cert).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	shown, err := d.psql(t, "reader", []string{"PGSSLCERT=" + cert, "PGSSLKEY=" + key}, "-c", "SELECT 1").ends(t)
	if err == nil || !strings.Contains(shown, "your certificate is not from this gate") || strings.Contains(shown, "alert") {
		t.Fatalf("(%v) it shows:\n%s", err, shown)
	}
}
