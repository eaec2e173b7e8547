//go:build !race

package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/gatetest"
	"github.com/sallyport/sallyport/session"
)

// cutWithin is how long after its cause the gate may still send a byte.
const cutWithin = 250 * time.Millisecond

// lateness is by how much this machine runs its goroutines late, until it is stopped:
// what the test allows beyond the gate's own time.
func lateness() (stop func() time.Duration) {
	quit, most := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var late time.Duration
		for before := time.Now(); ; {
			select {
			case <-tick.C:
				late, before = max(late, time.Since(before)-5*time.Millisecond), time.Now()
			case <-quit:
				most <- late
				return
			}
		}
	}()
	return func() time.Duration { close(quit); return <-most }
}

// A stream is one way to be in the middle of something. open returns once it flows; end
// waits for its end and says what is wrong with it.
type stream struct {
	name string
	two  bool
	open func(t *testing.T, w *world, c *http.Client, by identity.SignIn) (end func(words string, stopping bool) error)
}

// reads opens an answer without end, which must end as one that is not the whole.
func reads(path string) func(*testing.T, *world, *http.Client, identity.SignIn) func(string, bool) error {
	return func(t *testing.T, w *world, c *http.Client, _ identity.SignIn) func(string, bool) error {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.app+path, http.NoBody)
		must(t, err)
		res, err := c.Do(r)
		must(t, err)
		buf := make([]byte, 4<<10)
		_, err = io.ReadFull(res.Body, buf[:9])
		must(t, err)
		done := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			done <- err
		}()
		return func(string, bool) error {
			if err := <-done; err == nil {
				return errors.New("it looks whole")
			}
			return nil
		}
	}
}

// sends uploads without end, or one that stands still, and must be answered with the sentence.
func sends(still bool) func(*testing.T, *world, *http.Client, identity.SignIn) func(string, bool) error {
	return func(t *testing.T, w *world, c *http.Client, _ identity.SignIn) func(string, bool) error {
		t.Helper()
		in, out := io.Pipe()
		t.Cleanup(func() { _ = in.Close() })
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.app+"/upload", in)
		must(t, err)
		done := make(chan error, 1)
		var s said
		go func() {
			res, err := c.Do(r)
			if err == nil {
				var body []byte
				body, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
				s = said{res.StatusCode, res.Header, string(body)}
			}
			done <- err
		}()
		block := make([]byte, 1<<10)
		for range 10 {
			_, err := out.Write(block)
			must(t, err)
		}
		if !still {
			go func() {
				for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
					if _, err := out.Write(block); err != nil {
						tick.Stop()
						return
					}
				}
			}()
		}
		return func(words string, stopping bool) error {
			select {
			case err := <-done:
				if err != nil {
					return err
				}
			case <-time.After(10 * time.Second):
				return errors.New("no answer comes")
			}
			want := http.StatusForbidden
			if stopping {
				want = http.StatusServiceUnavailable
			}
			if s.status != want || !strings.Contains(strings.ToLower(s.body), words) {
				return fmt.Errorf("answered %d %s", s.status, s.body)
			}
			return nil
		}
	}
}

// talks is a websocket that must be closed with 1008 and the sentence.
func talks(flood bool) func(*testing.T, *world, *http.Client, identity.SignIn) func(string, bool) error {
	return func(t *testing.T, w *world, c *http.Client, _ identity.SignIn) func(string, bool) error {
		t.Helper()
		transport := c.Transport.(*http.Transport) //nolint:forcetypeassert // ours
		d := websocket.Dialer{TLSClientConfig: transport.TLSClientConfig, NetDialContext: transport.DialContext, HandshakeTimeout: 20 * time.Second}
		socket, res, err := d.DialContext(t.Context(), "wss"+strings.TrimPrefix(w.app, "https")+"/socket", nil)
		must(t, err)
		_ = res.Body.Close()
		t.Cleanup(func() { _ = socket.Close() })
		words := "hello"
		if flood {
			words = "flood"
		}
		must(t, socket.WriteMessage(websocket.TextMessage, []byte(words)))
		_, _, err = socket.ReadMessage()
		must(t, err)
		done := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				_, _, err = socket.ReadMessage()
			}
			done <- err
		}()
		return func(words string, _ bool) error {
			err := <-done
			var closed *websocket.CloseError
			if !errors.As(err, &closed) || closed.Code != websocket.ClosePolicyViolation || !strings.Contains(closed.Text, words) {
				return err
			}
			return nil
		}
	}
}

// calls is a gRPC call that must end with a status and the sentence.
func calls(path string) func(*testing.T, *world, *http.Client, identity.SignIn) func(string, bool) error {
	return func(t *testing.T, w *world, c *http.Client, _ identity.SignIn) func(string, bool) error {
		t.Helper()
		in, out := io.Pipe() // a client that may still say something
		t.Cleanup(func() { _ = out.Close() })
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.app+path, in)
		must(t, err)
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("Te", "trailers")
		done := make(chan error, 1)
		var head http.Header
		begun := make(chan struct{})
		go func() {
			res, err := c.Do(r)
			if err == nil {
				if path == "/call" {
					_, err = io.ReadFull(res.Body, make([]byte, 5))
					close(begun)
				}
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
				}
				_ = res.Body.Close()
				if head = res.Trailer; head.Get("Grpc-Status") == "" {
					head = res.Header
				}
			}
			done <- err
		}()
		_, err = out.Write([]byte{0, 0, 0, 0, 0})
		must(t, err)
		if path == "/call" {
			<-begun
		}
		return func(words string, stopping bool) error {
			if err := <-done; err != nil {
				return err
			}
			want := "7"
			if stopping {
				want = "14"
			}
			if head.Get("Grpc-Status") != want || !strings.Contains(head.Get("Grpc-Message"), strings.ReplaceAll(words, " ", "%20")) {
				return fmt.Errorf("ended with %v", head)
			}
			return nil
		}
	}
}

