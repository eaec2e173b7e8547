package http

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/proxy"
)

// metered is the gate's own side of a client's connection: it knows when the kernel took
// the last byte, whatever the client is busy with.
type metered struct {
	*net.TCPConn
	last *atomic.Int64
}

// Records in which the gate says goodbye of its own: they are about no stream, and come
// when the gate has stopped. None of the streams here writes as little at once.
const (
	goAwayRecord      = 5 + 9 + 8 + 1 + 16 // RFC 9113 section 6.8 in a TLS 1.3 record
	closeNotifyRecord = 5 + 2 + 1 + 16     // RFC 8446 section 6.1
)

func (m metered) Write(p []byte) (int, error) {
	n, err := m.TCPConn.Write(p)
	if n > 0 && n != goAwayRecord && n != closeNotifyRecord {
		m.last.Store(time.Now().UnixNano())
	}
	return n, err
}

// meter stands before a handler and meters its connections, by the client's port.
type meter struct {
	*later
	mu   sync.Mutex
	last map[string]*atomic.Int64
}

func (m *meter) Serve(ctx context.Context, nc net.Conn) error {
	c := proxy.NewConn(nc)
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		last := &atomic.Int64{}
		m.mu.Lock()
		m.last[c.RemoteAddr().String()] = last
		m.mu.Unlock()
		c.Conn = metered{tcp, last}
	}
	return m.later.Serve(ctx, c)
}
