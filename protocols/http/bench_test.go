package http

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/sallyport/sallyport/internal/gatetest"
)

// One request after another, direct over TLS and through the gate: signed in, held to
// its scope and recorded.
func BenchmarkRequest(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		body := make([]byte, size)
		app := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = w.Write(body)
		})
		w := newWorld(b, app, options{tls: true})
		gate := w.client(b, false, w.certificate(b, w.SignIn(b, gatetest.Alice)))
		direct := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots, ServerName: "app.localhost"}}}
		b.Cleanup(direct.CloseIdleConnections)
		for _, way := range []struct {
			name    string
			client  *http.Client
			address string
		}{{"direct", direct, "https://" + w.target.Listener.Addr().String() + "/"}, {"gate", gate, w.app + "/"}} {
			b.Run(fmt.Sprintf("%s/%d", way.name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					res, err := way.client.Get(way.address)
					must(b, err)
					_, err = io.Copy(io.Discard, res.Body)
					must(b, err)
					_ = res.Body.Close()
				}
			})
		}
	}
}