var streams = []stream{
	{"download", false, reads("/download")},
	{"download", true, reads("/download")},
	{"events", false, reads("/events")},
	{"events", true, reads("/events")},
	{"upload", false, sends(false)},
	{"upload", true, sends(false)},
	{"upload that stands still", false, sends(true)},
	{"upload that stands still", true, sends(true)},
	{"websocket", false, talks(false)},
	{"websocket that floods", false, talks(true)},
	{"call of one answer", true, calls("/slow")},
	{"call with a stream", true, calls("/call")},
}

// Whatever ends a grant or a session, nothing of it gets a byte more than 250 ms later,
// and everything ends as its client expects to be told.
func TestCut(t *testing.T) {
	for _, cause := range []struct {
		name, words string
		term        time.Duration // of the grant; 0: as the rule has it
		cut         func(ctx context.Context, w *world, sam identity.SignIn, live session.Record) error
	}{
		{"grant's end", "your access to app ended at", 4 * time.Second, nil},
		{"revoke", "your access was revoked by sam@example.com", 0, func(ctx context.Context, w *world, sam identity.SignIn, live session.Record) error {
			return w.Revoke(ctx, sam, live.Grant, "")
		}},
		{"kill", "this session was ended by sam@example.com", 0, func(ctx context.Context, w *world, sam identity.SignIn, live session.Record) error {
			return w.Kill(ctx, sam, live.ID, "")
		}},
		{"policy change", "the policy changed", 0, nil},
		{"user disabled", "your account was disabled by sam@example.com", 0, func(ctx context.Context, w *world, sam identity.SignIn, _ session.Record) error {
			return w.Disable(ctx, sam, gatetest.Alice.ID(), "")
		}},
		{"gate stops", "the gate is stopping", 0, func(ctx context.Context, w *world, _ identity.SignIn, _ session.Record) error {
			return w.Stop(ctx, 0)
		}},
	} {
		t.Run(cause.name, func(t *testing.T) {
			m := &meter{last: map[string]*atomic.Int64{}}
			w := newWorld(t, liveApp(t), options{tls: true, extra: "http2 = true\nwebsocket = true", meter: m})
			by, sam := w.SignIn(t, gatetest.Alice), w.SignIn(t, gatetest.Sam)
			cut := cause.cut
			if cause.name == "policy change" {
				p := w.Sign(t, strings.ReplaceAll(rules, `role    = ["user"]`, `role    = ["reader"]`))
				cut = func(ctx context.Context, w *world, _ identity.SignIn, _ session.Record) error {
					return w.Reload(ctx, p, audit.Event{Type: audit.PolicyLoaded, Actor: "gate"})
				}
			}
			request, err := w.Gate.Ask(t.Context(), by, here, session.NewRequest{Target: "app", Role: "user", Duration: cause.term})
			must(t, err)
			grant, err := w.Grant(t.Context(), by, request.Grant)
			must(t, err)
			cert := w.certificate(t, by)
			names, ends := map[string]string{}, make([]func(string, bool) error, len(streams))
			for i, s := range streams {
				c := w.client(t, s.two, cert)
				transport := c.Transport.(*http.Transport) //nolint:forcetypeassert // ours
				dial := transport.DialContext
				transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := dial(ctx, network, address)
					if err == nil {
						names[conn.LocalAddr().String()] = fmt.Sprintf("%s (HTTP/2 %v)", s.name, s.two)
					}
					return conn, err
				}
				ends[i] = s.open(t, w, c, by)
			}
			list, err := w.Sessions(t.Context(), by, session.Filter{State: "live"})
			must(t, err)
			if len(list) != 1 {
				t.Fatalf("%d sessions live", len(list))
			}
			late, begun, done := lateness(), grant.Ends, make(chan error, 1)
			if cut == nil {
				if left := time.Until(grant.Ends); left < 0 {
					t.Fatalf("the streams were begun %v too late", -left)
				}
				done <- nil
			} else {
				begun = time.Now()
				before := w.Policy()
				go func() { done <- cut(context.WithoutCancel(t.Context()), w, sam, list[0]) }()
				if cause.name == "policy change" { // it is one once the new one decides, behind its own entry
					eventually(t, "the policy does not change", func() bool { return w.Policy() != before })
					begun = time.Now()
				}
			}
			for i, end := range ends {
				if err := end(cause.words, cause.name == "gate stops"); err != nil {
					t.Errorf("%s (HTTP/2 %v): %v", streams[i].name, streams[i].two, err)
				}
			}
			must(t, <-done)
			<-time.After(time.Until(begun.Add(2 * cutWithin))) // whatever would still come
			allowed := cutWithin + late()
			m.mu.Lock()
			defer m.mu.Unlock()
			for addr, last := range m.last {
				if took := time.Unix(0, last.Load()).Sub(begun); took > allowed {
					t.Errorf("%s got a byte after %v; %v are allowed", names[addr], took, allowed)
				}
			}
		})
	}
}
