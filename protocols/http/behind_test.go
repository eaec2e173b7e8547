package http

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/internal/freeport"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// The gate behind nginx and behind HAProxy, as people run it.

const nginxConf = `
daemon off;
pid %[1]s/pid;
error_log stderr crit;
worker_processes 1;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  map $http_upgrade $upgrade_or_not { default upgrade; "" ""; }
  upstream gate { server %[3]s; keepalive 4; }
  server {
    listen %[2]s ssl http2;
    ssl_certificate %[1]s/pair.pem;
    ssl_certificate_key %[1]s/pair.pem;
    client_max_body_size 0;
    location / {
      proxy_pass http://gate;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $upgrade_or_not;
      proxy_read_timeout 1h;
    }
  }
}
`

const haproxyConf = `
global
  maxconn 200
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend people
  bind %[2]s ssl crt %[1]s/pair.pem alpn h2,http/1.1
  option forwardfor
  http-request set-header X-Forwarded-Proto https
  default_backend gate
backend gate
  server gate %[3]s
`

const haproxyTCP = `
global
  maxconn 200
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen people
  bind %[2]s
  server gate %[3]s send-proxy-v2
`

// freeAddr is a loopback address that nobody uses now.
func freeAddr(t testing.TB) string {
	t.Helper()
	port, err := freeport.Pick()
	must(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// before starts a proxy before the gate, without privileges, and ends it with the test.
func (w *world) before(t testing.TB, conf string, command ...string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "front")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "conf")
	must(t, os.WriteFile(filepath.Join(dir, "pair.pem"), w.pair, 0o600))
	must(t, os.WriteFile(file, fmt.Appendf(nil, conf, dir, w.addr, w.listen), 0o600))
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], file)...) //nolint:gosec // of this test
	cmd.Stdout, cmd.Stderr, cmd.Dir = &said, &said, dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		nobody, err := user.Lookup("nobody")
		must(t, err)
		uid, err := strconv.Atoi(nobody.Uid)
		must(t, err)
		gid, err := strconv.Atoi(nobody.Gid)
		must(t, err)
		for _, path := range []string{dir, file, filepath.Join(dir, "pair.pem")} {
			must(t, os.Chown(path, uid, gid))
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // of the system's own accounts
	}
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	eventually(t, command[0]+" does not listen", func() bool {
		conn, err := net.Dial("tcp", w.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// A front is a proxy before the gate.
type front struct {
	name    string
	conf    string
	command []string
	pass    bool
}

var fronts = []front{
	{"nginx", nginxConf, []string{"/usr/sbin/nginx", "-e", "stderr", "-c"}, false},
	{"haproxy", haproxyConf, []string{"/usr/sbin/haproxy", "-db", "-f"}, false},
}

// token is a password for alice's newest grant of the role user.
func (w *world) token(t testing.TB) string {
	t.Helper()
	by := w.SignIn(t, gatetest.Alice)
	r, err := w.Gate.Ask(t.Context(), by, here, session.NewRequest{Target: "app", Role: "user"})
	must(t, err)
	token, _, err := w.GrantToken(t.Context(), by, r.Grant)
	must(t, err)
	return token.Reveal()
}

// clientOf is the address that the record has of alice's newest session.
func (w *world) clientOf(t testing.TB) string {
	t.Helper()
	list, err := w.Sessions(t.Context(), w.SignIn(t, gatetest.Alice), session.Filter{User: gatetest.Alice.ID(), Limit: 1})
	must(t, err)
	if len(list) != 1 {
		t.Fatalf("sessions: %+v", list)
	}
	return list[0].Client.Address.Addr().String()
}

func addressPages(*world) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		_, _ = io.WriteString(w, "pages for "+host)
	})
}

