package http

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/sallyport/sallyport/session"
)

// gRPC over HTTP/2 (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md): its
// clients read a status and a message, and no page and no problem.

// gRPC's status codes (doc/statuscodes.md of the same repository).
const (
	callInvalid         = 3
	callDenied          = 7
	callExhausted       = 8
	callUnimplemented   = 12
	callInternal        = 13
	callUnavailable     = 14
	callUnauthenticated = 16
)

func isCall(h http.Header) bool { return strings.HasPrefix(h.Get("Content-Type"), "application/grpc") }

// callStatus says a status of HTTP in gRPC's words.
func callStatus(code int) int {
	switch code {
	case http.StatusBadRequest, http.StatusMisdirectedRequest:
		return callInvalid
	case http.StatusUnauthorized:
		return callUnauthenticated
	case http.StatusForbidden:
		return callDenied
	case http.StatusNotFound:
		return callUnimplemented
	case http.StatusTooManyRequests, http.StatusRequestEntityTooLarge:
		return callExhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return callUnavailable
	}
	return callInternal
}

// refuseCall answers with a status alone, "Trailers-Only". open is the page to open;
// it may be empty.
func refuseCall(w http.ResponseWriter, code int, say, open string) {
	if open != "" {
		say += "; open " + open
	}
	head := w.Header()
	head.Set("Content-Type", "application/grpc")
	head.Set("Grpc-Status", fmt.Sprint(callStatus(code)))
	head.Set("Grpc-Message", callMessage(say))
	w.WriteHeader(http.StatusOK)
}

// callMessage is percent-encoded; it decodes to the sentence.
func callMessage(say string) string { return url.PathEscape(say) }

// call is the answer to a gRPC call: at the cut it ends with a status of its own.
type call struct {
	io.ReadCloser
	res   *http.Response
	cause func() error
}

// Read reads a part of the answer.
func (c *call) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	why := c.cause()
	if err == nil || why == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	say, _ := session.Message(why)
	c.res.Trailer = http.Header{"Grpc-Status": {fmt.Sprint(callStatus(status(why)))}, "Grpc-Message": {callMessage(say)}}
	return n, io.EOF
}
