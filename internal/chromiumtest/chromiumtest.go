// Package chromiumtest drives a real browser for tests.
package chromiumtest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Patience is how long a page may take to show what it must.
const Patience = time.Minute

// A Step is one thing that a person does or sees.
type Step = chromedp.Action[chromedp.Void]

// Start starts Chromium and returns a maker of its windows: each a person of their own,
// with their own cookies. It ends with the test.
func Start(t testing.TB) (window func() context.Context) {
	t.Helper()
	profile, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(profile) }) // its last process may write on for a moment
	o := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("ignore-certificate-errors", true), chromedp.UserDataDir(profile))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), o...)
	t.Cleanup(cancel)
	browser, stop := chromedp.NewContext(allocator)
	t.Cleanup(func() { _ = chromedp.Cancel(browser); stop() })
	if err := chromedp.Do(browser); err != nil {
		t.Fatal(err)
	}
	return func() context.Context {
		ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
		t.Cleanup(cancel)
		ctx, cancel = context.WithTimeout(ctx, 3*Patience)
		t.Cleanup(cancel)
		return ctx
	}
}

// Run takes steps in a window; what fails is said with what the window shows.
func Run(t testing.TB, window context.Context, what string, steps ...Step) { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	if err := chromedp.Do(window, steps...); err != nil {
		short, cancel := context.WithTimeout(context.WithoutCancel(window), time.Second)
		defer cancel()
		at, _ := chromedp.Run(short, chromedp.Location())
		text, _ := chromedp.Run(short, chromedp.Evaluate[string](`document.body.innerText`))
		t.Fatalf("%s: %v (at %s: %s)", what, err, at, text)
	}
}

// Shows waits until an expression holds, across whatever pages come before it.
func Shows(expression string) Step {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(Patience); time.Now().Before(deadline); <-tick.C {
			// Between two pages there is nothing to ask; that is no failure yet.
			if there, err := chromedp.Evaluate[bool](expression)(ctx, t); err == nil && there {
				return chromedp.Void{}, nil
			}
		}
		return chromedp.Void{}, fmt.Errorf("%s does not hold", expression)
	}
}

// Text waits for words on the page.
func Text(words string) Step {
	return Shows(fmt.Sprintf(`document.body.innerText.includes(%q)`, words))
}

// Click clicks what a CSS selector finds. A live page may have put something new there in
// the moment before; then nothing was clicked yet, and it looks again.
func Click(selector string) Step {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		for deadline := time.Now().Add(Patience); ; {
			_, err := chromedp.Click(chromedp.CSS(selector))(ctx, t)
			gone := err != nil && (strings.Contains(err.Error(), "Could not find node") || strings.Contains(err.Error(), "detached from document") || strings.Contains(err.Error(), "box model"))
			if !gone || time.Now().After(deadline) {
				return chromedp.Void{}, err
			}
		}
	}
}

// NoScript switches scripts off, as a careful reader's browser does.
func NoScript() Step {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	})
}
