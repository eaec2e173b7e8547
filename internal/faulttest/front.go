package faulttest

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// A Front is an HTTPS server that passes all it is asked on to another one, until it is
// told to answer by itself.
type Front struct {
	fault atomic.Pointer[fault]
	pass  http.Handler
}

type fault struct {
	path string
	with http.HandlerFunc
}

// NewFront serves at addr, host:port, before the server at to, which shows the same
// certificate, until the test ends.
func NewFront(t testing.TB, addr string, certificate tls.Certificate, to *url.URL) *Front {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(to)
	pass.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // on this machine, and the gate's own check is what is tried
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	pass.ErrorLog = quiet
	f := &Front{pass: pass}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if fault := f.fault.Load(); fault != nil && fault.path == r.URL.Path {
				fault.with(w, r)
				return
			}
			f.pass.ServeHTTP(w, r)
		}),
		ErrorLog: quiet, ReadHeaderTimeout: time.Minute,
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})) // ends by Close
	}()
	t.Cleanup(func() {
		_ = server.Close() // nothing is left to be said
		<-served
	})
	return f
}

// Answer has it answer by itself what it is asked at path.
func (f *Front) Answer(path string, with http.HandlerFunc) { f.fault.Store(&fault{path, with}) }

// Late has it pass on what it is asked at path after a while only.
func (f *Front) Late(path string, by time.Duration) {
	f.Answer(path, func(w http.ResponseWriter, r *http.Request) {
		<-time.After(by)
		f.pass.ServeHTTP(w, r)
	})
}

// Pass ends what Answer or Late began.
func (f *Front) Pass() { f.fault.Store(nil) }

// Never answers nothing as long as somebody waits.
func Never(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // a server sees its client go once it has read
	<-r.Context().Done()
}

// Endless answers a gigabyte of JSON that never makes a whole.
func Endless(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	block := make([]byte, 64<<10)
	for i := range block {
		block[i] = '['
	}
	for range 1 << 30 / len(block) {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}
