package web

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/chromiumtest"
	"github.com/sallyport/sallyport/session"
)

// value runs one action that has a result.
func value[T any](t *testing.T, ctx context.Context, action chromedp.Action[T]) T { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	v, err := chromedp.Run(ctx, action)
	fatal(t, err)
	return v
}

// script runs an expression in the page.
func script(t *testing.T, ctx context.Context, expression string) bool { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	return value(t, ctx, chromedp.Evaluate[bool](expression))
}

func scheme(name string) chromiumtest.Step {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return err
	})
}

// enter opens a page and signs in on the way.
func (f *fixture) enter(t *testing.T, ctx context.Context, path, name string) { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	chromiumtest.Run(t, ctx, "sign in",
		chromedp.Navigate(f.base+path),
		chromedp.WaitVisible(chromedp.CSS(`input[type=password]`)),
		chromedp.SendKeys(chromedp.CSS(`input[name=username]`), name),
		chromedp.SendKeys(chromedp.CSS(`input[type=password]`), f.people[name].Password),
		chromedp.Submit(chromedp.CSS(`input[type=password]`)),
		chromedp.WaitVisible(chromedp.CSS(`header .who`)),
	)
}

// look checks that nothing is wider than the window on a phone and on a desk, and
// keeps pictures of it, light and dark, where they are asked for (go test -artifacts).
func look(t *testing.T, ctx context.Context, name string) { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	for _, width := range []int64{1280, 360} {
		chromiumtest.Run(t, ctx, "look at "+name, chromedp.EmulateViewport(width, 780))
		if script(t, ctx, `document.documentElement.scrollWidth > window.innerWidth`) {
			t.Errorf("%s is wider than %d pixels", name, width)
		}
		if flag.Lookup("test.artifacts").Value.String() != "true" {
			continue
		}
		for _, theme := range []string{"light", "dark"} {
			chromiumtest.Run(t, ctx, "look at "+name, scheme(theme))
			picture := value(t, ctx, chromedp.FullScreenshot(100))
			fatal(t, os.WriteFile(filepath.Join(t.ArtifactDir(), fmt.Sprintf("%s-%d-%s.png", name, width, theme)), picture, 0o600))
		}
	}
}

const hasText = `document.querySelector("main").innerText.includes(%q)`

// shows waits for a text, across whatever pages come before it.
func shows(text string) chromiumtest.Step {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
			// Between two pages there is nothing to ask; that is no failure yet.
			if there, err := chromedp.Evaluate[bool](fmt.Sprintf(hasText, text))(ctx, t); err == nil && there {
				return chromedp.Void{}, nil
			}
		}
		return chromedp.Void{}, fmt.Errorf("%q is not shown", text)
	}
}

