package ssh

import (
	"bytes"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
)

// scpDirection recognises the far end of an old scp (`scp -O`, and rcp before it):
// "-t" takes files, "-f" gives them.
func scpDirection(command string) (direction string, ok bool) {
	words := strings.Fields(command)
	if len(words) < 2 || path.Base(words[0]) != "scp" {
		return "", false
	}
	for _, w := range words[1:] {
		switch {
		case w == "--" || !strings.HasPrefix(w, "-"):
			return "", false
		case w == "-t":
			return directionUp, true
		case w == "-f":
			return directionDown, true
		}
	}
	return "", false
}

// scp observes the protocol of rcp: one side, the source, sends a line per file, the
// file, and a zero byte; the other, the sink, answers each with a byte. What does not
// read like that, because the command was another one, is recorded as plain output.
type scp struct {
	*plain
	direction string

	mu     sync.Mutex
	state  scpState
	line   []byte
	folder []string
	name   string
	left   int64
	file   moved
}

type scpState int

const (
	scpLine   scpState = iota
	scpAnswer          // the source said what follows; the sink has to agree
	scpBytes
	scpStatus // the zero byte behind a file
	scpLost   // not this protocol
)

// maxSCPLine is a longest path and what stands before it.
const maxSCPLine = 8192

func newSCP(p *pair, direction string) *scp { return &scp{plain: newPlain(p), direction: direction} }

func (s *scp) up(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direction == directionUp {
		if s.state == scpLost {
			return s.plain.up(data)
		}
		return s.source(data, s.plain.up)
	}
	s.sink(data)
	return nil
}

func (s *scp) down(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direction == directionDown {
		if s.state == scpLost {
			return s.plain.down(data)
		}
		return s.source(data, s.plain.down)
	}
	s.sink(data)
	return s.other(data)
}

// other records a sink's words: a zero byte says nothing, an error says what.
func (s *scp) other(data []byte) error {
	if words := bytes.Trim(data, "\x00\x01\x02\n"); len(words) > 0 {
		return s.p.r.rec.terminal(s.p.stream, "o", data)
	}
	return nil
}

// source follows the side that sends files. lost takes the rest of what is not scp.
func (s *scp) source(data []byte, lost func([]byte) error) error {
	for len(data) > 0 {
		switch s.state {
		case scpLine:
			end := bytes.IndexByte(data, '\n')
			if end < 0 {
				s.line = append(s.line, data...)
				if len(s.line) > maxSCPLine || !scpBegins(s.line[0]) {
					return s.lose(nil, lost)
				}
				return nil
			}
			s.line = append(s.line, data[:end]...)
			data = data[end+1:]
			if !s.command(string(s.line)) {
				s.line = append(s.line, '\n')
				return s.lose(data, lost)
			}
			s.line = s.line[:0]
		case scpBytes:
			n := min(int64(len(data)), s.left)
			s.file.add(s.file.next, data[:n])
			data, s.left = data[n:], s.left-n
			if s.left == 0 {
				s.state = scpStatus
			}
		case scpStatus:
			if err := s.moved(""); err != nil {
				return err
			}
			s.state = scpLine
			if data[0] == 0 {
				data = data[1:]
			} // else a line with an error follows
		default: // scpAnswer: a source that does not wait is none
			return s.lose(data, lost)
		}
	}
	return nil
}

func scpBegins(c byte) bool { return strings.IndexByte("CDETP\x01\x02", c) >= 0 }

// command reads one line of the source; false: it is none.
func (s *scp) command(line string) bool {
	if line == "" {
		return false
	}
	switch line[0] {
	case 'C', 'D':
		parts := strings.SplitN(line[1:], " ", 3)
		if len(parts) != 3 {
			return false
		}
		size, err := strconv.ParseInt(parts[1], 10, 64)
		if err != nil || size < 0 {
			return false
		}
		if line[0] == 'D' {
			if len(s.folder) > 1024 {
				return false
			}
			s.folder = append(s.folder, parts[2])
			return true
		}
		s.name, s.left, s.file = path.Join(path.Join(s.folder...), parts[2]), size, moved{}
		s.state = scpAnswer
		return true
	case 'E':
		s.folder = s.folder[:max(0, len(s.folder)-1)]
		return true
	case 'T', 'P', 1, 2:
		return true
	}
	return false
}

// sink follows the side that takes files: only its answer to a file's line matters.
func (s *scp) sink(data []byte) {
	if s.state != scpAnswer || len(data) == 0 {
		return
	}
	switch {
	case data[len(data)-1] != 0:
		s.state = scpLine // an error: the file is not sent
	case s.left == 0:
		s.state = scpStatus
	default:
		s.state = scpBytes
	}
}

// lose gives up reading the stream, and records what is there and what follows as it is.
func (s *scp) lose(data []byte, lost func([]byte) error) error {
	s.state = scpLost
	if err := s.p.r.rec.note("%s: this is not what scp sends; recorded as it is", s.p.stream); err != nil {
		return err
	}
	if err := lost(s.line); err != nil {
		return err
	}
	return lost(data)
}

func (s *scp) moved(suffix string) error {
	sum := s.file.digest()
	if suffix != "" {
		sum = nil
	}
	return s.p.r.rec.file(s.name+suffix, s.direction, s.file.size, sum)
}

func (s *scp) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == scpBytes || s.state == scpStatus {
		if err := s.moved(fmt.Sprintf(" (%d bytes missing)", s.left)); err != nil {
			return err
		}
	}
	return s.plain.close()
}
