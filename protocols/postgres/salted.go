package postgres

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// maxSalted is how many salted passwords are kept: one for each role that is in use.
const maxSalted = 256

// salted are the salted passwords of the roles, which a client may keep (RFC 5802,
// section 3): thousands of rounds of hashing at every login were an eighth of the CPU that
// a new connection took of the gate.
var salted saltedPasswords

type saltedPasswords struct {
	mu   sync.Mutex
	kept map[[sha256.Size]byte][]byte // by a hash of all that they are made of
}

// of gives Hi(password, salt, iterations) of RFC 5802, section 2.2.
func (s *saltedPasswords) of(password, salt []byte, iterations int) ([]byte, error) {
	h := sha256.New()
	var numbers [16]byte
	binary.BigEndian.PutUint64(numbers[:8], uint64(len(password)))
	binary.BigEndian.PutUint64(numbers[8:], uint64(iterations)) //nolint:gosec // checked: 1 to maxIterations
	h.Write(numbers[:])
	h.Write(password)
	h.Write(salt)
	key := [sha256.Size]byte(h.Sum(nil))
	s.mu.Lock()
	made, ok := s.kept[key]
	s.mu.Unlock()
	if ok {
		return made, nil
	}
	made, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil || len(s.kept) >= maxSalted { // passwords that were replaced are not kept for ever
		s.kept = map[[sha256.Size]byte][]byte{}
	}
	s.kept[key] = made
	return made, nil
}
