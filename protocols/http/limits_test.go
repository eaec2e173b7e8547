package http

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sallyport/sallyport/internal/contain"
	"github.com/sallyport/sallyport/internal/gatetest"
)

// short are limits that a test can wait for; what is not tried stays long.
func short(head, idle, stall bool) limits {
	l := limits{headWait, idleWait, stallWait}
	for _, part := range []struct {
		is   bool
		wait *time.Duration
	}{{head, &l.head}, {idle, &l.idle}, {stall, &l.stall}} {
		if part.is {
			*part.wait = 200 * time.Millisecond
		}
	}
	return l
}

// open dials the gate for the application's name.
func (w *world) open(t testing.TB, protocol string, certs ...tls.Certificate) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: w.roots, ServerName: "app.localhost", Certificates: certs, NextProtos: []string{protocol}})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

// closed reads to the end, and fails where the gate does not close the connection.
func closed(t testing.TB, what string, conn net.Conn) []byte {
	t.Helper()
	var timeout net.Error
	said, err := io.ReadAll(conn)
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%s: the connection stays open, after %q", what, said)
	}
	return said
}

// Who is slow with a head, with a body that nobody wants, or with the next request, is
// not waited for.
func TestSlowClients(t *testing.T) {
	app := newSeen()
	host := func(w *world) string { return "Host: " + strings.TrimPrefix(w.app, "https://") + "\r\n" }
	t.Run("head", func(t *testing.T) {
		w := newWorld(t, app, options{limits: short(true, true, false)})
		for _, text := range []string{"", "GET / HT", "GET / HTTP/1.1\r\n" + host(w), "\r\n"} {
			conn := w.open(t, "http/1.1")
			_, err := io.WriteString(conn, text)
			must(t, err)
			closed(t, fmt.Sprintf("a head that stops after %q", text), conn)
		}
		conn := w.open(t, "h2")
		_, err := io.WriteString(conn, http2.ClientPreface)
		must(t, err)
		framer := http2.NewFramer(conn, conn)
		must(t, framer.WriteSettings())
		must(t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})) // and no CONTINUATION
		closed(t, "a head in two frames, of which one never comes", conn)
	})
	t.Run("idle", func(t *testing.T) {
		w := newWorld(t, app, options{limits: short(false, true, false)})
		conn := w.open(t, "http/1.1")
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\n"+host(w)+"\r\n")
		must(t, err)
		if said := closed(t, "nothing asked any more", conn); !bytes.HasPrefix(said, []byte("HTTP/1.1 401")) {
			t.Errorf("answered %q", said)
		}
		conn = w.open(t, "h2")
		_, err = io.WriteString(conn, http2.ClientPreface)
		must(t, err)
		must(t, http2.NewFramer(conn, conn).WriteSettings())
		closed(t, "nothing asked at all", conn)
	})
	t.Run("body", func(t *testing.T) {
		w := newWorld(t, app, options{limits: short(false, false, true)})
		cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
		for _, certs := range [][]tls.Certificate{nil, {cert}} {
			conn := w.open(t, "http/1.1", certs...)
			_, err := io.WriteString(conn, "POST / HTTP/1.1\r\n"+host(w)+"Content-Length: 100\r\n\r\nx")
			must(t, err)
			closed(t, "a body that stands still", conn)
		}
	})
}

// Who takes nothing of an answer is not waited for, and the target is not either.
func TestSlowReader(t *testing.T) {
	ended := make(chan struct{}, 2)
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for block := make([]byte, 32<<10); ; {
			if _, err := w.Write(block); err != nil {
				ended <- struct{}{}
				return
			}
		}
	}), options{limits: short(false, false, true)})
	for _, two := range []bool{false, true} {
		c := w.client(t, two, w.certificate(t, w.SignIn(t, gatetest.Alice)))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.app+"/", http.NoBody)
		must(t, err)
		res, err := c.Do(r)
		must(t, err)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Errorf("HTTP/%d: the target goes on", res.ProtoMajor)
		}
		_ = res.Body.Close()
	}
}

