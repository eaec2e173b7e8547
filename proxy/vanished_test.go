package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/faulttest"
)

// A client that vanishes while much is under way to it is noticed as soon as one from
// whom only silence comes; one that is there and does not read is left alone.
func TestClientThatVanishes(t *testing.T) {
	t.Parallel()
	away := faulttest.NewNamespace(t)
	ended := map[byte]chan error{'v': make(chan error, 1), 's': make(chan error, 1)}
	s := &Server{}
	pour := handlerFunc(func(_ context.Context, conn net.Conn) error {
		_ = conn.SetDeadline(time.Time{})
		var who [1]byte
		if _, err := io.ReadFull(conn, who[:]); err != nil {
			return err
		}
		for block := make([]byte, 1<<20); ; {
			if _, err := conn.Write(block); err != nil {
				ended[who[0]] <- err
				return err
			}
		}
	})
	if err := s.Listen(t.Context(), Listener{Name: "pour", Address: away.Gate + ":0", Handler: pour}); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Error(err)
		}
	})
	addr := s.Addrs()[0].String()
	slow := dial(t, addr)
	_ = slow.SetDeadline(time.Time{})
	vanishing := away.Dial(t, addr)
	defer vanishing.Close() //nolint:errcheck // it has no network
	for who, conn := range map[byte]net.Conn{'s': slow, 'v': vanishing} {
		if _, err := conn.Write([]byte{who}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	away.Vanish(t)
	began := time.Now()
	select {
	case <-ended['v']:
	case <-time.After(bearsSilence + 6*lookEvery):
		t.Fatal("a client that vanished is waited for")
	}
	if took := time.Since(began); took < bearsSilence-lookEvery {
		t.Errorf("it was given up after %v", took)
	}
	select {
	case err := <-ended['s']:
		t.Errorf("a client that is there and does not read was given up: %v", err)
	default:
	}
	if _, err := io.CopyN(io.Discard, slow, 16<<20); err != nil {
		t.Errorf("it reads on: %v", err)
	}
}
