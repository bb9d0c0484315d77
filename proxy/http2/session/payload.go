package session

import "sync"

// Data waits in small buffers, and in larger ones only while a reader is slower
// than the peer.
const (
	smallPayload  = 16 << 10
	mediumPayload = 64 << 10
	largePayload  = 256 << 10
)

var (
	smallPayloads  = sync.Pool{New: func() any { return new([smallPayload]byte) }}
	mediumPayloads = sync.Pool{New: func() any { return new([mediumPayload]byte) }}
	largePayloads  = sync.Pool{New: func() any { return new([largePayload]byte) }}
)

// newPayload gives an empty buffer for at least so many bytes.
func newPayload(size int) []byte {
	switch {
	case size <= smallPayload:
		return smallPayloads.Get().(*[smallPayload]byte)[:0]
	case size <= mediumPayload:
		return mediumPayloads.Get().(*[mediumPayload]byte)[:0]
	case size <= largePayload:
		return largePayloads.Get().(*[largePayload]byte)[:0]
	}
	return make([]byte, 0, size)
}

// appendPayload appends data, in a larger buffer if need be.
func appendPayload(b, data []byte) []byte {
	if len(b)+len(data) > cap(b) {
		larger := append(newPayload(len(b)+len(data)), b...)
		dropPayload(b)
		b = larger
	}
	return append(b, data...)
}

// dropPayload takes a buffer back.
func dropPayload(b []byte) {
	switch cap(b) {
	case smallPayload:
		smallPayloads.Put((*[smallPayload]byte)(b[:smallPayload]))
	case mediumPayload:
		mediumPayloads.Put((*[mediumPayload]byte)(b[:mediumPayload]))
	case largePayload:
		largePayloads.Put((*[largePayload]byte)(b[:largePayload]))
	}
}
