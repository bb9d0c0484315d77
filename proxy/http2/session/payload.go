package session

import "sync"

// Data waits in small buffers, which grow only while a reader is slower than the
// peer.
const smallPayload = 16 << 10

type payload [smallPayload]byte

var payloads = sync.Pool{New: func() any { return new(payload) }}

func newPayload() []byte { return payloads.Get().(*payload)[:0] }

// dropPayload takes a buffer back, unless it has grown.
func dropPayload(b []byte) {
	if cap(b) == smallPayload {
		payloads.Put((*payload)(b[:smallPayload]))
	}
}
