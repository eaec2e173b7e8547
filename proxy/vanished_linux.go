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
func (c *Conn) vanished() (client string, gone bool) {
	c.closing.Lock()
	defer c.closing.Unlock()
	look := func(fd uintptr) { gone = unanswered(int(fd)) }
	if s, ok := c.Conn.(*socket); ok {
		s.look(look)
	} else if c.raw != nil {
		_ = c.raw.Control(look) // fails where it is closed: gone already
	}
	return c.Conn.RemoteAddr().String(), gone
}

// look has f see the descriptor, which stays open meanwhile.
func (s *socket) look(f func(fd uintptr)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.shut:
	case s.back != nil:
		if conn, ok := s.back.(syscall.Conn); ok {
			if raw, err := conn.SyscallConn(); err == nil {
				_ = raw.Control(f) // as above
			}
		}
	default:
		f(uintptr(s.fd))
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
