package http

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// soon is how long after the cut anything may still arrive: 250 ms, and what a test
// on a busy machine needs to notice.
const soon = time.Second

// live is an application with everything that lives long.
func liveApp(t testing.TB) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		socket, err := (&websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer socket.Close()
		for {
			kind, p, err := socket.ReadMessage()
			if err != nil {
				return
			}
			if string(p) == "flood" {
				for block := make([]byte, 100_000); ; {
					if socket.WriteMessage(websocket.BinaryMessage, block) != nil {
						return
					}
				}
			}
			if socket.WriteMessage(kind, p) != nil {
				return
			}
		}
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := io.WriteString(w, "data: x\n\n"); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	})
	mux.HandleFunc("/download", func(w http.ResponseWriter, _ *http.Request) {
		for block := make([]byte, 32<<10); ; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/upload", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/call", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write([]byte{0, 0, 0, 0, 0})
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "application") })
	return mux
}

// dial opens a websocket as somebody.
func (w *world) dial(t testing.TB, by identity.SignIn, path string, head http.Header) *websocket.Conn {
	t.Helper()
	d := websocket.Dialer{
		TLSClientConfig: &tls.Config{RootCAs: w.roots, Certificates: []tls.Certificate{w.certificate(t, by)}}, HandshakeTimeout: 10 * time.Second,
		NetDialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, w.addr)
		},
	}
	socket, res, err := d.DialContext(t.Context(), "wss"+strings.TrimPrefix(w.app, "https")+path, head)
	if err != nil {
		body := ""
		if res != nil {
			b, _ := io.ReadAll(res.Body)
			body = string(b)
		}
		t.Fatalf("%v: %s", err, body)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return socket
}

func TestCutWebsocket(t *testing.T) {
	w := newWorld(t, liveApp(t), options{extra: "websocket = true"})
	for _, flood := range []bool{false, true} {
		alice := w.SignIn(t, gatetest.Alice)
		socket := w.dial(t, alice, "/socket", nil)
		must(t, socket.WriteMessage(websocket.TextMessage, []byte("hello")))
		if _, p, err := socket.ReadMessage(); err != nil || string(p) != "hello" {
			t.Fatalf("%q, %v", p, err)
		}
		if flood {
			must(t, socket.WriteMessage(websocket.TextMessage, []byte("flood")))
		}
		begun := w.end(t, gatetest.Alice)
		var err error
		for err == nil {
			_, _, err = socket.ReadMessage()
		}
		if took := time.Since(begun); took > soon {
			t.Errorf("cut after %v", took)
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.ClosePolicyViolation || !strings.Contains(closed.Text, "your access was revoked by sam@example.com") {
			t.Errorf("flood %v: closed with %v", flood, err)
		}
		ask(t, w.client(t, false, w.certificate(t, alice)), http.MethodGet, w.app+"/") // is another certificate, so it is not told
	}
}

func TestCutStreams(t *testing.T) {
	w := newWorld(t, liveApp(t), options{})
	for _, path := range []string{"/events", "/download"} {
		for _, two := range []bool{false, true} {
			cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
			c := w.client(t, two, cert)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.app+path, http.NoBody)
			must(t, err)
			res, err := c.Do(r)
			must(t, err)
			buf := make([]byte, 4<<10)
			_, err = io.ReadFull(res.Body, buf[:9])
			must(t, err)
			begun := w.end(t, gatetest.Alice)
			for err == nil {
				_, err = res.Body.Read(buf)
			}
			took := time.Since(begun)
			_ = res.Body.Close()
			if took > soon || errors.Is(err, io.EOF) {
				t.Errorf("%s with HTTP/%d: ended after %v with %v", path, res.ProtoMajor, took, err)
			}
			// The next request is told, and the one after that may ask again.
			ask(t, c, http.MethodGet, w.app+"/", html).refused(t, http.StatusForbidden, "Your access was revoked by sam@example.com")
			ask(t, c, http.MethodGet, w.app+"/").refused(t, http.StatusOK, "application")
		}
	}
}

// pours is an application that sends without end, and counts what it got rid of.
type pours struct{ sent atomic.Int64 }

func (p *pours) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	for block := make([]byte, 32<<10); ; {
		n, err := w.Write(block)
		if p.sent.Add(int64(n)); err != nil {
			return
		}
	}
}

