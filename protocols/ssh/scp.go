package ssh

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// An scpEnd is the far end of an old scp, as its command says.
type scpEnd struct {
	direction string
	paths     []string // of -f, as they are written; of -t the one
	folder    bool     // -d: the path of -t is a folder
}

// scpEndOf recognises the far end of an old scp (`scp -O`, and rcp before it):
// "-t" takes files, "-f" gives them. The command is a shell's, so it is recognised only
// where every word of it is understood: flags that scp's own client sends, and paths in
// which the shell does nothing but find names. Anything else is a command like others,
// with its output on the record.
func scpEndOf(command string) (end scpEnd, ok bool) {
	if len(command) > maxSCPLine {
		return end, false // no client's, and a long name on the record for every file
	}
	words, ok := plainWords(command)
	if !ok || len(words) < 3 || (words[0] != "scp" && words[0] != "/usr/bin/scp") {
		return end, false
	}
	rest := words[1:]
	for len(rest) > 0 && end.direction == "" {
		switch rest[0] {
		case "-t":
			end.direction = directionUp
		case "-f":
			end.direction = directionDown
		case "-d":
			end.folder = true
		case "-v", "-q", "-r", "-p", "-rp", "-pr":
		default:
			return end, false
		}
		rest = rest[1:]
	}
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	} else if slices.ContainsFunc(rest, func(word string) bool { return strings.HasPrefix(word, "-") }) {
		return end, false // a flag may stand behind a path
	}
	if end.direction == "" || len(rest) == 0 || (end.direction == directionUp && len(rest) > 1) {
		return end, false
	}
	end.paths = rest
	return end, true
}

// names says where a file is at the target, by the command's paths and by what the source
// called it and the folders around it, outermost first. The client may call it anything,
// and the stream does not tell which of two places it is: the record has both then. A
// path is a new name, or a folder that was there; of several that are given, or that a
// shell found, one is the file's.
func (e scpEnd) names(called []string) string {
	inner := strings.Join(called[1:], "/")
	var places []string
	for _, at := range e.paths {
		if e.direction == directionUp {
			if !e.folder && !strings.HasSuffix(at, "/") && path.Base(at) != "." && path.Base(at) != ".." && at != "~" {
				places = append(places, under(at, inner))
			}
			places = append(places, under(under(at, called[0]), inner))
		} else if same, err := path.Match(path.Base(at), called[0]); err == nil && same {
			folder, _ := path.Split(at)
			places = append(places, under(folder+called[0], inner))
		}
	}
	if n := len(places); n == 0 || n > maxSCPPlaces {
		return strings.Join(called, "/") + ", of the paths that the command names"
	}
	return strings.Join(places, ", or ")
}

// under joins as they are written: path.Join would take a ".." for what it may not be.
func under(folder, name string) string {
	switch {
	case name == "":
		return folder
	case folder == "":
		return name
	}
	return strings.TrimSuffix(folder, "/") + "/" + name
}

// plainWords cuts a command into words as a shell does. It fails where a shell would do
// more than find names: no variables, no commands, no lines.
func plainWords(command string) (words []string, ok bool) {
	const bare = "_./~+,:@%=-*?[]" // beside letters, digits, and what is no ASCII
	var word []byte
	begun := false
	for i := 0; i < len(command); i++ {
		c := command[i]
		switch {
		case c == ' ':
			if begun {
				words, word, begun = append(words, string(word)), nil, false
			}
			continue
		case c == '\'', c == '"':
			end := strings.IndexByte(command[i+1:], c)
			if end < 0 {
				return nil, false
			}
			text := command[i+1 : i+1+end]
			if strings.ContainsFunc(text, isControl) || (c == '"' && strings.ContainsAny(text, "$`\\!")) {
				return nil, false
			}
			word, i = append(word, text...), i+1+end
		case c == '\\' && i+1 < len(command) && !isControl(rune(command[i+1])):
			i++
			word = append(word, command[i])
		case c >= 0x80, c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(bare, c) >= 0:
			word = append(word, c)
		default:
			return nil, false
		}
		begun = true
	}
	if begun {
		words = append(words, string(word))
	}
	return words, true
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// scp observes the protocol of rcp: one side, the source, sends a line per file, the
// file, and a zero byte; the other, the sink, answers each with a byte. What does not
// read like that, because the command was another one, is recorded as plain output.
type scp struct {
	*plain
	scpEnd

	mu     sync.Mutex
	state  scpState
	line   []byte
	around []string // the folders that were begun
	name   string
	left   int64
	size   int64 // of the file so far
	sum    hash.Hash
	kept   int64 // the record's number of its bytes; 0: they are not recorded
}

type scpState int

const (
	scpLine   scpState = iota
	scpAnswer          // the source said what follows; the sink has to agree
	scpBytes
	scpStatus // the zero byte behind a file
	scpLost   // not this protocol
)

// Limits on what is read of one conversation, and on the record for each of its files.
const (
	maxSCPLine   = 8192 // bytes: a longest path (4096) and what stands before it
	maxSCPPlaces = 4    // where a file may be: two of an upload, and one of a download that is a client's
)

func newSCP(p *pair, end scpEnd) *scp { return &scp{plain: newPlain(p), scpEnd: end} }

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
			var err error
			if s.kept, err = s.p.r.rec.piece(s.kept, uint64(s.size), data[:n]); err != nil { //nolint:gosec // not negative
				return err
			}
			s.sum.Write(data[:n])
			data, s.left, s.size = data[n:], s.left-n, s.size+n
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
			if len(strings.Join(s.around, "/"))+len(parts[2]) > maxSCPLine {
				return false
			}
			s.around = append(s.around, parts[2])
			return true
		}
		s.name, s.left, s.size, s.sum = s.names(append(slices.Clone(s.around), parts[2])), size, 0, sha256.New()
		s.state, s.kept = scpAnswer, 0
		return true
	case 'E':
		s.around = s.around[:max(0, len(s.around)-1)]
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

// lose gives up reading the stream: what is there and what follows is recorded as that of
// any other command, an upload's by its digest where the policy does not ask for input.
func (s *scp) lose(data []byte, lost func([]byte) error) error {
	s.state = scpLost
	if err := s.p.r.rec.note("%s: this is not what scp sends; recorded as another command's", s.p.stream); err != nil {
		return err
	}
	if err := lost(s.line); err != nil {
		return err
	}
	return lost(data)
}

func (s *scp) moved(suffix string) error {
	return s.p.r.rec.file(s.name+suffix, s.direction, s.size, s.sum.Sum(nil), s.kept)
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