func TestLongHead(t *testing.T) {
	app := newSeen()
	w := newWorld(t, app, options{})
	cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
	head := "GET / HTTP/1.1\r\nHost: " + strings.TrimPrefix(w.app, "https://") + "\r\nX-Long: "
	w.raw(t, "app.localhost", head+strings.Repeat("x", maxHead/2)+"\r\n\r\n", cert).refused(t, http.StatusOK, "application")
	app.last(t)
	if s := w.raw(t, "app.localhost", head+strings.Repeat("x", maxHead+8<<10)+"\r\n\r\n", cert); s.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d %s", s.status, s.body)
	}
	app.none(t)
}

// One person's requests under way are bounded over all their sessions, and others' are
// not held up by them.
func TestRequestsPerUser(t *testing.T) {
	hang := make(chan struct{})
	var under atomic.Int64
	w := newWorld(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			under.Add(1)
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}
	}), options{perUser: 4})
	by := w.SignIn(t, gatetest.Alice)
	clients := []*http.Client{w.client(t, false, w.certificate(t, by)), w.client(t, true, w.certificate(t, by))}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() { _, _ = try(t, clients[i%2], http.MethodGet, w.app+"/hang") })
	}
	eventually(t, "the requests do not come", func() bool { return under.Load() == 4 })
	for _, c := range append(clients, w.client(t, false, w.certificate(t, by))) {
		s := ask(t, c, http.MethodGet, w.app+"/")
		s.refused(t, http.StatusTooManyRequests, "Too many of your requests are under way")
		if s.head.Get("Retry-After") != "1" {
			t.Errorf("told %v", s.head)
		}
	}
	if s := ask(t, w.client(t, false, w.certificate(t, w.SignIn(t, gatetest.Eve))), http.MethodGet, w.app+"/"); s.status != http.StatusOK {
		t.Errorf("somebody else got %d %s", s.status, s.body)
	}
	close(hang)
	all.Wait()
	if s := ask(t, clients[0], http.MethodGet, w.app+"/"); s.status != http.StatusOK {
		t.Errorf("got %d %s once nothing is under way", s.status, s.body)
	}
}

// A client that begins requests and takes them back at once (CVE-2023-44487) has no more
// than maxStreams of them at the target, and loses its connection; others notice nothing.
func TestRapidReset(t *testing.T) {
	var now, most atomic.Int64
	w := newWorld(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			<-r.Context().Done()
		}
	}), options{})
	by := w.SignIn(t, gatetest.Alice)
	conn := w.open(t, "h2", w.certificate(t, by))
	_, err := io.WriteString(conn, http2.ClientPreface)
	must(t, err)
	out := bufio.NewWriter(conn)
	framer := http2.NewFramer(out, conn)
	must(t, framer.WriteSettings())
	var block bytes.Buffer
	heads := hpack.NewEncoder(&block)
	gone := make(chan error, 1)
	go func() {
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				gone <- err
				return
			}
			if away, ok := f.(*http2.GoAwayFrame); ok && away.ErrCode != http2.ErrCodeNo {
				gone <- nil
				return
			}
		}
	}()
	sent := 0
	for id := uint32(1); id < 200_000; id += 2 {
		block.Reset()
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", strings.TrimPrefix(w.app, "https://")}, {":path", "/slow"}} {
			must(t, heads.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
		}
		if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}) != nil ||
			framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil || out.Flush() != nil {
			break
		}
		sent++
	}
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Errorf("the connection stays open after %d resets", sent)
	}
	if most.Load() > maxStreams {
		t.Errorf("%d requests were at the target at once", most.Load())
	}
	if s := ask(t, w.client(t, true, w.certificate(t, by)), http.MethodGet, w.app+"/"); s.status != http.StatusOK {
		t.Errorf("another connection got %d %s", s.status, s.body)
	}
	eventually(t, "requests stay at the target", func() bool { return now.Load() == 0 })
}