// stalled waits until nothing goes on any more, because somebody takes nothing.
func (p *pours) stalled(t testing.TB) {
	t.Helper()
	last, since := int64(0), time.Now()
	eventually(t, "the application goes on sending", func() bool {
		if now := p.sent.Load(); now != last || now == 0 {
			last, since = now, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	})
}

// A client that takes nothing is no reason to wait.
func TestCutSlowReader(t *testing.T) {
	app := &pours{}
	w := newWorld(t, app, options{})
	alice := w.SignIn(t, gatetest.Alice)
	for _, two := range []bool{false, true} {
		c := w.client(t, two, w.certificate(t, alice))
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.app+"/", http.NoBody)
		must(t, err)
		res, err := c.Do(r)
		must(t, err)
		app.stalled(t)
		begun := w.end(t, gatetest.Alice)
		eventually(t, "the session does not end", func() bool {
			list, err := w.Sessions(t.Context(), alice, session.Filter{State: "live"})
			must(t, err)
			return len(list) == 0
		})
		if took := time.Since(begun); took > time.Second {
			t.Errorf("ended after %v", took)
		}
		_ = res.Body.Close()
	}
}

// What has had no answer yet gets the sentence as its answer.
func TestCutBeforeTheAnswer(t *testing.T) {
	asked, ended, stop := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w := newWorld(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		select {
		case <-r.Context().Done():
			close(ended)
		case <-stop:
		}
	}), options{})
	alice := w.SignIn(t, gatetest.Alice)
	c := w.client(t, false, w.certificate(t, alice))
	answer := make(chan said, 1)
	go func() {
		s, err := try(t, c, http.MethodGet, w.app+"/slow")
		if err != nil {
			t.Error(err)
		}
		answer <- s
	}()
	select {
	case <-asked:
	case <-time.After(20 * time.Second):
		t.Fatal("the target is not asked")
	}
	w.end(t, gatetest.Alice)
	select {
	case s := <-answer:
		s.refused(t, http.StatusForbidden, "Your access was revoked by sam@example.com")
	case <-time.After(20 * time.Second):
		t.Fatal("no answer comes")
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the target is still asked")
	}
	close(stop)
}

// A gRPC call ends with a status of its own.
func TestCutCall(t *testing.T) {
	w := newWorld(t, liveApp(t), options{tls: true, extra: "http2 = true"})
	c := w.client(t, true, w.certificate(t, w.SignIn(t, gatetest.Alice)))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.app+"/call", http.NoBody)
	must(t, err)
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	res, err := c.Do(r)
	must(t, err)
	defer res.Body.Close()
	var first [5]byte
	_, err = io.ReadFull(res.Body, first[:])
	must(t, err)
	begun := w.end(t, gatetest.Alice)
	_, err = io.Copy(io.Discard, res.Body)
	if took := time.Since(begun); err != nil || took > soon {
		t.Errorf("%v after %v", err, took)
	}
	if res.Trailer.Get("Grpc-Status") != "7" || !strings.Contains(res.Trailer.Get("Grpc-Message"), "revoked") {
		t.Errorf("ended with %v", res.Trailer)
	}
}

// Signing out ends what the sign-in proved, whoever's grant it is under.
func TestCutBySigningOut(t *testing.T) {
	w := newWorld(t, liveApp(t), options{})
	browser, by := w.browser(t, gatetest.Alice)
	other := w.SignIn(t, gatetest.Alice)
	_, err := w.Gate.Ask(t.Context(), other, here, session.NewRequest{Target: "app", Role: "user"})
	must(t, err)
	if s, _ := walk(t, browser, w.app+"/"); s.body != "application" {
		t.Fatalf("%d %s", s.status, s.body)
	}
	must(t, w.SignOut(t.Context(), by.ID, "signed out"))
	eventually(t, "the session goes on", func() bool {
		list, err := w.Sessions(t.Context(), other, session.Filter{State: "live"})
		must(t, err)
		return len(list) == 0
	})
	ask(t, browser, http.MethodGet, w.app+"/").refused(t, http.StatusForbidden, "You are signed out")
	s := ask(t, browser, http.MethodGet, w.app+"/", html) // the page tells once
	s.refused(t, http.StatusForbidden, "You are signed out")
	if s := ask(t, browser, http.MethodGet, w.app+"/", html); s.status != http.StatusSeeOther {
		t.Errorf("got %d %s", s.status, s.body)
	}
}

// A frame that comes together with the handshake is not lost.
func TestEarlyFrame(t *testing.T) {
	w := newWorld(t, liveApp(t), options{extra: "websocket = true"})
	cert := w.certificate(t, w.SignIn(t, gatetest.Alice))
	conn, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: w.roots, ServerName: "app.localhost", Certificates: []tls.Certificate{cert}})
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	frame := "\x81\x82\x00\x00\x00\x00hi"
	_, err = fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n%s",
		strings.TrimPrefix(w.app, "https://"), frame)
	must(t, err)
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	must(t, err)
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	echo := make([]byte, 4)
	_, err = io.ReadFull(in, echo)
	must(t, err)
	if string(echo) != "\x81\x02hi" {
		t.Errorf("got %q", echo)
	}
}

