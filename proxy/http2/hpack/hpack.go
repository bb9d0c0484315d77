// Package hpack compresses and decompresses header fields as RFC 7541 has it.
// In steady state it allocates nothing.
package hpack

import "errors"

// Limits of what a field block may say, counted decoded: a small block can stand
// for a large header.
type Limits struct {
	Size   int // of all names and values and 32 bytes for each field
	Fields int
	Field  int // bytes of one name and value
}

// DefaultLimits are those of HTTP/1.1 here.
var DefaultLimits = Limits{Size: 64 << 10, Fields: 100, Field: 8 << 10}

// DefaultTableSize is the size of dynamic tables until peers agree otherwise.
const DefaultTableSize = 4096

// overhead is what a field counts for beyond its bytes.
const overhead = 32

// A Field is one name and its value.
type Field struct {
	Name, Value []byte
	// Sensitive fields must not enter any table, here or further on.
	Sensitive bool
}

// Why a field block is refused. The connection it came on cannot go on: its
// tables are not known any more.
var (
	errShort   = errors.New("the field block ends in the middle of a field")
	errInteger = errors.New("a number in the field block is too large")
	errIndex   = errors.New("the field block refers to a field that is in no table")
	errUpdate  = errors.New("the field block changes the size of the table where it may not")
	errTooWide = errors.New("the field block makes the table larger than was agreed")
	errHuffman = errors.New("a Huffman-coded string of the field block is not valid")
)

// appendInteger appends a number behind the bits of first that its prefix of n
// bits leaves.
func appendInteger(dst []byte, first byte, n uint, v uint64) []byte {
	most := uint64(1)<<n - 1
	if v < most {
		return append(dst, first|byte(v))
	}
	dst = append(dst, first|byte(most))
	for v -= most; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}

// maxContinuation is how many bytes a number may have after its prefix: enough
// for all that could be meant.
const maxContinuation = 4

// integer reads a number with a prefix of n bits.
func integer(b []byte, n uint) (v uint32, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errShort
	}
	most := uint32(1)<<n - 1
	if v = uint32(b[0]) & most; v < most {
		return v, b[1:], nil
	}
	for i := 1; i <= maxContinuation; i++ {
		if i == len(b) {
			return 0, nil, errShort
		}
		v += uint32(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			return v, b[i+1:], nil
		}
	}
	return 0, nil, errInteger
}
