package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// script writes a program for a shell.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// handsOver is a program for $BROWSER that gives the address to the test.
func handsOver(t *testing.T) (browser string, address func() string) {
	t.Helper()
	note := filepath.Join(t.TempDir(), "address")
	return script(t, `printf '%s' "$1" > "`+note+`.new" && mv "`+note+`.new" "`+note+"\"\n"), func() string {
		var text []byte
		eventually(t, "the browser to be started", func() bool {
			var err error
			text, err = os.ReadFile(note)
			return err == nil
		})
		return string(text)
	}
}

// loginIn is what the person does in the browser that `sallyport login` started.
func (b *browser) loginIn(t *testing.T, address string) page {
	t.Helper()
	p := b.submit(t, b.get(t, address).form(t, "/cli/login"), nil)
	if strings.HasPrefix(p.url.String(), b.d.Issuer) {
		p = b.fillLogin(t, p)
	}
	return p
}

// `sallyport login` opens the browser that $BROWSER names, with the address as one word
// that no shell looks at, and goes on by itself once the person has signed in there.
func TestLoginOpensTheBrowser(t *testing.T) {
	d := sharedDemo(t)
	for name, value := range map[string]string{
		"the address last":         "BROWSER",
		"the address in its place": "BROWSER %s --new-window",
		"the second that starts":   "/nonexistent/browser:false:BROWSER",
	} {
		home := t.TempDir()
		browser, address := handsOver(t)
		term := start(t, []string{"BROWSER=" + strings.ReplaceAll(value, "BROWSER", browser), "SALLYPORT_HOME=" + home}, binary, "login", "--server", d.Web, "--ca", d.CA)
		shown := addressForm.FindString(term.says(t, "Sign in in the browser."))
		if got := address(); got != shown {
			t.Fatalf("%s: the browser is given %q, the terminal shows %q", name, got, shown)
		}
		p := d.browser(t, "alice@example.com").loginIn(t, shown)
		if p.status != http.StatusOK || p.url.Hostname() != "127.0.0.1" || !strings.Contains(p.text, "You are signed in on the command line. You can close this page.") {
			t.Errorf("%s: the browser ends at %s: %d %s", name, p.url, p.status, p.text)
		}
		if shown, err := term.ends(t); err != nil || !strings.Contains(shown, "You are signed in as alice@example.com") {
			t.Fatalf("%s (%v) shows:\n%s", name, err, shown)
		}
		if out, err := d.sallyport(t, home, "whoami", "--json"); err != nil || !strings.Contains(out, "alice@example.com") {
			t.Errorf("%s: whoami: %v %s", name, err, out)
		}
	}
}

// Without a browser it says so, and still takes the sign-in by hand.
func TestLoginWithoutABrowser(t *testing.T) {
	d := sharedDemo(t)
	term := start(t, []string{"BROWSER=false", "PATH=" + t.TempDir(), "SALLYPORT_HOME=" + t.TempDir()}, binary, "login", "--server", d.Web, "--ca", d.CA)
	shown := term.says(t, "No browser could be started. On a machine without one, type: sallyport login --no-browser")
	d.browser(t, "alice@example.com").loginIn(t, addressForm.FindString(shown))
	if shown, err := term.ends(t); err != nil || !strings.Contains(shown, "You are signed in as alice@example.com") {
		t.Fatalf("(%v) it shows:\n%s", err, shown)
	}
	// Where nobody signs in, nothing is written.
	home := t.TempDir()
	term = start(t, []string{"SALLYPORT_HOME=" + home}, binary, "login", "--no-browser", "--server", d.Web, "--ca", d.CA)
	term.says(t, "Type the code")
	term.types(t, "AAAA-BBBB-CCCC-DDDD")
	if shown, err := term.ends(t); err == nil || !strings.Contains(shown, "sallyport: that code is wrong") {
		t.Errorf("a code that nobody was given (%v) shows:\n%s", err, shown)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("a login that failed left %v, %v", left, err)
	}
}
