package ssh

import "io"

const (
	forwardBuffer = 32 << 10 // the largest packet that x/crypto/ssh takes in
	idleBuffer    = 256
)

// A flow reads one direction of a channel, into little memory while little comes: most
// channels are idle most of the time, and three large buffers would be most of what an
// idle session costs.
type flow struct {
	from  io.Reader
	small [idleBuffer]byte
	large []byte // nil: not needed now
	last  int
}

// read returns what has come. It is the flow's memory, until the next call.
func (f *flow) read() ([]byte, error) {
	switch {
	case f.last < idleBuffer:
		f.large = nil
	case f.large == nil:
		f.large = make([]byte, forwardBuffer)
	}
	buf := f.large
	if buf == nil {
		buf = f.small[:]
	}
	n, err := f.from.Read(buf)
	f.last = n
	return buf[:n], err
}
