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
	"github.com/sallyport/sallyport/internal/chromiumtest"
	"github.com/sallyport/sallyport/internal/devidp"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
	"github.com/sallyport/sallyport/web"
)

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
	chromiumtest.Run(t, ctx, "sign in",
		chromedp.Navigate(address),
		chromedp.WaitVisible(chromedp.CSS(`input[type=password]`)),
		chromedp.SendKeys(chromedp.CSS(`input[name=username]`), u.Name),
		chromedp.SendKeys(chromedp.CSS(`input[type=password]`), u.Password),
		chromedp.Submit(chromedp.CSS(`input[type=password]`)),
	)
}

// browserApp has a page with a clock on a websocket, and pages that do what a hostile
// application would.
func browserApp(gate func() string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/clock", func(w http.ResponseWriter, r *http.Request) {
		socket, err := (&websocket.Upgrader{EnableCompression: true}).Upgrade(w, r, nil) // as Chromium offers it
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
	mux.HandleFunc("/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 10_000 {
			if _, err := fmt.Fprintf(w, "data: event %d\n\n", n); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Refresh", "0; url=/hostile")
		http.Redirect(w, r, gate()+"/requests/new?to=//evil.test/", http.StatusFound)
	})
	mux.HandleFunc("/hostile", func(w http.ResponseWriter, _ *http.Request) {
		for _, cookie := range []string{
			"good=1; Path=/", "wide=1; Domain=localhost; Path=/", "__Host-sallyport-app=mine; Secure; Path=/", "__Host-sallyport-nonce=mine; Secure; Path=/", "__Host-sallyport=mine; Secure; Path=/",
		} {
			w.Header().Add("Set-Cookie", cookie)
		}
		w.Header().Set("Alt-Svc", `h3="evil.test:443"`)
		w.Header().Set("Sallyport-Notice", "approved")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>hostile</title><h1>Hostile</h1><p id=cookies></p><p id=api>?</p><p id=post>?</p><p id=socket>?</p><p id=frame>?</p>
			<iframe id=f src="%[1]s/requests/new?target=app"></iframe><script>
			const gate = %[1]q;
			cookies.textContent = "cookies: " + document.cookie;
			fetch(gate + "/api/v1/requests", {credentials: "include"}).then(r => r.text()).then(t => api.textContent = "api: read " + t, () => api.textContent = "api: kept out");
			fetch(gate + "/api/v1/requests", {method: "POST", credentials: "include", mode: "no-cors", body: '{"target":"app","role":"user"}'}).finally(() => post.textContent = "post: done").catch(() => {});
			const s = new WebSocket("wss" + gate.slice(5) + "/live");
			s.onopen = () => socket.textContent = "socket: open";
			s.onerror = () => socket.textContent = "socket: kept out";
			f.onload = () => { let text; try { text = f.contentDocument.body.innerText } catch (e) { text = "kept out" }; frame.textContent = "frame: " + text };
		</script>`, gate())
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>app</title><h1>Application at %s</h1><p id=clock>none</p><p id=stream>none</p><script>
			const s = new WebSocket("wss://" + location.host + "/clock");
			s.onmessage = (e) => { clock.textContent = e.data; };
			s.onclose = (e) => { clock.textContent = "closed " + e.code + " " + e.reason; };
			const events = new EventSource("/events");
			events.onmessage = (e) => { stream.textContent = e.data; };
			events.onerror = () => { stream.textContent = "stream over"; };
		</script>`, r.URL.Path)
	})
	return mux
}

// asks fills in the form of the request page and waits.
func asks(t *testing.T, ctx context.Context) { //nolint:revive // t first, as everywhere in tests
	t.Helper()
	chromiumtest.Run(t, ctx, "ask", chromiumtest.Text("Ask for access"), chromedp.SendKeys(chromedp.CSS(`textarea[name=reason]`), "INC-7"), chromedp.Submit(chromedp.CSS(`textarea[name=reason]`)))
	chromiumtest.Run(t, ctx, "wait", chromiumtest.Text("Waiting for 1 of: dba"))
}

