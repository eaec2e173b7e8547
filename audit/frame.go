package audit

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A frame is how bytes lie in wal/N.seg and body/YYYY-MM/N.seg, all numbers big endian:
//
//	type     1 byte
//	length   3 bytes, of data
//	sum      4 bytes, CRC-32C of data
//	header   4 bytes, CRC-32C of the eight bytes before
//	data
//
// The header has a sum of its own, so that a changed length is not taken for a
// frame that a crash cut short.
const (
	frameHeader = 12
	maxFrame    = 1<<24 - 1
)

// The types of frames. They differ in more than one bit, and none is zero: a hole
// in a file reads as zeros.
const (
	frameSegment    = 'S' // first in every WAL segment: its number and first entry
	frameEntry      = 'E' // where the body is, then the leaf
	frameCheckpoint = 'C' // a signed checkpoint over all entries before it
	frameBody       = 'B' // salt and body
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Why a frame cannot be read.
var (
	errShort  = errors.New("the file ends inside a frame")
	errHeader = errors.New("the checksum of a frame's header does not match")
	errSum    = errors.New("the checksum of a frame's data does not match")
)

func appendFrame(dst []byte, kind byte, parts ...[]byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, frameHeader)...)
	for _, part := range parts {
		dst = append(dst, part...)
	}
	data := dst[start+frameHeader:]
	header := dst[start : start+frameHeader]
	binary.BigEndian.PutUint32(header, uint32(kind)<<24|uint32(len(data)))
	binary.BigEndian.PutUint32(header[4:], crc32.Checksum(data, castagnoli))
	binary.BigEndian.PutUint32(header[8:], crc32.Checksum(header[:8], castagnoli))
	return dst
}

// readHeader returns a frame's type and the length of its data.
func readHeader(p []byte) (kind byte, length int, err error) {
	if len(p) < frameHeader {
		return 0, 0, errShort
	}
	if crc32.Checksum(p[:8], castagnoli) != binary.BigEndian.Uint32(p[8:]) {
		return 0, 0, errHeader
	}
	word := binary.BigEndian.Uint32(p)
	return byte(word >> 24), int(word & maxFrame), nil
}

// readFrame returns the frame at the start of p. The data is part of p. Where the
// error is errSum or errShort with a good header, size is still the frame's.
func readFrame(p []byte) (kind byte, data []byte, size int, err error) {
	kind, length, err := readHeader(p)
	if err != nil {
		return 0, nil, 0, err
	}
	size = frameHeader + length
	if len(p) < size {
		return kind, nil, size, errShort
	}
	data = p[frameHeader:size]
	if crc32.Checksum(data, castagnoli) != binary.BigEndian.Uint32(p[4:]) {
		return kind, nil, size, errSum
	}
	return kind, data, size, nil
}
