package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// vanished reports that c's peer has gone without a word: what it was asked has had no
// answer for as long as silence is borne. The system's own limits do not say so in time.
// Keepalive asks only where nothing is under way, and counts no question that the gate's
// own link did not take; retransmission gives up after a quarter of an hour.
// TCP_USER_TIMEOUT is no way: it also ends a peer that is there, answers, and does not read.
func (c *Conn) vanished() (gone, closed bool) {
	c.closing.Lock()
	defer c.closing.Unlock()
	look := func(fd uintptr) { gone = unanswered(int(fd)) }
	if s, ok := c.Conn.(*socket); ok {
		closed = !s.look(look)
	} else {
		closed = c.raw == nil || c.raw.Control(look) != nil
	}
	return gone, closed
}

// look has f see the descriptor, which stays open meanwhile; false: it is closed.
func (s *socket) look(f func(fd uintptr)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.shut:
		return false
	case s.back != nil:
		conn, ok := s.back.(syscall.Conn)
		if !ok {
			return true
		}
		raw, err := conn.SyscallConn()
		return err == nil && raw.Control(f) == nil
	default:
		f(uintptr(s.fd))
		return true
	}
}

func unanswered(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return false
	}
	// By keepalive an idle connection has an answer every 15 s. Any answer sets back the
	// counts; where the peer has no room, one question may be on its way.
	idle := info.Unacked == 0 && info.Notsent_bytes == 0
	asked := idle || info.Unacked > 0 && info.Retransmits > 0 || info.Probes > 1
	return asked && int64(info.Last_ack_recv) >= bearsSilence.Milliseconds()
}
