package http

import (
	"fmt"
	"io"
	"net/http"
	"runtime/metrics"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/gatetest"
)

// heap watches the live heap of this process, where client, gate and target are, until it
// is stopped, and says by how much it grew at most.
func heap() (stop func() int64) {
	read := func() int64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(sample)
		return int64(sample[0].Value.Uint64())
	}
	first := read()
	quit, most := make(chan struct{}), make(chan int64, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for top := first; ; {
			select {
			case <-tick.C:
				top = max(top, read())
			case <-quit:
				most <- top - first
				return
			}
		}
	}()
	return func() int64 { close(quit); return <-most }
}

// What is large passes whole, both ways, and the memory stays flat.
func TestLargeTransfers(t *testing.T) {
	w := newWorld(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			n, _ := io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprint(w, n)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(largeSize, 10))
		_, _ = io.CopyN(w, zeros{}, largeSize)
	}), options{tls: true})
	by := w.SignIn(t, gatetest.Alice)
	cert := w.certificate(t, by)
	for _, one := range []struct {
		two    bool
		method string
	}{{false, http.MethodGet}, {true, http.MethodPost}, {true, http.MethodGet}, {false, http.MethodPost}}[:largeWays] {
		grew := heap()
		var body io.Reader = http.NoBody
		if one.method == http.MethodPost {
			body = io.LimitReader(zeros{}, largeSize)
		}
		r, err := http.NewRequestWithContext(t.Context(), one.method, w.app+"/", body)
		must(t, err)
		res, err := w.client(t, one.two, cert).Do(r)
		must(t, err)
		n, err := io.Copy(io.Discard, io.LimitReader(res.Body, largeSize+1))
		must(t, err)
		_ = res.Body.Close()
		if one.method == http.MethodGet && n != largeSize {
			t.Errorf("%s over HTTP/%d: %d bytes", one.method, res.ProtoMajor, n)
		}
		if most := grew(); most > 48<<20 {
			t.Errorf("%s over HTTP/%d: the heap grew by %d MiB", one.method, res.ProtoMajor, most>>20)
		}
	}
	w.end(t, gatetest.Alice)
	for i, done := range w.record(t, by).done {
		if done.Sent+done.Bytes < largeSize || done.Cut {
			t.Errorf("transfer %d was recorded as %+v", i, done)
		}
	}
}
