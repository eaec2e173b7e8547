//go:build linux

package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// What a target said before it closed reaches a client that reads slowly, however long
// that takes; and so do the last words where it had no reason to close.
func TestASlowClientGetsAllOfAnEndedTarget(t *testing.T) {
	for words, bad := range map[string]error{"": nil, "sorry, the target's connection failed: too early\n": errEarly} {
		each(t, func(t *testing.T, m mode) {
			r := newRig(t, &lines{}, &lines{last: "sorry, ", bad: bad}, m)
			text := bytes.Repeat([]byte("a line of some length, so that it is much\n"), 1<<18)
			sent := make(chan error, 1)
			go func() {
				_, err := r.target.Write(text)
				sent <- errors.Join(err, r.target.Close())
			}()
			<-time.After(2 * CutWait) // the buffers are full
			_ = r.client.SetReadDeadline(time.Now().Add(20 * time.Second))
			want := append(text, words...)
			got := make([]byte, len(want))
			if n, err := io.ReadFull(r.client, got); err != nil {
				t.Fatalf("%d of %d bytes came: %v", n, len(want), err)
			}
			if err := r.ends(t, 5*time.Second); bad == nil && err != nil || bad != nil && !errors.Is(err, bad) {
				t.Fatal(err)
			}
			if err := <-sent; err != nil || !bytes.Equal(got, want) {
				t.Errorf("other bytes came, %v", err)
			}
		})
	}
}

// stuck is an observer whose disk hangs.
type stuck struct {
	lines
	entered, release chan struct{}
}

func (s *stuck) Observe(p []byte) (Verdict, error) {
	close(s.entered)
	<-s.release
	return s.lines.Observe(p)
}

func TestAHungRecordDoesNotHoldUpTheCut(t *testing.T) {
	s := &stuck{entered: make(chan struct{}), release: make(chan struct{})}
	on := &loops{}
	t.Cleanup(on.stop)
	client, near := pair(t)
	target, far := pair(t)
	base := NewConn(near)
	base.loops = on
	ctx, cut := context.WithCancelCause(t.Context())
	over := make(chan error, 1)
	go func() { over <- Relay(ctx, base, NewConn(far), &lines{}, s) }()
	write(t, target, "a row\n")
	<-s.entered
	cut(errCause)
	for name, c := range map[string]net.Conn{"client": client, "target": target} {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		got, err := io.ReadAll(c)
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() || len(got) > 0 {
			t.Errorf("the %s sees %q, %v", name, got, err)
		}
	}
	close(s.release)
	if err := <-over; !errors.Is(err, errCause) {
		t.Error(err)
	}
}

// One that moves all it can does not keep the others of its loop waiting.
func TestBulkStarvesNobody(t *testing.T) {
	on := &loops{}
	t.Cleanup(on.stop)
	open := func() (client, target net.Conn) {
		client, near := pair(t)
		target, far := pair(t)
		base := NewConn(near)
		base.loops = on
		over := make(chan error, 1)
		go func() { over <- Relay(t.Context(), base, NewConn(far), &lines{}, &lines{}) }()
		t.Cleanup(func() {
			_, _ = client.Close(), target.Close()
			<-over
		})
		return client, target
	}
	for range 4 {
		client, target := open()
		go func() {
			text := bytes.Repeat([]byte("a line\n"), 10_000)
			for {
				if _, err := target.Write(text); err != nil {
					return
				}
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, client) }()
	}
	client, target := open()
	for range 50 {
		begun := time.Now()
		write(t, client, "ask\n")
		expect(t, target, "ask\n")
		if took := time.Since(begun); took > time.Second {
			t.Fatalf("a message took %v beside others that move much", took)
		}
	}
}

// The server closes what is left when it stops, while a loop has the socket.
func TestClosingASocketEndsItsRelay(t *testing.T) {
	each(t, func(t *testing.T, m mode) {
		r := newRig(t, &lines{}, &lines{}, m)
		write(t, r.target, "one\n")
		expect(t, r.client, "one\n")
		if err := baseOf(r.near).Close(); err != nil {
			t.Fatal(err)
		}
		if err := r.ends(t, 5*time.Second); !errors.Is(err, ErrClient) {
			t.Fatal(err)
		}
		if err := baseOf(r.near).Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
	})
}

// A socket that a loop has had waits, writes, ends and closes as it did before.
func TestASocketIsItsOwnersAgainAfterTheLoop(t *testing.T) {
	for _, secure := range []bool{false, true} {
		r := newRig(t, &lines{}, &lines{}, mode{secure, true})
		write(t, r.client, "ask\n")
		expect(t, r.target, "ask\n")
		r.cut(errCause)
		if err := r.ends(t, 5*time.Second); !errors.Is(err, errCause) {
			t.Fatal(err)
		}
		base := baseOf(r.near)
		_ = r.near.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		var timeout net.Error
		if _, err := r.near.Read(make([]byte, 9)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("a read past its deadline: %v", err)
		}
		if base.RemoteAddr().String() != r.client.LocalAddr().String() {
			t.Errorf("the other side is %v", base.RemoteAddr())
		}
		_ = r.near.SetDeadline(time.Now().Add(5 * time.Second))
		write(t, r.client, "more\n")
		expect(t, r.near, "more\n")
		write(t, r.near, "words\n")
		expect(t, r.client, "words\n")
		if err := Reset(r.near); err != nil {
			t.Fatal(err)
		}
		if _, err := r.client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the client sees %v", err)
		}
	}
}
