package http

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/oidc"
	"github.com/sallyport/sallyport/internal/devidp"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
	"github.com/sallyport/sallyport/web"
)

// patience is how long a browser waits for what must be shown.
const patience = 20 * time.Second

// chromium starts a real browser and returns a maker of windows, each a person's own.
func chromium(t *testing.T) (window func() context.Context) {
	t.Helper()
	o := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("ignore-certificate-errors", true), chromedp.UserDataDir(t.TempDir()))
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), o...)
	t.Cleanup(cancel)
	browser, stop := chromedp.NewContext(allocator)
	t.Cleanup(func() { _ = chromedp.Cancel(browser); stop() })
	must(t, chromedp.Do(browser))
	return func() context.Context {
		ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
		t.Cleanup(cancel)
		ctx, cancel = context.WithTimeout(ctx, 3*patience)
		t.Cleanup(cancel)
		return ctx
	}
}

type step = chromedp.Action[chromedp.Void]

func run(t *testing.T, ctx context.Context, what string, actions ...step) { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		at, _ := chromedp.Run(short, chromedp.Location())
		text, _ := chromedp.Run(short, chromedp.Evaluate[string](`document.body.innerText`))
		t.Fatalf("%s: %v (at %s: %s)", what, err, at, text)
	}
}

// shows waits until an expression holds, across whatever pages come before it.
func shows(expression string) step {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
			// Between two pages there is nothing to ask; that is no failure yet.
			if there, err := chromedp.Evaluate[bool](expression)(ctx, t); err == nil && there {
				return chromedp.Void{}, nil
			}
		}
		return chromedp.Void{}, fmt.Errorf("%s does not hold", expression)
	}
}

func text(words string) step {
	return shows(fmt.Sprintf(`document.body.innerText.includes(%q)`, words))
}

// withPages is a world whose gate has its real pages and a real OpenID provider.
func withPages(t *testing.T, app http.Handler) (w *world, people map[string]devidp.User, issuer string) {
	t.Helper()
	people = map[string]devidp.User{}
	var idp *devidp.Provider
	var pages *web.Web
	t.Cleanup(func() {
		if pages != nil {
			pages.Close()
		}
		_ = idp.Close()
	})
	users := devidp.People()
	for _, u := range users {
		people[u.Name] = u
	}
	first := &world{}
	ca := first.certificates(t)
	var err error
	client := devidp.Client{ID: "sallyport"}
	idp, err = devidp.Start(devidp.Config{Addr: "127.0.0.1:0", Certificate: first.cert, Users: users, Clients: []devidp.Client{client}})
	must(t, err)
	identityHCL := fmt.Sprintf("issuer \"dev\" {\n  url = %q\n  client_id = \"sallyport\"\n  ca = \"idp.pem\"\n}\n", idp.URL())
	w = newWorld(t, app, options{
		extra: "websocket = true", roles: `role "user" {}`,
		files: map[string][]byte{"policy/identity.hcl": []byte(identityHCL), "policy/idp.pem": ca},
		pages: func(w *world) http.Handler {
			_ = idp.Close()
			client.RedirectURLs = []string{w.gate + "/callback"}
			address := strings.TrimPrefix(idp.URL(), "https://")
			idp, err = devidp.Start(devidp.Config{Addr: address, Certificate: first.cert, Users: users, Clients: []devidp.Client{client}})
			must(t, err)
			party, err := oidc.New([]oidc.Config{{
				Issuer: idp.URL(), ClientID: "sallyport", RedirectURL: w.gate + "/callback",
				HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: first.roots}}},
			}})
			must(t, err)
			var key [32]byte
			_, _ = rand.Read(key[:])
			sealer, err := identity.NewSealer(key)
			must(t, err)
			pages, err = web.New(web.Config{
				Gate: w.Gate, Log: w.Log, Recordings: w.Recordings, CA: w.CA, Sealer: sealer, URL: w.gate,
				Issuer: func() (*oidc.RelyingParty, error) { return party, nil },
				Verify: func(ctx context.Context, session string) (audit.Report, error) {
					return audit.Verify(ctx, filepath.Join(w.Dir, "audit"), audit.VerifyOptions{Recordings: filepath.Join(w.Dir, "recordings"), Session: session})
				},
			})
			must(t, err)
			return pages
		},
	})
	return w, people, idp.URL()
}