// A phone approves; the asker's waiting page moves on by itself, without a reload.
func TestApprovalOnAPhone(t *testing.T) {
	f := start(t)
	window := chromiumtest.Start(t)
	alice, bob := window(), window()
	c := f.connect(t, "orders", "reader", "127.0.0.1:5000")
	chromiumtest.Run(t, alice, "a phone", chromedp.EmulateViewport(360, 780))
	f.enter(t, alice, c.link, "alice")
	chromiumtest.Run(t, alice, "the held page", shows("Which phrase does your terminal show?"))
	look(t, alice, "held")
	chromiumtest.Run(t, alice, "say why",
		chromiumtest.Click(fmt.Sprintf(`input[value=%q]`, c.phrase)),
		chromedp.SendKeys(chromedp.CSS(`textarea[name=reason]`), "INC-42: order 88121 is stuck in “paid”"),
		chromedp.SendKeys(chromedp.CSS(`input[name=ticket]`), "INC-42\r"), // Enter in a field must not ask
		chromiumtest.Click(`button.yes`),
		shows("Waiting for 1 of"),
	)
	script(t, alice, `window.same = true`)
	look(t, alice, "waiting")

	f.enter(t, bob, "/", "bob")
	chromiumtest.Run(t, bob, "the inbox", chromedp.EmulateViewport(360, 780), shows("1 request waits for your yes or no"))
	look(t, bob, "home")
	chromiumtest.Run(t, bob, "the request", chromiumtest.Click(`#inbox a`), shows("What a yes opens"))
	// Read by the page itself, at once: a live page may replace a button between two looks.
	deny := value(t, bob, chromedp.Evaluate[string](`document.querySelector("button[value=no]").innerText`))
	yes := value(t, bob, chromedp.Evaluate[string](`document.querySelector("button[value=yes]").innerText`))
	thumb := script(t, bob, `(() => { const r = document.querySelector("button[value=yes]").getBoundingClientRect(); return r.height >= 48 && r.bottom <= innerHeight && r.top > 0 })()`)
	if !thumb || deny != "Deny" || !strings.HasPrefix(yes, "Approve") {
		t.Errorf("the decision is not under the thumb: %q %q", deny, yes)
	}
	look(t, bob, "request")
	chromiumtest.Run(t, bob, "narrow", chromedp.SetValue(chromedp.CSS(`select[name=for]`), "15m"))
	words := value(t, bob, chromedp.Evaluate[string](`document.querySelector("select[name=for]").dispatchEvent(new Event("change", {bubbles: true})); document.querySelector("button[value=yes]").innerText`))
	chromiumtest.Run(t, bob, "Enter in a field", chromedp.SendKeys(chromedp.CSS(`input[name=word]`), "ok\r"))
	if r, err := f.gate.Inbox(t.Context(), f.signIn(t, "bob")); err != nil || len(r) != 1 {
		t.Fatalf("Enter in a field decided: %v, %v", r, err)
	}
	if words == yes {
		t.Errorf("narrowing leaves the words %q", words)
	}
	chromiumtest.Run(t, bob, "approve", chromiumtest.Click(`button[value=yes]`), shows("Approved by bob@example.com"))
	fatal(t, c.wait(t))
	look(t, bob, "approved")
	chromiumtest.Run(t, alice, "the waiting page moves on", shows("Your terminal goes on by itself"))
	if !script(t, alice, `window.same === true`) {
		t.Error("the page was loaded again instead of going on in place")
	}
	chromiumtest.Run(t, alice, "the grant", chromiumtest.Click(`#state a`), shows("Active until"))
	look(t, alice, "grant")
	chromiumtest.Run(t, alice, "the token", chromiumtest.Click(`form[action$="/token"] button`), shows("shown this once"))
	look(t, alice, "token")
}

// signIn finds somebody's sign-in for asking the gate directly.
func (f *fixture) signIn(t *testing.T, name string) identity.SignIn {
	t.Helper()
	signIn, err := f.gate.SignInByCookie(t.Context(), hash(f.as(t, name).cookie(cookieName)))
	fatal(t, err)
	return signIn
}

// The same without any script: the waiting page loads itself again.
func TestHeldPageWithoutScript(t *testing.T) {
	f := start(t)
	window := chromiumtest.Start(t)
	alice, bob := window(), f.as(t, "bob")
	c := f.connect(t, "orders", "reader", "198.51.100.23:5000")
	chromiumtest.Run(t, alice, "no script", chromiumtest.NoScript(), chromedp.EmulateViewport(360, 780))
	chromiumtest.Run(t, alice, "sign in",
		chromedp.Navigate(f.base+c.link), chromedp.WaitReady(chromedp.CSS(`input[type=password]`)),
		chromedp.SendKeys(chromedp.CSS(`input[name=username]`), "alice"),
		chromedp.SendKeys(chromedp.CSS(`input[type=password]`), f.people["alice"].Password+"\r"),
		chromedp.WaitReady(chromedp.CSS(`.phrase input`)),
		chromedp.WaitReady(chromedp.CSS(`.note.bad`)),
	)
	look(t, alice, "held-mismatch")
	chromiumtest.Run(t, alice, "ask",
		chromiumtest.Click(fmt.Sprintf(`input[value=%q]`, c.phrase)),
		chromedp.SendKeys(chromedp.CSS(`textarea[name=reason]`), "INC-43"),
		chromiumtest.Click(`button.yes`),
		chromedp.WaitReady(chromedp.CSS(`#state .live`)),
	)
	id := decode[struct{ Requests []session.Request }](t, bob.api("GET", "/api/v1/inbox", "", nil)).Requests[0].ID
	bob.post("/requests/"+id, "verdict", "yes").want(t, 200)
	fatal(t, c.wait(t))
	chromiumtest.Run(t, alice, "the page loads itself again", chromedp.WaitReady(chromedp.CSS(`#state a[href^="/g/"]`)))
}

