package http

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// The HTTP classes of threats.md, one test each.

func TestIdentityHeaderInEightSpellings(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{extra: `headers = { "X-WebAuth-User" = "email" }`})
	alice := w.alice(t)
	for _, name := range []string{
		"Sallyport-Identity", "sallyport-identity", "SALLYPORT-IDENTITY", "Sallyport_Identity", "sallyport_identity", "SALLYPORT_IDENTITY",
		"Sallyport.Identity", "X-Sallyport-Identity", "X_Webauth_User", "x-webauth-user", "X-Forwarded-User", "X_Forwarded_Email", "Remote_User",
	} {
		for _, two := range []bool{false, true} {
			c := alice
			if two {
				c = w.client(t, true, alice.Transport.(*http.Transport).TLSClientConfig.Certificates...) //nolint:forcetypeassert // ours
			}
			ask(t, c, http.MethodGet, w.app+"/", name+": forged").refused(t, http.StatusOK, "application")
			got := app.last(t)
			for header, values := range got.Header {
				for _, value := range values {
					if strings.Contains(value, "forged") {
						t.Errorf("%s came through as %s", name, header)
					}
				}
			}
			if len(got.Header.Values(identityHeader)) != 1 || got.Header.Get("X-WebAuth-User") != "alice@example.com" {
				t.Errorf("the application was told %v", got.Header)
			}
		}
	}
}

func TestConnectionAbuse(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	alice := w.alice(t)
	ask(t, alice, http.MethodGet, w.app+"/", "Connection: close, Sallyport-Identity, X-Forwarded-For, Cookie", "Sallyport-Identity: forged", "X-Forwarded-For: 6.6.6.6").
		refused(t, http.StatusOK, "application")
	got := app.last(t)
	if len(got.Header.Values(identityHeader)) != 1 || got.Header.Get(identityHeader) == "forged" || got.Header.Get("X-Forwarded-For") != "127.0.0.1" {
		t.Errorf("the application was told %v", got.Header)
	}
}

func TestOpenRedirects(t *testing.T) {
	w := newWorld(t, newSeen(), options{})
	browser, _ := w.browser(t, gatetest.Alice)
	nonce := encode(make([]byte, 32))
	for _, evil := range []string{"https://evil.test/", "//evil.test/", "///evil.test/", `/\evil.test`, `\\evil.test`, "/\t/evil.test", "https:evil.test", "javascript:alert(1)", "/.sallyport/begin?to=/", "http://app.localhost.evil.test/"} {
		value := url.QueryEscape(evil)
		for _, address := range []string{
			w.app + "/.sallyport/begin?to=" + value, w.app + "/.sallyport/begin?role=" + value,
			w.gate + "/.sallyport/open?target=app&nonce=" + nonce + "&to=" + value, w.gate + "/.sallyport/open?target=" + value + "&nonce=" + nonce,
			w.gate + "/.sallyport/open?target=app&to=" + value, w.gate + "/.sallyport/open?target=app&nonce=" + value,
		} {
			for range 4 {
				s := ask(t, browser, http.MethodGet, address, html)
				if s.status != http.StatusSeeOther {
					break
				}
				to, err := mustURL(t, address).Parse(s.head.Get("Location"))
				must(t, err)
				if host := "https://" + to.Host; host != w.app && host != w.gate || strings.Contains(to.Path, "evil") {
					t.Fatalf("%s leads to %s", address, to)
				}
				address = to.String()
			}
		}
	}
}

func TestOneTimeCode(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	const words = "this sign-in was not begun in this browser"
	// Eve begins in her browser and gets as far as the code; alice is made to go there.
	code := func(t *testing.T, c *http.Client) string {
		t.Helper()
		first := ask(t, c, http.MethodGet, w.app+"/page", html)
		second := ask(t, c, http.MethodGet, first.head.Get("Location"), html)
		address := second.head.Get("Location")
		if !strings.HasPrefix(address, w.app+"/.sallyport/enter?code=") {
			t.Fatalf("no code in %q", address)
		}
		return address
	}
	eve, _ := w.browser(t, gatetest.Eve)
	alice, _ := w.browser(t, gatetest.Alice)
	stolen := code(t, eve)
	ask(t, alice, http.MethodGet, w.app+"/", html) // she has a nonce of her own
	ask(t, alice, http.MethodGet, stolen).refused(t, http.StatusForbidden, words[1:])
	ask(t, eve, http.MethodGet, stolen).refused(t, http.StatusForbidden, words[1:]) // and it is spent
	bare := w.client(t, false)
	ask(t, bare, http.MethodGet, code(t, eve)).refused(t, http.StatusForbidden, words[1:])
	// On the wrong host.
	mine := code(t, alice)
	alice.Jar.SetCookies(mustURL(t, w.other), alice.Jar.Cookies(mustURL(t, w.app))) // were the nonce there
	ask(t, alice, http.MethodGet, strings.Replace(mine, w.app, w.other, 1)).refused(t, http.StatusForbidden, words[1:])
	// In the right place it works, once.
	mine = code(t, alice)
	if s := ask(t, alice, http.MethodGet, mine); s.status != http.StatusSeeOther || s.head.Get("Location") != "/page" {
		t.Errorf("got %d to %q", s.status, s.head.Get("Location"))
	}
	ask(t, alice, http.MethodGet, mine).refused(t, http.StatusForbidden, words[1:])
	ask(t, alice, http.MethodGet, w.app+"/page", html).refused(t, http.StatusOK, "application")
	app.last(t)
	// The cookie of one host is nothing on another.
	from, _ := url.Parse(w.app)
	to, _ := url.Parse(w.other)
	alice.Jar.SetCookies(to, alice.Jar.Cookies(from))
	ask(t, alice, http.MethodGet, w.other+"/").refused(t, http.StatusUnauthorized, "Nothing is opened yet")
}