// The gate's own pages and API answer while a target hangs, while one is down, and while
// one says whatever would take the gate's memory or time.
func TestPagesWhileATargetIsHostile(t *testing.T) {
	hostile := func(in *bufio.Reader, conn net.Conn) {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		forever := func(text string) {
			for {
				if _, err := io.WriteString(conn, text); err != nil {
					return
				}
			}
		}
		const ok = "HTTP/1.1 200 OK\r\n"
		switch r.URL.Path {
		case "/hang":
			_, _ = io.Copy(io.Discard, in)
		case "/garbage":
			forever("\x00\xff<garbage>")
		case "/head":
			_, _ = io.WriteString(conn, ok)
			forever("X-More: " + strings.Repeat("x", 1000) + "\r\n")
		case "/large": // and well-formed
			_, _ = io.WriteString(conn, ok+strings.Repeat("X-More: "+strings.Repeat("x", 1000)+"\r\n", 2*maxAnswerHead/1000)+"Content-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, in)
		case "/line":
			forever(strings.Repeat("x", 1000))
		case "/hints":
			forever("HTTP/1.1 103 Early Hints\r\nX-More: " + strings.Repeat("x", 1000) + "\r\n\r\n")
		case "/trailer":
			_, _ = io.WriteString(conn, ok+"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
			forever("X-More: " + strings.Repeat("x", 1000) + "\r\n")
		case "/chunk":
			_, _ = io.WriteString(conn, ok+"Transfer-Encoding: chunked\r\n\r\n1;")
			forever(strings.Repeat("x", 1000))
		case "/away":
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				hostile(bufio.NewReader(conn), conn)
			}()
		}
	}()
	w := newWorld(t, http.NotFoundHandler(), options{address: l.Addr().String(), pages: func(*world) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "pages") })
	}})
	cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
	ctx, cancel := context.WithCancel(t.Context())
	var hung sync.WaitGroup
	for range 50 {
		c := w.client(t, false, cert)
		hung.Go(func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.app+"/hang", http.NoBody)
			if err == nil {
				_, _ = c.Do(r) //nolint:bodyclose // it never comes
			}
		})
	}
	pages := w.client(t, false)
	for path, status := range map[string]int{"/garbage": 502, "/head": 502, "/large": 502, "/line": 502, "/hints": 502, "/trailer": 200, "/chunk": 200, "/away": 502} {
		c := w.client(t, false, cert)
		within, stop := context.WithTimeout(t.Context(), 20*time.Second)
		r, err := http.NewRequestWithContext(within, http.MethodGet, w.app+path, http.NoBody)
		must(t, err)
		res, err := c.Do(r)
		if err == nil {
			if _, err := io.Copy(io.Discard, res.Body); res.StatusCode != status || status == 200 && err == nil {
				t.Errorf("%s: %d, then %v", path, res.StatusCode, err)
			}
			_ = res.Body.Close()
		} else if status != 200 { // of those the answer breaks off, maybe within its head
			t.Errorf("%s: %v", path, err)
		}
		stop()
		begun := time.Now()
		ask(t, pages, http.MethodGet, w.gate+"/").refused(t, http.StatusOK, "pages")
		ask(t, w.client(t, false, cert), http.MethodGet, w.other+"/").refused(t, http.StatusBadGateway, "cannot be reached now")
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: the pages answered after %v", path, took)
		}
	}
	cancel()
	hung.Wait()
}

// What net/http reads in goroutines of its own would end the gate by a panic.
func TestPanicInAReadIsItsError(t *testing.T) {
	bug := bytesConn{r: io.MultiReader(bytes.NewReader([]byte("GET /")), nil)}
	for name, r := range map[string]io.Reader{"a connection": newFramed(bug), "a body": contained{bug, nil}} {
		t.Run(name, func(t *testing.T) {
			var panicked *contain.Error
			if _, err := io.Copy(io.Discard, r); !errors.As(err, &panicked) {
				t.Errorf("the read ends with %v", err)
			}
		})
	}
}
