// Package freeport finds ports for servers that have to be told theirs before they listen.
package freeport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports below the range that Linux gives to outgoing connections (ip(7),
// ip_local_port_range: 32768 and above): one of that range may be taken again before its
// server listens.
const first, last = 10_000, 32_767

// Pick returns a TCP port on 127.0.0.1 that nobody listens on now, another one each time.
func Pick() (int, error) {
	for range 1000 {
		port := first + rand.IntN(last-first+1) //nolint:gosec // a port is no secret
		if Free(port) {
			return port, nil
		}
	}
	return 0, errors.New("no port is free on 127.0.0.1")
}

// Free reports whether nobody listens on 127.0.0.1 at port.
func Free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return err == nil && l.Close() == nil
}
