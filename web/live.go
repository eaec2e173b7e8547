package web

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/sallyport/sallyport/session"
)

// Limits of the websockets that keep pages live.
const (
	maxSockets = 20               // of one sign-in
	pingEvery  = 25 * time.Second // and the sign-in is read again then
	writeWait  = 10 * time.Second
	settle     = 50 * time.Millisecond // changes that belong together are one message
)

// sockets counts the open websockets by sign-in, and is waited for by Close.
type sockets struct {
	mu     sync.Mutex
	count  map[string]int
	closed bool
	open   sync.WaitGroup
}

func (s *sockets) enter(signIn string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.count[signIn] >= maxSockets {
		return false
	}
	s.count[signIn]++
	s.open.Add(1)
	return true
}

func (s *sockets) leave(signIn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[signIn]--; s.count[signIn] <= 0 {
		delete(s.count, signIn)
	}
	s.open.Done()
}

// shut lets no more in; the caller then ends those that are open and waits.
func (s *sockets) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// live tells a page when to read itself again. A message is the kinds of what
// changed, by blanks, and nothing else: what a person may see of it is decided when
// the page is read.
func (s *Web) live(v *visit) error {
	if !websocket.IsWebSocketUpgrade(v.r) {
		return &refusal{status: http.StatusUpgradeRequired, say: "this address takes websockets only"}
	}
	// Browsers send cookies with a websocket from any site; only the origin tells.
	if v.r.Header.Get("Origin") != s.origin {
		return &refusal{status: http.StatusForbidden, say: "this came from another site; nothing was changed"}
	}
	if !s.sockets.enter(v.by.ID) {
		return &refusal{status: http.StatusTooManyRequests, say: "too many pages of this sign-in are open", next: "close some"}
	}
	defer s.sockets.leave(v.by.ID)
	up := websocket.Upgrader{
		HandshakeTimeout: writeWait, ReadBufferSize: 512, WriteBufferSize: 512,
		CheckOrigin: func(*http.Request) bool { return true }, // checked above, more strictly
		Error:       func(http.ResponseWriter, *http.Request, int, error) {},
	}
	ctx, cancel := context.WithCancel(s.ended)
	defer cancel()
	changes := s.gate.Watch(ctx) // before the client can know that it is told of them
	conn, err := up.Upgrade(v.w, v.r, nil)
	if err != nil {
		return &refusal{status: http.StatusBadRequest, say: "the websocket could not be opened"}
	}
	s.serveSocket(ctx, cancel, v, conn, changes)
	return nil
}

// serveSocket writes until the client, the sign-in or the gate ends. It reads only
// to notice the end: a client has nothing to say.
func (s *Web) serveSocket(ctx context.Context, cancel context.CancelFunc, v *visit, conn *websocket.Conn, changes <-chan session.Change) {
	conn.SetReadLimit(512)
	conn.SetPongHandler(func(string) error { return conn.SetReadDeadline(time.Now().Add(2 * pingEvery)) })
	_ = conn.SetReadDeadline(time.Now().Add(2 * pingEvery))
	var reader sync.WaitGroup
	reader.Go(func() {
		defer cancel()
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	})
	err := s.tell(ctx, v, conn, changes)
	code := websocket.CloseGoingAway
	if errors.Is(err, errSignedOut) {
		code = websocket.ClosePolicyViolation // the page loads itself again, and finds the sign-in
	}
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(writeWait))
	_ = conn.Close()
	cancel()
	reader.Wait()
}

// tell is the writing side of one socket.
func (s *Web) tell(ctx context.Context, v *visit, conn *websocket.Conn, changes <-chan session.Change) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	pause := time.NewTimer(time.Hour)
	pause.Stop()
	defer pause.Stop()
	kinds := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case change, ok := <-changes:
			if !ok {
				return session.ErrStopping
			}
			if change.Kind == "sign-in" {
				if _, err := s.byCookie(v); err != nil {
					return errSignedOut
				}
				continue
			}
			if len(kinds) == 0 {
				pause.Reset(settle)
			}
			kinds[change.Kind] = true
		case <-pause.C:
			message := ""
			for kind := range kinds {
				message += kind + " "
			}
			clear(kinds)
			_ = conn.SetWriteDeadline(time.Now().Add(writeWait))
			if err := conn.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
				return err
			}
		case <-ping.C:
			if _, err := s.byCookie(v); err != nil {
				return errSignedOut
			}
			if err := conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeWait)); err != nil {
				return err
			}
		}
	}
}
