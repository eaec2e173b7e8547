package http

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"
)

// Whatever passes as being under a pattern stays under it however often a target
// decodes and cleans it.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/public/a", "/public/../admin", "/public/%2e%2e/admin", "/public/..;/x", "/public/%252e%252e/", "/public//x", "/public/a%2fb", "/items/7/name", "//", "/public/;/..;a/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if plainPath(p, false) != nil || !matches("/public/**", p) {
			return
		}
		for range 3 {
			for _, reading := range []string{p, strings.ReplaceAll(p, `\`, "/"), withoutParameters(p)} {
				if clean := path.Clean(reading); !strings.HasPrefix(clean+"/", "/public/") {
					t.Fatalf("%q can be read as %q", p, clean)
				}
			}
			decoded, err := url.PathUnescape(p)
			if err != nil {
				return
			}
			p = decoded
		}
	})
}

func withoutParameters(p string) string {
	segments := strings.Split(p, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}

// No spelling of what only the gate says, and no cookie of its, is left.
func FuzzClean(f *testing.F) {
	f.Add("Sallyport_Identity", "a=b; __Host-sallyport-app=x")
	f.Add("X-FORWARDED-FOR", "__HOST-sallyport=1")
	f.Add("Remote.User", "=__Host-sallyport=1;;  ; c")
	f.Fuzz(func(t *testing.T, name, cookies string) {
		h := http.Header{name: {"forged"}, "Cookie": {cookies}}
		clean(h, map[string]string{"X-User": "email"})
		dropCookies(h)
		for left := range h {
			cgi := "HTTP_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(left))
			for _, ours := range []string{"HTTP_SALLYPORT_IDENTITY", "HTTP_X_USER", "HTTP_X_FORWARDED_FOR", "HTTP_REMOTE_USER"} {
				if cgi == ours {
					t.Fatalf("%q is left", left)
				}
			}
		}
		for _, line := range h["Cookie"] {
			for _, part := range strings.Split(line, ";") {
				if strings.HasPrefix(strings.ToLower(strings.TrimLeft(part, " \t=")), "__host-sallyport") {
					t.Fatalf("%q is left of %q", line, cookies)
				}
			}
		}
	})
}

// bytesConn reads from bytes, a few at a time.
type bytesConn struct {
	net.Conn
	r io.Reader
}

func (c bytesConn) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), 7)]) }

// What is looked at is passed on unchanged, and what net/http accepts with both a
// length and a coding is marked.
func FuzzFramed(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"\r\n\r\nGET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x81\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := newFramed(bytesConn{r: bytes.NewReader(in)})
		var out bytes.Buffer
		_, err := io.Copy(&out, c)
		if err != nil {
			t.Fatal(err)
		}
		rest, _ := c.rest()
		out.Write(rest)
		if !bytes.Equal(out.Bytes(), in) {
			t.Fatalf("%q went on as %q", in, out.Bytes())
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
		if err != nil {
			return
		}
		head, _, _ := bytes.Cut(in, []byte("\r\n\r\n"))
		lower := bytes.ToLower(head)
		if len(r.TransferEncoding) > 0 && bytes.Contains(lower, []byte("\ncontent-length:")) && !c.bad.Load() {
			t.Fatalf("%q is not marked", in)
		}
	})
}

func FuzzAccept(f *testing.F) {
	f.Add("text/html", "navigate", "wait=10")
	f.Fuzz(func(t *testing.T, accept, mode, prefer string) {
		r := &http.Request{Method: http.MethodPost, Header: http.Header{"Accept": {accept}, "Sec-Fetch-Mode": {mode}, "Prefer": {prefer}}}
		if navigates(r) {
			t.Fatal("a POST is sent elsewhere")
		}
		if wait := prefersWait(r.Header); wait < 0 || wait > maxWait*time.Second {
			t.Fatalf("waits %v", wait)
		}
	})
}

// A query that passes says of each parameter what the grant has, to whoever reads it as
// net/url does.
func FuzzQuery(f *testing.F) {
	f.Add("index=public-a&page=7")
	f.Fuzz(func(t *testing.T, query string) {
		if inQuery([]string{"index=public-*", "index=own", "page?=7"}, query) != nil {
			return
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q: %v", query, err)
		}
		index, page := values["index"], values["page"]
		if len(index) != 1 || index[0] != "own" && !strings.HasPrefix(index[0], "public-") || len(page) > 1 || len(page) == 1 && page[0] != "7" || len(values) > 2 || len(values) == 2 && len(page) == 0 {
			t.Fatalf("%q passes as %v", query, values)
		}
	})
}