// A client's address is what the trusted proxy says, in the record, at the pages and at
// the target, whatever the client says of itself; and without trust it is the proxy's.
func TestBehindAProxy(t *testing.T) {
	for _, f := range fronts {
		t.Run(f.name, func(t *testing.T) {
			app := newSeen()
			w := newWorld(t, app, options{front: freeAddr(t), trusted: []string{"127.0.0.1"}, pages: addressPages})
			w.before(t, f.conf, f.command...)
			c := w.from(t, "127.0.0.2")
			bearer := "Authorization: Bearer " + w.token(t)
			for _, forged := range []string{"X-Forwarded-For: 127.0.0.9", "X-Forwarded-For: garbage", "X_forwarded_for: 127.0.0.9", "Forwarded: for=127.0.0.9", "X-Real-Ip: 127.0.0.9", "Connection: X-Forwarded-For"} {
				ask(t, c, http.MethodGet, w.app+"/", bearer, forged).refused(t, http.StatusOK, "application")
				if got := app.last(t).Header.Get("X-Forwarded-For"); got != "127.0.0.2" {
					t.Errorf("with %s the target was told of %s", forged, got)
				}
				ask(t, c, http.MethodGet, w.gate+"/", forged).refused(t, http.StatusOK, "pages for 127.0.0.2")
			}
			if got := w.clientOf(t); got != "127.0.0.2" {
				t.Errorf("the record has %s", got)
			}
			// A proof that was shown from one address is none from another.
			browser, _ := w.browser(t, gatetest.Eve)
			walk(t, browser, w.app+"/")
			app.last(t)
			for _, cookie := range browser.Jar.Cookies(mustURL(t, w.app)) {
				if cookie.Name == visitorCookie {
					ask(t, w.from(t, "127.0.0.3"), http.MethodGet, w.app+"/", "Cookie: "+cookie.String(), "X-Forwarded-For: 127.0.0.1").refused(t, http.StatusUnauthorized, "Nothing is opened yet")
				}
			}
			app.none(t)
		})
	}
}

func TestBehindAProxyThatIsNotTrusted(t *testing.T) {
	for _, f := range fronts {
		w := newWorld(t, newSeen(), options{front: freeAddr(t), pages: addressPages})
		w.before(t, f.conf, f.command...)
		ask(t, w.from(t, "127.0.0.2"), http.MethodGet, w.gate+"/", "X-Forwarded-For: 127.0.0.9").refused(t, http.StatusOK, "pages for 127.0.0.1")
	}
}

// HAProxy passes TLS on: certificates reach the gate, and so does the address.
func TestBehindPassedOnTLS(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{front: freeAddr(t), pass: true, trusted: []string{"127.0.0.1/32"}, pages: addressPages})
	w.before(t, haproxyTCP, "/usr/sbin/haproxy", "-db", "-f")
	for _, two := range []bool{false, true} {
		c := w.client(t, two, w.certificate(t, w.SignIn(t, gatetest.Alice)))
		c.Transport.(*http.Transport).DialContext = w.from(t, "127.0.0.2").Transport.(*http.Transport).DialContext //nolint:forcetypeassert // ours
		ask(t, c, http.MethodGet, w.app+"/", "X-Forwarded-For: 127.0.0.9").refused(t, http.StatusOK, "application")
		if got := app.last(t).Header.Get("X-Forwarded-For"); got != "127.0.0.2" {
			t.Errorf("the target was told of %s", got)
		}
		if got := w.clientOf(t); got != "127.0.0.2" {
			t.Errorf("the record has %s", got)
		}
		ask(t, c, http.MethodGet, w.gate+"/").refused(t, http.StatusOK, "pages for 127.0.0.2")
	}
	// The header counts from the proxy alone, and the proxy must send one.
	dial := func(from string) net.Conn {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", w.listen)
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		return conn
	}
	forged := signature + "\x21\x11\x00\x0c" + "\x06\x06\x06\x06" + "\x7f\x00\x00\x01" + "\x00\x01\x00\x02"
	config := &tls.Config{RootCAs: w.roots, ServerName: "gate.localhost"}
	stranger := dial("127.0.0.2")
	_, err := io.WriteString(stranger, forged)
	must(t, err)
	if err := tls.Client(stranger, config).Handshake(); err == nil {
		t.Error("a stranger's PROXY header was believed")
	}
	if err := tls.Client(dial("127.0.0.2"), config).Handshake(); err != nil {
		t.Errorf("a stranger without one is refused: %v", err)
	}
	if err := tls.Client(dial("127.0.0.1"), config).Handshake(); err == nil {
		t.Error("the proxy's connection without a header was taken")
	}
}

