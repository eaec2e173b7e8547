package proxy

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/faulttest"
)

// A target that vanishes while something is under way to it is noticed as a client is;
// one that is there and does not read is left alone, and one that closed is forgotten.
func TestTargetThatVanishes(t *testing.T) {
	t.Parallel()
	away := faulttest.NewNamespace(t)
	here, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close() //nolint:errcheck // nothing is left to be said
	there := away.Listen(t)
	targets := map[string]net.Listener{"vanishing": there, "slow": here, "closed": here}
	ended, dialed := map[string]chan error{}, make(chan error, len(targets))
	s := &Server{}
	pour := handlerFunc(func(ctx context.Context, _ net.Conn) error {
		for name, l := range targets {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			up := TargetConn(ctx, conn)
			if dialed <- nil; name == "closed" {
				_ = up.Close()
				continue
			}
			go func() {
				for block := make([]byte, 1<<20); ; {
					if _, err := up.Write(block); err != nil {
						ended[name] <- err
						return
					}
				}
			}()
		}
		<-ctx.Done()
		return nil
	})
	for name := range targets {
		ended[name] = make(chan error, 1)
	}
	client := dial(t, serve(t, s, pour))
	defer client.Close() //nolint:errcheck // as above
	for range targets {
		<-dialed
	}
	slow, err := here.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close() //nolint:errcheck // as above
	gone, err := there.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close() //nolint:errcheck // it has no network
	if _, err := io.ReadFull(gone, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	away.Vanish(t)
	select {
	case <-ended["vanishing"]:
	case <-time.After(bearsSilence + 6*lookEvery):
		t.Fatal("a target that vanished is waited for")
	}
	select {
	case err := <-ended["slow"]:
		t.Errorf("a target that is there and does not read was given up: %v", err)
	default:
	}
	for deadline := time.Now().Add(3 * lookEvery); ; <-time.After(10 * time.Millisecond) {
		s.mu.Lock()
		left := len(s.targets)
		s.mu.Unlock()
		if left == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d targets are looked at, not one", left)
		}
	}
}
