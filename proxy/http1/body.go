package http1

import (
	"errors"
	"io"

	"github.com/meshd/meshd/proxy/http1/codec"
)

// A requestBody gives the payload of a request, from the start once more if a
// try has failed.
type requestBody struct {
	in      *input
	decoder codec.Body
	replay  []byte // borrowed
	lost    bool   // more was taken than replay holds
	sent    int    // of replay, in this try
	size    int64  // bytes taken
}

func (b *requestBody) reset(in *input, decoder codec.Body) {
	b.release()
	*b = requestBody{in: in, decoder: decoder}
}

// done reports whether the payload was given to its end in this try.
func (b *requestBody) done() bool { return b.decoder.Done() && b.sent == len(b.replay) }

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
	for !b.decoder.Done() {
		payload, n, err := b.decoder.Next(b.in.bytes())
		if err != nil {
			return nil, err
		}
		b.in.take(n)
		if len(payload) > 0 {
			b.hold(payload)
			return payload, nil
		}
		if b.decoder.Done() || !wait {
			break
		}
		if err := b.in.fill(); err != nil {
			return nil, cutShort(err)
		}
	}
	return nil, nil
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

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
