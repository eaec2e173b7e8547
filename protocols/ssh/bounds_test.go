package ssh_test

import (
	"context"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"
)

// opened opens channels until the gate refuses one, and returns how many came before.
func opened(t *testing.T, words string, open func() error) int {
	t.Helper()
	for n := range 200 {
		if err := open(); err != nil {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("channel %d: %v", n, err)
			}
			return n
		}
	}
	t.Fatal("200 channels are open")
	return 0
}

func TestChannelsAreBounded(t *testing.T) {
	echo := echoServer(t)
	w := newWorld(t, setup{forward: echo})
	c := w.dial(t, "ops@web-1")
	if n := opened(t, "sallyport: too many channels on one connection", func() error {
		_, err := c.Dial("tcp", echo)
		return err
	}); n != 64 {
		t.Errorf("%d channels", n)
	}
}

func TestChannelsForNothingAreBounded(t *testing.T) {
	w := newWorld(t, setup{})
	c := w.dial(t, "ops@web-1")
	if n := opened(t, "sallyport: too many channels of one connection are open for nothing", func() error {
		_, requests, err := c.OpenChannel("session", nil)
		if err == nil {
			go xssh.DiscardRequests(requests)
		}
		return err
	}); n != 16 {
		t.Errorf("%d channels", n)
	}
}

// A client that opens channels and reads from none would leave 2 MiB of each in the gate.
func TestChannelsThatNobodyReadsAreBounded(t *testing.T) {
	target := newFakeThat(t, func(*xssh.ServerConn) {}, func(channel xssh.NewChannel) {
		ch, requests, err := channel.Accept()
		if err != nil {
			return
		}
		go xssh.DiscardRequests(requests)
		go func() {
			for err == nil {
				_, err = ch.Write(make([]byte, 32<<10)) // until the gate goes
			}
		}()
	})
	w := newWorld(t, setup{target: target})
	c := w.dial(t, "ops@web-1")
	const within = 30 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = c.Close() }) // as does the gate, before
	for range 17 {
		if _, err := c.Dial("tcp", "127.0.0.1:9"); err != nil {
			break // it may be over by now
		}
	}
	_ = c.Wait() // says that the connection is over
	if ctx.Err() != nil {
		t.Fatalf("17 channels are stalled for %s", within)
	}
	if list := w.recorded(t); !said(list, "note", "too many channels of one connection are not read from; connect again") {
		t.Errorf("recorded: %+v", list)
	}
}