// A trusted proxy's own certificate is nobody's, and where it does not say for whom it
// asks nothing is answered but whether the gate is well.
func TestTrustedProxyProvesNobody(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{trusted: []string{"127.0.0.1"}, pages: addressPages})
	alice := w.alice(t)
	ask(t, alice, http.MethodGet, w.app+"/", "X-Forwarded-For: 127.0.0.2").refused(t, http.StatusUnauthorized, "Nothing is opened yet")
	for _, headers := range [][]string{nil, {"X-Forwarded-For: "}, {"X-Forwarded-For: unknown"}, {"X-Forwarded-For: 127.0.0.2", "X-Forwarded-For: _x"}} {
		ask(t, alice, http.MethodGet, w.app+"/", headers...).refused(t, http.StatusBadRequest, "does not say which client")
		ask(t, alice, http.MethodGet, w.gate+"/", headers...).refused(t, http.StatusBadRequest, "does not say which client")
	}
	ask(t, alice, http.MethodGet, w.gate+"/", "X-Forwarded-For: 127.0.0.2", "X-Forwarded-Proto: http").refused(t, http.StatusBadRequest, "in plaintext")
	ask(t, alice, http.MethodGet, w.gate+"/healthz").refused(t, http.StatusOK, "pages for 127.0.0.1")
	app.none(t)
}

