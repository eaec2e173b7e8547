package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrBad refuses bytes that are no SFTP, or cannot be followed.
var ErrBad = errors.New("this is no SFTP that can be followed, so it cannot be recorded")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBad, fmt.Sprintf(format, args...))
}

// maxPacket bounds a packet: OpenSSH sftp-common.h, SFTP_MAX_MSG_LENGTH, and what
// servers add to it.
const maxPacket = 256<<10 + 1024

// packets cuts one direction's stream into packets.
type packets struct{ buf []byte }

// feed gives each whole packet to see, without its length. What see is given is data's
// memory or buf's, until it returns.
func (p *packets) feed(data []byte, see func(kind byte, b *body) error) error {
	if len(p.buf) > 0 {
		p.buf = append(p.buf, data...)
		data = p.buf
	}
	for len(data) >= 4 {
		size := binary.BigEndian.Uint32(data)
		if size == 0 || size > maxPacket {
			return bad("a packet of %d bytes", size)
		}
		if uint32(len(data)-4) < size { //nolint:gosec // at least 0
			break
		}
		b := body{rest: data[5 : 4+size]}
		if err := see(data[4], &b); err != nil {
			return err
		}
		data = data[4+size:]
	}
	if len(data) == 0 && cap(p.buf) > maxPacket {
		p.buf = nil
		return nil
	}
	p.buf = append(p.buf[:0], data...)
	return nil
}

// body is read from its front. What is short leaves an error behind, which is asked
// for once, at the end.
type body struct {
	rest []byte
	err  error
}

func (b *body) take(n uint64) []byte {
	if b.err != nil || n > uint64(len(b.rest)) {
		b.err = bad("a short packet")
		return nil
	}
	p := b.rest[:n]
	b.rest = b.rest[n:]
	return p
}

func (b *body) uint32() uint32 {
	if p := b.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (b *body) uint64() uint64 {
	if p := b.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// bytes reads a string; it is the packet's memory.
func (b *body) bytes() []byte { return b.take(uint64(b.uint32())) }

func (b *body) text() string { return string(b.bytes()) }

// attributes reads what SETSTAT changes (section 5), and says it: " size=0 mode=0755".
func (b *body) attributes() string {
	const size, owner, mode, times = 1, 2, 4, 8
	say, flags := "", b.uint32()
	if flags&size != 0 {
		say += fmt.Sprintf(" size=%d", b.uint64())
	}
	if flags&owner != 0 {
		say += fmt.Sprintf(" owner=%d:%d", b.uint32(), b.uint32())
	}
	if flags&mode != 0 {
		say += fmt.Sprintf(" mode=%04o", b.uint32()&0o7777)
	}
	if flags&times != 0 {
		b.take(8) // of access and change
		say += " times"
	}
	return say
}
