package e2e

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// A browser is a person's: it keeps cookies, follows redirects and posts forms with
// the headers that browsers send. It runs no script, so the pages must not need any.
type browser struct {
	d     *demo
	email string
	http  *http.Client
}

func (d *demo) browser(t *testing.T, email string) *browser { return d.browserFrom(t, email, "") }

// browserFrom is a browser at another address of the loopback network.
func (d *demo) browserFrom(t *testing.T, email, address string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	dialer := &net.Dialer{Timeout: patience}
	if address != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(address)}
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: d.roots},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return dialer.DialContext(ctx, network, cmp.Or(d.detours[port], net.JoinHostPort("127.0.0.1", port)))
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{d: d, email: email, http: &http.Client{Jar: jar, Transport: transport, Timeout: patience}}
}

// A page is an answer, parsed.
type page struct {
	url    *url.URL
	status int
	text   string // as a reader sees it, blanks joined
	raw    string
	forms  []form
	links  []string
}

// A form is what a person could fill in and send.
type form struct {
	action  *url.URL
	method  string
	values  url.Values          // as filled in by the page
	choices map[string][]string // radio buttons, submit buttons and selects by name
	words   string              // its text
}

// get opens an address, or a path of the gate.
func (b *browser) get(t *testing.T, where string) page {
	t.Helper()
	if strings.HasPrefix(where, "/") {
		where = b.d.Web + where
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, where, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Sec-Fetch-Site", "none")
	return b.send(t, request)
}

func (b *browser) send(t *testing.T, request *http.Request) page {
	t.Helper()
	request.Header.Set("Accept", "text/html,application/xhtml+xml")
	answer, err := b.http.Do(request)
	if err != nil {
		t.Fatalf("%s: %v", request.URL, err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%s: %v", request.URL, err)
	}
	return read(t, answer.Request.URL, answer.StatusCode, string(raw))
}

// read parses a page.
func read(t *testing.T, at *url.URL, status int, raw string) page {
	t.Helper()
	root, err := html.Parse(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	p := page{url: at, status: status, raw: raw, text: words(root)}
	walk(root, func(n *html.Node) {
		switch n.Data {
		case "a":
			p.links = append(p.links, attr(n, "href"))
		case "form":
			p.forms = append(p.forms, readForm(t, at, n))
		}
	})
	return p
}

func readForm(t *testing.T, at *url.URL, n *html.Node) form {
	t.Helper()
	action, err := at.Parse(attr(n, "action"))
	if err != nil {
		t.Fatal(err)
	}
	f := form{action: action, method: strings.ToUpper(attr(n, "method")), values: url.Values{}, choices: map[string][]string{}, words: words(n)}
	walk(n, func(n *html.Node) {
		name, value := attr(n, "name"), attr(n, "value")
		if name == "" {
			return
		}
		switch n.Data {
		case "textarea":
			f.values.Set(name, words(n))
		case "button":
			f.choices[name] = append(f.choices[name], value)
		case "select":
			walk(n, func(o *html.Node) {
				if o.Data != "option" {
					return
				}
				if len(f.choices[name]) == 0 || has(o, "selected") {
					f.values.Set(name, attr(o, "value"))
				}
				f.choices[name] = append(f.choices[name], attr(o, "value"))
			})
		case "input":
			switch attr(n, "type") {
			case "radio", "submit":
				f.choices[name] = append(f.choices[name], value)
			case "checkbox":
				if has(n, "checked") {
					f.values.Add(name, value)
				}
			default:
				f.values.Add(name, value)
			}
		}
	})
	return f
}

func walk(n *html.Node, do func(*html.Node)) {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode {
			do(d)
		}
	}
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}

func words(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode && d.Parent.Data != "script" && d.Parent.Data != "style" {
			b.WriteString(d.Data)
			b.WriteByte(' ')
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// form is the page's form whose action ends so.
func (p page) form(t *testing.T, actionEnds string) form {
	t.Helper()
	for _, f := range p.forms {
		if strings.HasSuffix(f.action.Path, actionEnds) {
			return f
		}
	}
	t.Fatalf("%s (%d) has no form to ...%s; it says: %s", p.url, p.status, actionEnds, p.text)
	return form{}
}

// submit posts a form with these values changed.
func (b *browser) submit(t *testing.T, f form, changes map[string]string) page {
	t.Helper()
	values := url.Values{}
	for name, all := range f.values {
		values[name] = all
	}
	for name, value := range changes {
		values.Set(name, value)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.action.String(), strings.NewReader(values.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", f.action.Scheme+"://"+f.action.Host)
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.send(t, request)
}

// open opens a page and signs in on the way where that is asked for.
func (b *browser) open(t *testing.T, where string) page {
	t.Helper()
	p := b.get(t, where)
	for range 4 {
		if !strings.HasPrefix(p.url.String(), b.d.Issuer) {
			return p
		}
		p = b.fillLogin(t, p)
	}
	t.Fatalf("still at the identity provider: %s", p.text)
	return p
}

// fillLogin fills in the identity provider's form, as the person would.
func (b *browser) fillLogin(t *testing.T, p page) page {
	t.Helper()
	for _, f := range p.forms {
		changes := map[string]string{}
		for name := range f.values {
			switch {
			case strings.Contains(name, "pass"):
				changes[name] = b.d.password(t, b.email)
			case strings.Contains(name, "mail"), strings.Contains(name, "user"), strings.Contains(name, "login"):
				changes[name] = b.email
			}
		}
		if len(changes) >= 2 {
			return b.submit(t, f, changes)
		}
	}
	t.Fatalf("the identity provider shows no sign-in form: %s", p.text)
	return page{}
}

// api calls the JSON API with the browser's cookie.
func (b *browser) api(t *testing.T, method, path string, body any) (int, json.RawMessage) {
	t.Helper()
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		send = strings.NewReader(string(text))
	}
	request, err := http.NewRequestWithContext(t.Context(), method, b.d.Web+path, send)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	answer, err := b.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, text
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if so() {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func must[T any](t *testing.T, text json.RawMessage) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(fmt.Errorf("%w: %s", err, text))
	}
	return v
}

// call is api for goroutines that are not the test's own: it fails by an error.
func (b *browser) call(method, path, body string, into any) error {
	request, err := http.NewRequest(method, b.d.Web+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	answer, err := b.http.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %d %s", method, path, answer.StatusCode, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// silent opens connections that send these bytes and then nothing.
func silent(t *testing.T, address string, n int, bytes []byte) {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := conn.Write(bytes); err != nil {
			t.Fatal(err)
		}
	}
}