// Uploads go through whatever their size, and are counted.
func TestUploadAndRecord(t *testing.T) {
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = fmt.Fprint(w, n, " ", r.Trailer.Get("X-End"), r.Trailer.Get("Sallyport_identity"))
		w.Header().Set("X-Sum", "sum")
	})
	w := newWorld(t, app, options{extra: `record { secrets = ["key"] }`})
	by := w.SignIn(t, gatetest.Alice)
	c := w.client(t, false, w.certificate(t, by))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.app+"/up?key=secret&a=b", io.LimitReader(zeros{}, 64<<20))
	must(t, err)
	r.Trailer = http.Header{"X-End": {"end"}, "Sallyport_identity": {"forged"}}
	res, err := c.Do(r)
	must(t, err)
	body, err := io.ReadAll(res.Body)
	must(t, err)
	_ = res.Body.Close()
	if string(body) != fmt.Sprint(64<<20, " end") || res.Trailer.Get("X-Sum") != "sum" {
		t.Errorf("answered %q, %v", body, res.Trailer)
	}
	w.end(t, gatetest.Alice)
	record := w.record(t, by)
	if got := record.requests; len(got) != 1 || got[0].Method != "POST" || got[0].Path != "/up?key=(hidden)&a=b" {
		t.Errorf("recorded %+v", got)
	}
	if got := record.done; len(got) != 1 || got[0].Sent != 64<<20 || got[0].Bytes != int64(len(body)) || got[0].Status != 200 || got[0].Cut {
		t.Errorf("recorded %+v", got)
	}
	w.Verify(t)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A request is on the record before it reaches the target.
func TestRecordedBefore(t *testing.T) {
	var w *world
	app := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		list, _ := w.Recordings.List(context.Background(), 10)
		for _, recording := range list {
			for line, err := range recording.Lines(context.Background()) {
				if err == nil && strings.Contains(string(line.Raw), r.URL.Path) {
					_, _ = io.WriteString(rw, "recorded")
					return
				}
			}
		}
	})
	w = newWorld(t, app, options{})
	ask(t, w.alice(t), http.MethodGet, w.app+"/unlikely").refused(t, http.StatusOK, "recorded")
}

// A read of an upload that sets its own deadline in the moment of the cut leaves none in the
// future: net/http takes what is sent after it, up to 256 KiB, before it lets an answer go.
func TestUploadStaysStopped(t *testing.T) {
	in, out := io.Pipe()
	stopped, done := make(chan struct{}), make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &conn{h: &handler{limits: limits{stall: time.Minute}}}
		u := &upload{ReadCloser: r.Body, from: r, a: &answer{ResponseWriter: w, rc: http.NewResponseController(w), conn: c}}
		u.stop()
		_, err := u.Read(make([]byte, 1))
		if !errors.Is(err, errCut) {
			t.Errorf("a read after the cut says %v", err)
		}
		close(stopped)
		_, err = r.Body.Read(make([]byte, 1))
		done <- err
	}))
	t.Cleanup(srv.Close)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, in)
	must(t, err)
	go func() {
		<-stopped
		_, _ = out.Write([]byte("more")) // the connection may be closed already
		_ = out.Close()
	}()
	if res, err := srv.Client().Do(r); err == nil {
		_ = res.Body.Close()
	}
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the next read says %v", err)
	}
}

// Who sends a body on may read when net/http has the request back, as its own transport does
// for a moment: that is an error, and no panic, which would end the gate.
func TestUploadIsReadAfterItsRequest(t *testing.T) {
	uploads := make(chan *upload, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &conn{h: &handler{limits: limits{stall: time.Minute}}}
		u := &upload{ReadCloser: r.Body, from: r, a: &answer{ResponseWriter: w, rc: http.NewResponseController(w), conn: c, two: true}}
		u.a.finish()
		uploads <- u
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	in, out := io.Pipe()
	defer out.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, in)
	must(t, err)
	res, err := srv.Client().Do(r)
	must(t, err)
	_ = res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Fatalf("the server speaks %s", res.Proto)
	}
	u := <-uploads
	srv.Close() // the handler is over
	if n, err := u.Read(make([]byte, 1)); err == nil {
		t.Errorf("it read %d bytes", n)
	}
}
