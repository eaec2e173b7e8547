package http

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/iotest"

	"github.com/sallyport/sallyport/proxy"
	"github.com/sallyport/sallyport/session"
)

func message(size int) []byte {
	m := binary.BigEndian.AppendUint32([]byte{0}, uint32(size))
	return append(m, bytes.Repeat([]byte{'x'}, size)...)
}

// sliced gives the bytes in runs of random lengths, and then the error.
func sliced(data []byte, then error) io.ReadCloser {
	var runs []io.Reader
	for len(data) > 0 {
		n := min(len(data), 1+rand.IntN(40_000))
		runs = append(runs, bytes.NewReader(data[:n]))
		data = data[n:]
	}
	return io.NopCloser(io.MultiReader(append(runs, iotest.ErrReader(then))...))
}

func TestCutCallEndsBetweenMessages(t *testing.T) {
	gone := errors.New("the target's stream is gone")
	for range 200 {
		var data []byte
		boundary := 0
		for range 1 + rand.IntN(20) {
			data = append(data, message(rand.IntN(proxy.MaxHold-5))...)
			boundary = len(data)
		}
		data = append(data, message(proxy.MaxHold - 5)[:rand.IntN(proxy.MaxHold)]...)
		res := &http.Response{}
		c := &call{ReadCloser: sliced(data, gone), res: res, cause: func() error { return session.ErrRevoked }}
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data[:boundary]) {
			t.Fatalf("passed on %d bytes (%v), want the %d of whole messages", len(got), err, boundary)
		}
		if res.Trailer.Get("Grpc-Status") != "7" || res.Trailer.Get("Grpc-Message") == "" {
			t.Fatalf("ends with %v", res.Trailer)
		}
	}
}

func TestCallPassesAllThatTheTargetSays(t *testing.T) {
	for range 200 {
		data := message(rand.IntN(10 * proxy.MaxHold)) // long ones are not kept until they are whole
		data = append(data, message(rand.IntN(proxy.MaxHold))...)
		data = append(data, message(100)[:rand.IntN(105)]...) // a target that ends within a message
		c := &call{ReadCloser: sliced(data, io.EOF), res: &http.Response{}, cause: func() error { return nil }}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("passed on %d of %d bytes (%v)", len(got), len(data), err)
		}
	}
	broken := errors.New("broken")
	c := &call{ReadCloser: sliced(message(7), broken), res: &http.Response{}, cause: func() error { return nil }}
	if got, err := io.ReadAll(c); !errors.Is(err, broken) || len(got) != 12 {
		t.Fatalf("a target's own failure: %d bytes, %v", len(got), err)
	}
}
