package http

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/sallyport/sallyport/proxy"
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

// callOf is the status that a call was answered with, in its head or behind its body.
func callOf(h http.Header) string {
	if status := h.Get("Grpc-Status"); status != "" {
		return status
	}
	return h.Get(http.TrailerPrefix + "Grpc-Status")
}

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

// call is the answer to a gRPC call: at the cut it ends with a status of its own, and
// between two messages, because a client that has a part of one reports a broken stream
// and not the status. A message of more than proxy.MaxHold is passed on as it comes.
type call struct {
	io.ReadCloser
	res   *http.Response
	cause func() error

	held []byte // read and not passed on yet
	pass int    // so much of held may go
	left uint64 // so much of a long message is still to come
	err  error  // what the target's last read said
}

// Read reads a part of the answer.
func (c *call) Read(p []byte) (int, error) {
	for c.pass == 0 && c.err == nil {
		n, err := c.ReadCloser.Read(p)
		c.held, c.err = append(c.held, p[:n]...), err
		c.scan()
	}
	if c.pass > 0 {
		n := copy(p, c.held[:c.pass])
		c.held = c.held[:copy(c.held, c.held[n:])]
		c.pass -= n
		return n, nil
	}
	why := c.cause()
	if why == nil || errors.Is(c.err, io.EOF) {
		return 0, c.err
	}
	say, _ := session.Message(why)
	c.res.Trailer = http.Header{"Grpc-Status": {fmt.Sprint(callStatus(status(why)))}, "Grpc-Message": {callMessage(say)}}
	return 0, io.EOF
}

// scan finds what may go: whole messages, each a byte of flags and four of length before
// it, and what there is of a long one. A target that ends within a message is not mended.
func (c *call) scan() {
	for {
		rest := c.held[c.pass:]
		if c.left > 0 {
			n := min(c.left, uint64(len(rest)))
			c.pass, c.left = c.pass+int(n), c.left-n
			rest = rest[n:]
		}
		if len(rest) < 5 {
			break
		}
		size := 5 + uint64(binary.BigEndian.Uint32(rest[1:]))
		if size > uint64(len(rest)) && size <= proxy.MaxHold {
			break
		}
		c.left = size
	}
	if errors.Is(c.err, io.EOF) {
		c.pass = len(c.held)
	}
}