func TestCookieAndBearerTogether(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	browser, by := w.browser(t, gatetest.Alice)
	walk(t, browser, w.app+"/")
	app.last(t)
	grants, err := w.Grants(t.Context(), by, session.Filter{})
	must(t, err)
	token, _, err := w.GrantToken(t.Context(), by, grants[0].ID)
	must(t, err)
	ask(t, browser, http.MethodGet, w.app+"/", "Authorization: Bearer "+token.Reveal()).refused(t, http.StatusBadRequest, "a token and a cookie")
	app.none(t)
	// The token alone opens, and is not sent on.
	ask(t, w.client(t, false), http.MethodGet, w.app+"/", "Authorization: Bearer "+token.Reveal()).refused(t, http.StatusOK, "application")
	if got := app.last(t); len(got.Header.Values("Authorization")) > 0 {
		t.Error("the token reached the application")
	}
	ask(t, w.client(t, false), http.MethodGet, w.app+"/", "Authorization: Bearer "+token.Reveal(), "Authorization: Basic YTpi").refused(t, http.StatusBadRequest, "two Authorization headers")
	ask(t, w.client(t, false), http.MethodGet, w.other+"/", "Authorization: Bearer "+token.Reveal()).refused(t, http.StatusUnauthorized, "not valid")
	ask(t, w.client(t, false), http.MethodGet, w.app+"/", "Authorization: Bearer spg_nothing").refused(t, http.StatusUnauthorized, "not valid")
	api, _, err := w.APIToken(t.Context(), by)
	must(t, err)
	ask(t, w.client(t, false), http.MethodGet, w.app+"/", "Authorization: Bearer "+api.Reveal()).refused(t, http.StatusUnauthorized, "not valid")
	app.none(t)
}

// raw sends bytes over TLS and returns the answer.
func (w *world) raw(t testing.TB, name, text string, certs ...tls.Certificate) said {
	t.Helper()
	conn, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: w.roots, ServerName: name, Certificates: certs})
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = io.WriteString(conn, text)
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return said{res.StatusCode, res.Header, string(body)}
}

func TestHostConfusion(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
	host := strings.TrimPrefix(w.app, "https://")
	_, port, err := net.SplitHostPort(host)
	must(t, err)
	ok := w.raw(t, "app.localhost", "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n", cert)
	ok.refused(t, http.StatusOK, "application")
	app.last(t)
	for name, line := range map[string]string{
		"another target":    "Host: other.localhost:" + port,
		"the gate":          "Host: gate.localhost:" + port,
		"nobody":            "Host: evil.test",
		"without the port":  "Host: app.localhost",
		"another port":      "Host: app.localhost:1",
		"a final dot":       "Host: app.localhost.:" + port,
		"two":               "Host: " + host + "\r\nHost: gate.localhost:" + port,
		"two, spelled anew": "Host: " + host + "\r\nhOST: " + host,
	} {
		if s := w.raw(t, "app.localhost", "GET / HTTP/1.1\r\n"+line+"\r\nConnection: close\r\n\r\n", cert); s.status != http.StatusMisdirectedRequest && s.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, s.status, s.body)
		}
	}
	w.raw(t, "app.localhost", "GET https://other.localhost/ HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n", cert).refused(t, http.StatusMisdirectedRequest, "differ")
	w.raw(t, "app.localhost", "GET https://"+host+"/ HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n", cert).refused(t, http.StatusBadRequest, "the path alone")
	w.raw(t, "gate.localhost", "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n", cert).refused(t, http.StatusMisdirectedRequest, "differ")
	app.none(t)
}