// enter signs in on the way to an address.
func enter(t *testing.T, ctx context.Context, u devidp.User, address string) { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	run(t, ctx, "sign in",
		chromedp.Navigate(address),
		chromedp.WaitVisible(chromedp.CSS(`input[type=password]`)),
		chromedp.SendKeys(chromedp.CSS(`input[name=username]`), u.Name),
		chromedp.SendKeys(chromedp.CSS(`input[type=password]`), u.Password),
		chromedp.Submit(chromedp.CSS(`input[type=password]`)),
	)
}

// A person opens the application, signs in, asks, waits, is let in when somebody else
// approves, sees the websocket live, and is told at the cut.
func TestBrowser(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/clock", func(w http.ResponseWriter, r *http.Request) {
		socket, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer socket.Close()
		for n := range 10_000 {
			if socket.WriteMessage(websocket.TextMessage, []byte(fmt.Sprint("tick ", n))) != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>app</title><h1>Application at %s</h1><p id=clock>none</p><script>
			const s = new WebSocket("wss://" + location.host + "/clock");
			s.onmessage = (e) => { clock.textContent = e.data; };
			s.onclose = (e) => { clock.textContent = "closed " + e.code + " " + e.reason; };
		</script>`, r.URL.Path)
	})
	w, people, issuer := withPages(t, mux)
	window := chromium(t)
	alice, bob := window(), window()
	enter(t, alice, people["alice"], w.app+"/.sallyport/begin?role=careful&to=/deep/page%3Fa%3Db")
	run(t, alice, "ask", text("Ask for access"), chromedp.SendKeys(chromedp.CSS(`textarea[name=reason]`), "INC-7"), chromedp.Submit(chromedp.CSS(`textarea[name=reason]`)))
	run(t, alice, "wait", text("Waiting for 1 of: dba"))
	enter(t, bob, people["bob"], w.gate+"/requests")
	run(t, bob, "approve", text("app"), chromedp.Click(chromedp.CSS(`a[href^="/requests/"]:not([href$=new])`)), text("What a yes opens"), chromedp.Click(chromedp.CSS(`button[value=yes]`)), text("Approved"))
	run(t, alice, "is let in", text("Application at /deep/page"), text("tick 5"))
	at, err := chromedp.Run(alice, chromedp.Location())
	must(t, err)
	if at != w.app+"/deep/page?a=b" {
		t.Errorf("ended up at %s", at)
	}
	guard := gatetest.Sam
	guard.Issuer = issuer
	sam := w.SignIn(t, guard)
	list, err := w.Sessions(t.Context(), sam, session.Filter{State: "live"})
	must(t, err)
	if len(list) != 1 || list[0].Proof != identity.ByBrowser || list[0].Key.Role != "careful" {
		t.Fatalf("live: %+v", list)
	}
	must(t, w.Revoke(t.Context(), sam, list[0].Grant, "enough"))
	run(t, alice, "is cut", text("closed 1008 your access was revoked by sam@example.com"))
	run(t, alice, "is told", chromedp.Reload(), text("Your access was revoked by sam@example.com"))
	run(t, alice, "asks again", chromedp.Click(chromedp.CSS(`main a`)), text("Ask for access"))
	// Without scripts the waiting page loads itself again.
	run(t, alice, "ask again", chromedp.SendKeys(chromedp.CSS(`textarea[name=reason]`), "INC-8"), chromedp.Submit(chromedp.CSS(`textarea[name=reason]`)), text("Waiting for"))
}
