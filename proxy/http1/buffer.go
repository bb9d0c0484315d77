package http1

import "sync"

// Buffers are borrowed while there is something in them. Most heads fit a small
// one; a large one holds the largest head with room for a body behind it.
const (
	smallBuffer = 32 << 10
	largeBuffer = 96 << 10
	// bodyRoom is what must be left behind a head: more than the longest line
	// of a chunked body.
	bodyRoom = 16 << 10
)

type buffer [smallBuffer]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// borrow gives an empty slice with some capacity.
func borrow() []byte { return buffers.Get().(*buffer)[:0] }

// giveBack takes a slice that borrow gave, unless it has grown.
func giveBack(b []byte) {
	if cap(b) == smallBuffer {
		buffers.Put((*buffer)(b[:smallBuffer]))
	}
}