// A person opens the application, signs in, asks, waits, is let in when somebody else
// approves, sees the websocket live, and is told at the cut, by a revoke and at the
// grant's end; and a hostile application gets nothing of it.
func TestBrowser(t *testing.T) {
	var w *world
	w, people, issuer := withPages(t, browserApp(func() string { return w.gate }))
	window := chromiumtest.Start(t)
	alice, bob := window(), window()
	enter(t, alice, people["alice"], w.app+"/.sallyport/begin?role=careful&to=/deep/page%3Fa%3Db")
	asks(t, alice)
	enter(t, bob, people["bob"], w.gate+"/requests")
	chromiumtest.Run(t, bob, "approve", chromiumtest.Text("app"), chromiumtest.Click(`a[href^="/requests/"]:not([href$=new])`), chromiumtest.Text("What a yes opens"), chromiumtest.Click(`button[value=yes]`), chromiumtest.Text("Approved"))
	chromiumtest.Run(t, alice, "is let in", chromiumtest.Text("Application at /deep/page"), chromiumtest.Text("tick 5"), chromiumtest.Text("event 5"))
	at, err := chromedp.Run(alice, chromedp.Location())
	must(t, err)
	if at != w.app+"/deep/page?a=b" {
		t.Errorf("ended up at %s", at)
	}

	chromiumtest.Run(t, alice, "a hostile application", chromedp.Navigate(w.app+"/hostile"), chromiumtest.Text("cookies: good=1\n"), chromiumtest.Text("api: kept out"),
		chromiumtest.Text("post: done"), chromiumtest.Text("socket: kept out"), chromiumtest.Text("frame: kept out"))
	chromiumtest.Run(t, alice, "a hostile redirect", chromedp.Navigate(w.app+"/away"), chromiumtest.Shows(`location.origin === "`+w.gate+`"`))
	chromiumtest.Run(t, alice, "is still let in", chromedp.Navigate(w.app+"/deep/page?a=b"), chromiumtest.Text("tick 5"))
	guard, second := gatetest.Sam, gatetest.Bob
	guard.Issuer, second.Issuer = issuer, issuer
	sam, dba := w.SignIn(t, guard), w.SignIn(t, second)
	if pending, err := w.Requests(t.Context(), sam, session.Filter{State: string(session.RequestPending)}); err != nil || len(pending) > 0 {
		t.Errorf("the hostile application has made %d requests (%v)", len(pending), err)
	}

	list, err := w.Sessions(t.Context(), sam, session.Filter{State: "live"})
	must(t, err)
	if len(list) != 1 || list[0].Proof != identity.ByBrowser || list[0].Key.Role != "careful" {
		t.Fatalf("live: %+v", list)
	}
	must(t, w.Revoke(t.Context(), sam, list[0].Grant, "enough"))
	chromiumtest.Run(t, alice, "is cut", chromiumtest.Text("closed 1008 your access was revoked by sam@example.com"), chromiumtest.Text("stream over"))
	chromiumtest.Run(t, alice, "is told", chromedp.Reload(), chromiumtest.Text("Your access was revoked by sam@example.com"))

	answer := func(v session.Verdict) {
		t.Helper()
		var pending []session.Request
		eventually(t, "nothing is asked for", func() bool {
			pending, err = w.Requests(t.Context(), dba, session.Filter{State: string(session.RequestPending)})
			must(t, err)
			return len(pending) == 1
		})
		_, err := w.Decide(t.Context(), dba, pending[0].ID, v)
		must(t, err)
	}
	chromiumtest.Run(t, alice, "asks again", chromiumtest.Click(`main a`))
	asks(t, alice)
	answer(session.Verdict{Word: "say which ticket"})
	chromiumtest.Run(t, alice, "is denied", chromiumtest.Text("Denied by bob@example.com. Nothing is opened"), chromiumtest.Text("“say which ticket”"))
	chromiumtest.Run(t, alice, "is told what to do", chromiumtest.Click(`#decide a[href^="/requests/new?"]`), chromiumtest.Text("Ask for access"),
		chromiumtest.Shows(`document.querySelector("select").value === "app as careful" && document.querySelector("textarea").value === "INC-7"`))
	asks(t, alice)
	answer(session.Verdict{Yes: true, Duration: 10 * time.Second})
	chromiumtest.Run(t, alice, "is let in again", chromiumtest.Text("Application at /deep/page"), chromiumtest.Text("tick 5"))
	chromiumtest.Run(t, alice, "is cut at the end", chromiumtest.Text("closed 1008 your access to app ended at"))
	chromiumtest.Run(t, alice, "is told of the end", chromedp.Reload(), chromiumtest.Text("Your access to app ended at"))

	// Without scripts, from the sign-in on: the waiting page loads itself again.
	plain := window()
	chromiumtest.Run(t, plain, "switches scripts off", chromiumtest.NoScript())
	enter(t, plain, people["alice"], w.app+"/.sallyport/begin?role=careful&to=/plain")
	asks(t, plain)
	answer(session.Verdict{Yes: true})
	chromiumtest.Run(t, plain, "is let in without scripts", chromiumtest.Text("Application at /plain"), chromiumtest.Text("none"))
}
