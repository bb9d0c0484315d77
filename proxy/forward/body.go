package forward

import "sync"

// maxReplay is how much of a request's body is held for the case that it has to
// be sent again.
const maxReplay = 64 << 10

type replay [maxReplay]byte

var replays = sync.Pool{New: func() any { return new(replay) }}

// A requestBody gives the payload of a request, from the start once more if a
// try has failed.
type requestBody struct {
	caller Caller
	replay []byte // borrowed
	lost   bool   // more was taken than replay holds
	sent   int    // of replay, in this try
	size   int64  // bytes taken
}

func (b *requestBody) reset(c Caller) {
	b.release()
	*b = requestBody{caller: c}
}

// done reports whether the payload was given to its end in this try.
func (b *requestBody) done() bool { return b.sent == len(b.replay) && b.caller.Ended() }

// rewind starts over for another try. Nothing may be lost.
func (b *requestBody) rewind() { b.sent = 0 }

// next gives more of the payload. Unless it may wait, it gives nothing when
// nothing has arrived.
func (b *requestBody) next(wait bool) ([]byte, error) {
	if b.sent < len(b.replay) {
		payload := b.replay[b.sent:]
		b.sent = len(b.replay)
		return payload, nil
	}
	payload, err := b.caller.Next(wait)
	if len(payload) > 0 {
		b.hold(payload)
	}
	return payload, err
}

// hold keeps payload for the next try.
func (b *requestBody) hold(payload []byte) {
	b.size += int64(len(payload))
	if b.lost || len(b.replay)+len(payload) > maxReplay {
		b.lost, b.sent = true, 0
		b.release()
		return
	}
	if b.replay == nil {
		b.replay = replays.Get().(*replay)[:0]
	}
	b.replay = append(b.replay, payload...)
	b.sent = len(b.replay)
}

// release gives memory back.
func (b *requestBody) release() {
	if b.replay != nil {
		replays.Put((*replay)(b.replay[:maxReplay]))
		b.replay = nil
	}
}