func TestForwardedAddresses(t *testing.T) {
	trusted, err := parseNetworks([]string{"10.0.0.0/8", "192.0.2.7", "2001:db8::/32"})
	must(t, err)
	for in, want := range map[string]string{
		"203.0.113.5":                                 "203.0.113.5",
		"203.0.113.5:4711":                            "203.0.113.5",
		"[2001:db9::1]:4711":                          "2001:db9::1",
		"::ffff:203.0.113.5":                          "203.0.113.5",
		"6.6.6.6, 203.0.113.5":                        "203.0.113.5",
		"6.6.6.6, 203.0.113.5, 10.1.1.1":              "203.0.113.5",
		"203.0.113.5,10.1.1.1 , 192.0.2.7,2001:db8::": "203.0.113.5",
		"10.1.1.1, 192.0.2.7":                         "10.1.1.1",
		"garbage, 203.0.113.5":                        "203.0.113.5",
		"203.0.113.5, garbage":                        "",
		"203.0.113.5, garbage, 10.1.1.1":              "",
		"203.0.113.5,":                                "",
		"":                                            "",
		"localhost":                                   "",
	} {
		got, err := trusted.forwarded(http.Header{"X-Forwarded-For": strings.SplitAfter(in, ", ")[:1:1]})
		if !strings.Contains(in, ", ") {
			if want == "" && err == nil || want != "" && (err != nil || got.String() != want) {
				t.Errorf("%q in one line: %v, %v", in, got, err)
			}
		}
		got, err = trusted.forwarded(http.Header{"X-Forwarded-For": strings.Split(in, ", ")})
		if want == "" && err == nil || want != "" && (err != nil || got.String() != want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, wrong := range []string{"", "everybody", "0.0.0.0/0", "::/0", "10.0.0.0/33", "::ffff:10.0.0.0/104", "fe80::1%eth0"} {
		if n, err := parseNetworks([]string{wrong}); err == nil {
			t.Errorf("%q is taken as %v", wrong, n)
		}
	}
}

// No client behind a trusted proxy names an address that the proxy did not write.
func FuzzForwarded(f *testing.F) {
	f.Add("6.6.6.6", "203.0.113.5")
	f.Add("a, b", "::1")
	f.Fuzz(func(t *testing.T, said, added string) {
		trusted := networks{netip.MustParsePrefix("10.0.0.0/8")}
		truth, err := netip.ParseAddr(added)
		if err != nil || trusted.has(truth) || truth.Zone() != "" {
			return
		}
		got, err := trusted.forwarded(http.Header{"X-Forwarded-For": {said + ", " + added}})
		if err != nil || got != truth.Unmap() {
			t.Fatalf("%v, %v", got, err)
		}
	})
}

func FuzzPreamble(f *testing.F) {
	f.Add([]byte(signature + "\x21\x11\x00\x0c\x06\x06\x06\x06\x7f\x00\x00\x01\x00\x01\x00\x02rest"))
	f.Add([]byte(signature + "\x20\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		addr, err := preamble(r)
		if err != nil {
			return
		}
		if size := 16 + int(in[14])<<8 + int(in[15]); r.Len() != len(in)-size {
			t.Fatalf("read %d of %d", len(in)-r.Len(), size)
		}
		if addr != nil && !addr.AddrPort().IsValid() {
			t.Fatalf("%v", addr)
		}
	})
}

// smuggles are requests that hide another one; every reader but the one that was meant
// to see it must not. HOST and TOKEN are filled in.
var smuggles = []string{
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nTransfer-Encoding: chunked\r\nContent-Length: LEN\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\nContent-Length: 0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: 0\r\nContent-Length: LEN\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN, 0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: +LEN\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length : LEN\r\n\r\nHIDDEN",
	"POST / HTTP/1.0\r\nHost: HOST\r\nTOKEN\r\nConnection: keep-alive\r\nContent-Length: LEN\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
	"GET / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: LEN\r\n\r\n0\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\nX: y\r\n\r\n\x00HIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000000000LEN\r\nHIDDEN\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nConnection: Content-Length\r\nContent-Length: LEN\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: LEN\r\n\r\n0\r\n\r\nHIDDEN",
	"OPTIONS * HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nContent-Length: LEN\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nExpect: 100-continue\r\nContent-Length: LEN\r\n\r\nHIDDEN",
	"POST / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nExpect: y 100-continue\r\nContent-Length: LEN\r\n\r\nHIDDEN",
}

// upgrades are followed by a request that is one of its own where nobody upgrades. It
// must not be one that the proxy took for bytes of a tunnel, and let through unseen.
var upgrades = []string{
	"GET / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nHIDDEN",
	"GET / HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\nHIDDEN",
}

// CL with TE and its relations, straight and through both proxies: what one request
// hides never becomes a request of its own at the target, and the next client on the
// proxy's connection gets its own answer.
func TestSmuggling(t *testing.T) {
	for _, f := range append([]front{{name: "straight"}}, fronts...) {
		t.Run(f.name, func(t *testing.T) {
			paths := make(chan string, 1000)
			o := options{extra: "websocket = true"}
			if f.conf != "" {
				o.front, o.trusted = freeAddr(t), []string{"127.0.0.1"}
			}
			w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				paths <- r.URL.Path + " for " + r.Header.Get("X-Forwarded-For")
				_, _ = io.WriteString(w, "answer to "+r.URL.Path)
			}), o)
			if f.conf != "" {
				w.before(t, f.conf, f.command...)
			}
			token := "Authorization: Bearer " + w.token(t)
			host := strings.TrimPrefix(w.app, "https://")
			hidden := "GET /smuggled HTTP/1.1\r\nHost: " + host + "\r\n" + token + "\r\nX-Forwarded-For: 127.0.0.9\r\n\r\n"
			victim := w.from(t, "127.0.0.2")
			pipelined := map[string]bool{"/smuggled for 127.0.0.2": true}
			for i, text := range slices.Concat(upgrades, smuggles) {
				if i == len(upgrades) {
					for range len(paths) {
						if path := <-paths; strings.HasPrefix(path, "/smuggled") && !pipelined[path] {
							t.Errorf("a request that the proxy did not see reached the target: %s", path)
						}
					}
				}
				size := strconv.Itoa(len(hidden))
				if strings.Contains(text, "\r\n0\r\n\r\nHIDDEN") {
					size = strconv.Itoa(len(hidden) + 5)
				}
				if strings.Contains(text, "000LEN") {
					size = strconv.FormatInt(int64(len(hidden)), 16)
				}
				w.send(t, strings.NewReplacer("HOST", host, "TOKEN", token, "LEN", size, "HIDDEN", hidden).Replace(text))
				want := fmt.Sprint("/victim/", i)
				if s := ask(t, victim, http.MethodGet, w.app+want, token); s.body != "answer to "+want {
					t.Errorf("after %q the next client got %d %q", text, s.status, s.body)
				}
			}
			close(paths)
			for path := range paths {
				if strings.HasPrefix(path, "/smuggled") {
					t.Error("a hidden request reached the target")
				}
			}
		})
	}
}