func TestAmbiguousRequests(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
	host := "Host: " + strings.TrimPrefix(w.app, "https://") + "\r\n"
	for _, one := range []struct{ name, text, words string }{
		{"length and chunked", "POST / HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "in two ways"},
		{"chunked and length", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", "in two ways"},
		{"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", "in two ways"},
		{"folded", "GET / HTTP/1.1\r\n" + host + "X-A: b\r\n c\r\n\r\n", "in two ways"},
		{"bare line feeds", "GET / HTTP/1.1\r\n" + host + "X-A: b\n\r\n", "in two ways"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "Asterisk-form"},
		{"connect", "CONNECT 127.0.0.1:5432 HTTP/1.1\r\n" + host + "\r\n", ""},
		{"trace", "TRACE / HTTP/1.1\r\n" + host + "\r\n", "TRACE does not pass"},
		{"h2c", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", "only upgrade"},
		{"an unknown upgrade", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: smtp\r\n\r\n", "only upgrade"},
		{"two upgrades", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n", "only upgrade"},
		{"an upgrade that connection does not name", "GET / HTTP/1.1\r\n" + host + "Upgrade: websocket\r\n\r\n", "only upgrade"},
		{"the second of two is ambiguous", "GET /.sallyport/x HTTP/1.1\r\n" + host + "\r\nPOST / HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""},
	} {
		s := w.raw(t, "app.localhost", one.text, cert)
		if s.status < 400 || !strings.Contains(s.body, one.words) {
			t.Errorf("%s: %d %s", one.name, s.status, s.body)
		}
		app.none(t)
	}
}

// What is matched is what is sent on: a grant for some paths reaches nothing else.
func TestPathConfusion(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
	head := " HTTP/1.1\r\nHost: " + strings.TrimPrefix(w.app, "https://") + "\r\nSallyport-Role: some\r\nConnection: close\r\n\r\n"
	corpus, err := os.ReadFile("testdata/paths.txt")
	must(t, err)
	tried := map[string]int{}
	for line := range strings.Lines(string(corpus)) {
		word, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if word == "#" {
			continue
		}
		path, err := strconv.Unquote(`"` + text + `"`)
		must(t, err)
		tried[word]++
		s := w.raw(t, "app.localhost", "GET "+path+head, cert)
		if word == "refuse" {
			if s.status != http.StatusBadRequest && s.status != http.StatusForbidden && s.status != http.StatusMisdirectedRequest {
				t.Errorf("%s: %d %s", path, s.status, s.body)
			}
			app.none(t)
			continue
		}
		if s.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, s.status, s.body)
			continue
		}
		if got := app.last(t); got.RequestURI != path {
			t.Errorf("%s was sent on as %s", path, got.RequestURI)
		}
	}
	if tried["pass"] < 15 || tried["refuse"] < 70 || len(tried) != 2 {
		t.Errorf("tried %v", tried)
	}
}

// A page's script cannot choose another grant of the person's.
func TestScriptsChooseNoRole(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	browser, by := w.browser(t, gatetest.Alice)
	walk(t, browser, w.app+"/.sallyport/begin?role=reader&to=/")
	app.last(t)
	_, err := w.Gate.Ask(t.Context(), by, here, session.NewRequest{Target: "app", Role: "user"})
	must(t, err)
	ask(t, browser, http.MethodPost, w.app+"/", roleHeader+": user").refused(t, http.StatusForbidden, "read-only")
	app.none(t)
}

func TestPrefetchDecidesNothing(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	alice, by := w.browser(t, gatetest.Alice)
	for _, header := range []string{"Sec-Purpose: prefetch", "Sec-Purpose: prefetch;prerender", "Purpose: prefetch", "X-Moz: prefetch"} {
		ask(t, w.alice(t), http.MethodGet, w.app+"/", html, header).refused(t, http.StatusForbidden, "Nothing is opened before")
		ask(t, alice, http.MethodGet, w.gate+"/.sallyport/open?target=app&nonce="+encode(make([]byte, 32)), html, header).refused(t, http.StatusBadRequest, "in a browser")
	}
	// Going to a page asks nobody for anything: only a form does.
	s, at := walk(t, alice, w.app+"/.sallyport/begin?role=careful&to=/x")
	if s.status != http.StatusMisdirectedRequest || !strings.HasPrefix(at, w.gate+"/requests/new?") {
		t.Errorf("went to %s: %d", at, s.status)
	}
	if list, err := w.Requests(t.Context(), by, session.Filter{}); err != nil || len(list) > 0 {
		t.Errorf("%d requests were made by looking (%v)", len(list), err)
	}
	app.none(t)
}

func TestCrossSiteRequests(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{extra: "websocket = true\norigins = [\"https://friend.test\"]"})
	browser, _ := w.browser(t, gatetest.Alice)
	walk(t, browser, w.app+"/")
	app.last(t)
	for _, headers := range [][]string{{"Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: same-site"}, {"Origin: https://evil.test"}, {"Origin: null"}} {
		ask(t, browser, http.MethodPost, w.app+"/", headers...).refused(t, http.StatusForbidden, "from another site")
	}
	upgrade := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-Websocket-Version: 13", "Sec-Websocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for _, origin := range []string{"https://evil.test", "null", w.other, "http" + strings.TrimPrefix(w.app, "https")} {
		ask(t, browser, http.MethodGet, w.app+"/", append(upgrade, "Origin: "+origin)...).refused(t, http.StatusForbidden, "from another site")
	}
	app.none(t)
	ask(t, browser, http.MethodPost, w.app+"/", "Origin: "+w.app, "Sec-Fetch-Site: same-origin").refused(t, http.StatusOK, "application")
	ask(t, browser, http.MethodPost, w.app+"/", "Origin: https://friend.test", "Sec-Fetch-Site: cross-site").refused(t, http.StatusOK, "application")
}

func TestCookiesNeverReachTheApplication(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	browser, _ := w.browser(t, gatetest.Alice)
	walk(t, browser, w.app+"/")
	app.last(t)
	at, _ := url.Parse(w.app)
	browser.Jar.SetCookies(at, []*http.Cookie{{Name: "theirs", Value: "1", Secure: true}, {Name: "__host-SALLYPORT-x", Value: "2", Secure: true}})
	ask(t, browser, http.MethodGet, w.app+"/").refused(t, http.StatusOK, "application")
	if got := app.last(t).Header["Cookie"]; len(got) != 1 || got[0] != "theirs=1" {
		t.Errorf("the application got the cookies %q", got)
	}
}

func TestHostileTarget(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "https://evil.test/steal", http.StatusFound)
			return
		}
		for _, cookie := range []string{
			"good=1; Path=/; HttpOnly", "wide=1; Domain=localhost", "wide2=1; path=/; DOMAIN = .localhost", "__Host-sallyport-app=mine; Secure; Path=/",
			"__host-sallyport=mine", "=__Host-sallyport-app=mine; Secure; Path=/", "  __Host-sallyport-nonce=mine", "empty=1; domain=",
		} {
			w.Header().Add("Set-Cookie", cookie)
		}
		w.Header().Set("Alt-Svc", `h3="evil.test:443"`)
		w.Header().Set("Sallyport-Notice", "approved")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "hostile")
	}), options{})
	s := ask(t, w.alice(t), http.MethodGet, w.app+"/")
	s.refused(t, http.StatusOK, "hostile")
	if got := s.head.Values("Set-Cookie"); len(got) != 1 || got[0] != "good=1; Path=/; HttpOnly" {
		t.Errorf("cookies %q came through", got)
	}
	if s.head.Get("Alt-Svc") != "" || s.head.Get("Sallyport-Notice") != "" {
		t.Errorf("headers %v came through", s.head)
	}
	// A redirect is the client's to follow.
	if s := ask(t, w.alice(t), http.MethodGet, w.app+"/away"); s.status != http.StatusFound || s.head.Get("Location") != "https://evil.test/steal" {
		t.Errorf("got %d to %q", s.status, s.head.Get("Location"))
	}
}

func TestTargetThatIsAway(t *testing.T) {
	w := newWorld(t, newSeen(), options{})
	s := ask(t, w.alice(t), http.MethodGet, w.other+"/")
	s.refused(t, http.StatusBadGateway, "cannot be reached now")
	if strings.Contains(s.body, "127.0.0.1") {
		t.Errorf("the address is told: %s", s.body)
	}
}

func TestHosts(t *testing.T) {
	w := newWorld(t, newSeen(), options{})
	h := &handler{}
	h.base, _ = url.Parse(w.gate)
	for _, host := range []string{"", "gate.localhost", "x.gate.localhost", "localhost", "app.localhost:1", "APP.localhost/", "app.localhost.", ".app.localhost"} {
		s := &site{targetOptions: targetOptions{Host: host}}
		if err := h.name(s); err == nil {
			t.Errorf("the host %q was taken as %s", host, s.host)
		}
	}
	for _, header := range []string{"Sallyport-Identity", "x_forwarded_for", "X-Sallyport-User"} {
		if err := h.name(&site{targetOptions: targetOptions{Host: "app.localhost", Headers: map[string]string{header: "email"}}}); err == nil {
			t.Errorf("the header %s was taken", header)
		}
	}
}
