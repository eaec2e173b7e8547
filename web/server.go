package web

import (
	"crypto/tls"
	"net/http"
	"time"
)

// Limits of the server that carries the pages. Websockets set deadlines of their own,
// and a recording on its way moves its own on.
const (
	headTimeout = 10 * time.Second
	bodyTimeout = 30 * time.Second
	idleTimeout = 2 * time.Minute
	sendTimeout = 2 * time.Minute
	maxHead     = 32 << 10
)

// Server is the http.Server for the pages, with limits against clients that are
// slow on purpose: ten seconds for a head, thirty for a body, 32 KiB of headers.
func Server(h http.Handler, conf *tls.Config) *http.Server {
	return &http.Server{
		Handler: h, TLSConfig: conf,
		ReadHeaderTimeout: headTimeout, ReadTimeout: bodyTimeout,
		WriteTimeout: sendTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHead,
	}
}