// send sends bytes over TLS and reads answers until there are no more.
func (w *world) send(t testing.TB, text string) {
	t.Helper()
	d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}, Config: &tls.Config{RootCAs: w.roots, ServerName: "app.localhost", NextProtos: []string{"http/1.1"}}}
	conn, err := d.DialContext(t.Context(), "tcp", w.addr)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(300*time.Millisecond))) // a server that waits for more is answer enough
	_, err = io.WriteString(conn, text)
	must(t, err)
	_, _ = io.Copy(io.Discard, conn)
}

// Websockets and event streams live and are cut behind both.
func TestLiveBehindAProxy(t *testing.T) {
	for _, f := range fronts {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, liveApp(t), options{front: freeAddr(t), trusted: []string{"127.0.0.1"}, extra: "websocket = true"})
			w.before(t, f.conf, f.command...)
			token := w.token(t)
			head := http.Header{"Authorization": {"Bearer " + token}, "Origin": {w.app}}
			d := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: w.roots}, HandshakeTimeout: 10 * time.Second, NetDialContext: w.from(t, "127.0.0.2").Transport.(*http.Transport).DialContext} //nolint:forcetypeassert // ours
			socket, _, err := d.DialContext(t.Context(), "wss"+strings.TrimPrefix(w.app, "https")+"/socket", head)
			must(t, err)
			defer socket.Close()
			must(t, socket.WriteMessage(websocket.TextMessage, []byte("hello")))
			if _, p, err := socket.ReadMessage(); err != nil || string(p) != "hello" {
				t.Fatalf("%q, %v", p, err)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.app+"/events", http.NoBody)
			must(t, err)
			r.Header.Set("Authorization", "Bearer "+token)
			res, err := w.from(t, "127.0.0.2").Do(r)
			must(t, err)
			defer res.Body.Close()
			in := bufio.NewReader(res.Body)
			line, err := in.ReadString('\n')
			if err != nil || line != "data: x\n" {
				t.Fatalf("%q, %v", line, err)
			}
			begun := w.end(t, gatetest.Alice)
			_, _, err = socket.ReadMessage()
			if closed, ok := err.(*websocket.CloseError); !ok || closed.Code != websocket.ClosePolicyViolation || !strings.Contains(closed.Text, "revoked by sam@example.com") { //nolint:errorlint // as it comes
				t.Errorf("closed with %v", err)
			}
			if _, err = io.Copy(io.Discard, in); err == nil {
				t.Error("the stream looks whole")
			}
			if took := time.Since(begun); took > soon {
				t.Errorf("cut after %v", took)
			}
		})
	}
}

// A socket that a proxy told of has the client's address everywhere.
func TestPreamble(t *testing.T) {
	for in, want := range map[string]string{
		signature + "\x21\x11\x00\x0c\x06\x06\x06\x06\x7f\x00\x00\x01\x10\x01\x00\x02":                                   "6.6.6.6:4097",
		signature + "\x21\x11\x00\x0f\x06\x06\x06\x06\x7f\x00\x00\x01\x10\x01\x00\x02\x04\x00\x00":                       "6.6.6.6:4097",
		signature + "\x21\x21\x00\x24" + strings.Repeat("\x20\x01", 8) + strings.Repeat("\x00", 16) + "\x10\x01\x00\x02": "[2001:2001:2001:2001:2001:2001:2001:2001]:4097",
		signature + "\x20\x00\x00\x00":                 "none",
		signature + "\x21\x11\x00\x04\x06\x06\x06\x06": "too short",
		signature + "\x21\x31\x00\x00":                 "no TCP client",
		signature + "\x11\x11\x00\x00":                 "version 2",
		signature + "\x21\x11\xff\xff":                 "version 2",
		"PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n":         "version 2",
		"GET / HTTP/1.1\r\n\r\n":                       "version 2",
		"":                                             "EOF",
	} {
		addr, err := preamble(strings.NewReader(in))
		got := "none"
		switch {
		case err != nil:
			got = err.Error()
		case addr != nil:
			got = addr.String()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	if !slices.Equal([]byte(signature), []byte{0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A}) {
		t.Error("the signature is another")
	}
}
