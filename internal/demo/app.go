package demo

import (
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

//go:embed app.html
var appText string

var appPage = template.Must(template.New("app").Parse(appText))

// app is the demo's web application: a form, a clock on a websocket, an event stream
// and an API that says what it was sent. It believes the gate about who asks, because
// it listens on loopback and nobody else reaches it.
type app struct {
	server *http.Server
	served chan struct{}
	stop   context.CancelFunc

	mu    sync.Mutex
	notes []string // the newest first
}

const maxNotes = 20

func startApp(ctx context.Context, address string) (*app, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the demo's application: %w", err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	a := &app{served: make(chan struct{}), stop: stop}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.home)
	mux.HandleFunc("POST /notes", a.note)
	mux.HandleFunc("GET /clock", a.clock)
	mux.HandleFunc("GET /events", a.events)
	mux.HandleFunc("/api/echo", a.echo)
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return running }}
	go func() {
		defer close(a.served)
		_ = a.server.Serve(l) // ends by close
	}()
	return a, nil
}

func (a *app) close() error {
	a.stop()
	err := a.server.Close()
	<-a.served
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// caller is what the gate says of who asks.
type caller struct {
	Email  string   `json:"email"`
	Groups []string `json:"groups"`
	Role   string   `json:"role"`
}

// callerOf reads the claims. An application on a network of others must check the
// signature with the gate's key set first.
func callerOf(r *http.Request) caller {
	var c caller
	parts := strings.Split(r.Header.Get("Sallyport-Identity"), ".")
	if len(parts) != 3 {
		return c
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &c) != nil {
		return caller{}
	}
	return c
}

func (a *app) home(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	notes := slices.Clone(a.notes)
	a.mu.Unlock()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = appPage.Execute(w, struct { // the client has gone, or has it
		Who   caller
		Notes []string
	}{callerOf(r), notes})
}

func (a *app) note(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	if text := strings.TrimSpace(r.PostFormValue("note")); text != "" {
		a.mu.Lock()
		a.notes = slices.Insert(a.notes, 0, callerOf(r).Email+": "+text)
		a.notes = a.notes[:min(len(a.notes), maxNotes)]
		a.mu.Unlock()
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// clock sends the time every half second.
func (a *app) clock(w http.ResponseWriter, r *http.Request) {
	socket, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return // it was answered
	}
	defer socket.Close() //nolint:errcheck // nothing is left to say
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		_ = socket.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if err := socket.WriteMessage(websocket.TextMessage, []byte(time.Now().UTC().Format("15:04:05.0 UTC"))); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// events is a stream of server-sent events, one a second.
func (a *app) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", n, n); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// echo says what came in, without the proof of who asks.
func (a *app) echo(w http.ResponseWriter, r *http.Request) {
	head := r.Header.Clone()
	head.Del("Sallyport-Identity")
	body := http.MaxBytesReader(w, r.Body, 64<<10)
	var text strings.Builder
	buf := make([]byte, 4<<10)
	for {
		n, err := body.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ //nolint:errchkjson // the client has gone, or has it
		"method": r.Method, "path": r.URL.RequestURI(), "headers": head, "body": text.String(), "caller": callerOf(r),
	})
}