// `sallyport login` in a browser that holds the form to its content security policy.
func TestCommandLineInABrowser(t *testing.T) {
	f := start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(t, err)
	queries := make(chan url.Values, 1)
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			queries <- r.URL.Query()
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	_, port, err := net.SplitHostPort(listener.Addr().String())
	fatal(t, err)
	verifier, challenge := pkce()
	window := chromiumtest.Start(t)()
	chromiumtest.Run(t, window, "say yes", chromedp.Navigate(f.base+"/cli/login?host=laptop&state=xyz&port="+port+"&challenge="+challenge),
		shows("Sign in on the command line"), chromiumtest.Click(`button.yes`),
		chromedp.WaitVisible(chromedp.CSS(`input[type=password]`)),
		chromedp.SendKeys(chromedp.CSS(`input[name=username]`), "alice"),
		chromedp.SendKeys(chromedp.CSS(`input[type=password]`), f.people["alice"].Password+"\r"))
	select {
	case q := <-queries:
		got := f.browser(t).api("POST", "/api/v1/cli/token", "", cliExchange{Code: q.Get("code"), Verifier: verifier})
		if got.want(t, 200, "alice@example.com"); q.Get("state") != "xyz" {
			t.Errorf("state %q", q.Get("state"))
		}
	case <-time.After(patience):
		chromiumtest.Run(t, window, "nothing came back", shows("something that is never there"))
	}
}

// The pages for whoever looks after it all.
func TestOversightInABrowser(t *testing.T) {
	f := start(t)
	window := chromiumtest.Start(t)
	alice, bob, sam := f.as(t, "alice"), f.as(t, "bob"), window()
	c := f.connect(t, "billing", "writer", "198.51.100.23:5000")
	alice.get(c.link)
	alice.post(c.link, "phrase", c.phrase, "reason", "refund batch of yesterday").want(t, 200)
	id := decode[struct{ Requests []session.Request }](t, bob.api("GET", "/api/v1/inbox", "", nil)).Requests[0].ID
	f.as(t, "carol").post("/requests/"+id, "verdict", "yes", "word", "checked by phone").want(t, 200)
	sess, stop := f.running(t, alice, bob)
	f.enter(t, sam, "/sessions", "sam")
	chromiumtest.Run(t, sam, "sessions", shows("1 session is live"))
	look(t, sam, "sessions")
	chromiumtest.Run(t, sam, "kill", chromiumtest.Click(`form[action$="/kill"] button`), shows("No session is live"))
	_ = stop()
	for name, path := range map[string]string{
		"recordings": "/recordings", "recording": "/recordings/" + sess.ID(), "log": "/log", "users": "/users", "requests": "/requests", "mismatch": "/requests/" + id, "grants": "/grants", "error": "/g/x",
	} {
		chromiumtest.Run(t, sam, name, chromedp.Navigate(f.base+path), chromedp.WaitVisible(chromedp.CSS("h1")))
		look(t, sam, name)
	}
	carol := window()
	f.enter(t, carol, "/requests/"+id, "bob")
	look(t, carol, "mismatch-decide")
	asker := window()
	f.enter(t, asker, "/requests/new?target=orders&role=reader", "alice")
	look(t, asker, "new")
	_, challenge := pkce()
	chromiumtest.Run(t, asker, "command line", chromedp.Navigate(f.base+"/cli/login?host=laptop&port=40404&challenge="+challenge), shows("Sign in on the command line"))
	look(t, asker, "cli")
}
