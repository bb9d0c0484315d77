package http1

import (
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/meshd/meshd/proxy/http1/codec"
	"github.com/meshd/meshd/proxy/observe"
	"github.com/meshd/meshd/proxy/relay"
)

// respond passes the answer on.
func (x *exchange) respond() {
	if x.response.Status == 101 {
		x.upgrade()
		return
	}
	x.answered = true
	x.record.Status = x.response.Status
	body := x.response.Body(x.request.Method)
	framing := x.framing(body.Framing)
	x.out = x.response.Append(x.out, codec.Back{
		Framing:         framing,
		Close:           x.request.Minor() == 1 && !x.keep,
		KeepAlive:       x.request.Minor() == 0 && x.keep,
		FromApplication: x.call.Peer.Application(),
	})
	if err := x.passBody(&body, framing); err != nil {
		x.cutAnswer(err, framing)
		return
	}
	x.attend.settle(x)
	if body.Framing != codec.UntilClose && x.response.Persists() && x.up.in.empty() && x.up.writeErr == nil && x.body.done() {
		x.up.release()
	} else {
		x.up.close()
	}
}

// framing is how the body goes on, and with it whether the connection to the
// caller does.
func (x *exchange) framing(f codec.Framing) codec.Framing {
	x.keep = x.keepsCaller() && !x.bodyWithheld()
	if f == codec.UntilClose {
		f = codec.Chunked
	}
	if f == codec.Chunked && x.request.Minor() == 0 {
		f, x.keep = codec.UntilClose, false
	}
	return f
}

// bodyWithheld reports whether the caller may never send the body that it has
// announced, so that what it sends next could be either.
func (x *exchange) bodyWithheld() bool {
	return x.request.Expects && !x.continued && !x.attend.isSent()
}

// An errCaller is one of the caller's side.
type errCaller struct{ error }

func (e errCaller) Unwrap() error { return e.error }

// passBody passes the body on as it comes.
func (x *exchange) passBody(body *codec.Body, framing codec.Framing) error {
	in := &x.up.in
	for !body.Done() {
		payload, n, err := body.Next(in.bytes())
		if err != nil {
			return err
		}
		in.take(n)
		if err := x.pass(payload, framing); err != nil {
			return err
		}
		if len(payload) > 0 || body.Done() {
			continue
		}
		if err := x.flush(); err != nil {
			return err
		}
		x.up.conn.SetReadDeadline(x.stepLimit())
		if err := in.fill(); errors.Is(err, io.EOF) {
			if err := body.Close(); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	if framing == codec.Chunked {
		x.out = codec.AppendEnd(x.out, body.Trailers())
	}
	return x.flush()
}

// pass gathers payload, and writes when there is enough.
func (x *exchange) pass(payload []byte, framing codec.Framing) error {
	x.written += int64(len(payload))
	for len(payload) > 0 {
		piece := payload[:min(len(payload), enough)]
		payload = payload[len(piece):]
		if framing == codec.Chunked {
			x.out = codec.AppendChunk(x.out, piece)
		} else {
			x.out = append(x.out, piece...)
		}
		if len(x.out) >= enough {
			if err := x.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes what was gathered to the caller.
func (x *exchange) flush() error {
	if len(x.out) == 0 {
		return nil
	}
	x.Caller.SetWriteDeadline(x.stepLimit())
	_, err := x.Caller.Write(x.out)
	x.out = x.out[:0]
	if err != nil {
		return errCaller{err}
	}
	return nil
}

// cutAnswer ends an exchange in the middle of an answer. The caller must see
// that it is not complete.
func (x *exchange) cutAnswer(err error, framing codec.Framing) {
	x.attend.stop(x)
	x.up.close()
	x.record.Err, x.keep = err, false
	var caller errCaller
	var refused *codec.Error
	switch {
	case errors.As(err, &caller), x.attend.failed() != nil:
		x.record.Code = observe.Cancelled
		return
	case errors.As(err, &refused):
		x.record.Code = observe.BadResponse
	case isTimeout(err) && expired(x.deadline):
		x.record.Code = observe.RequestTimeout
	case isTimeout(err):
		x.record.Code = observe.ResponseTimeout
	default:
		x.record.Code = observe.Reset
	}
	x.call.Failed()
	x.flush()
	if framing == codec.UntilClose {
		relay.Abort(x.Caller)
	}
}

// upgrade passes on that the peer goes over to another protocol, and then all
// there is of that.
func (x *exchange) upgrade() {
	x.answered, x.keep = true, false
	x.record.Status = x.response.Status
	x.attend.settle(x)
	if !x.body.done() {
		x.record.Code, x.record.Err = observe.BadResponse, errors.New("the response switches protocols before the request is complete")
		return
	}
	x.out = x.response.Append(x.out, codec.Back{FromApplication: x.call.Peer.Application()})
	x.out = append(x.out, x.up.in.bytes()...)
	if err := x.flush(); err != nil {
		x.record.Code, x.record.Err = observe.Cancelled, err
		return
	}
	x.relay()
}

// relay carries bytes until both sides are done, policy comes to refuse them, or
// the caller's certificate ends.
func (x *exchange) relay() {
	peer := x.up.conn
	stream := x.call.Hold(x.Until, func() {
		relay.Abort(x.Caller)
		peer.Abort()
	})
	defer stream.Release()
	x.record.Took = time.Since(x.began)
	early := x.in.bytes()
	peer.SetWriteDeadline(after(x.call.Timeouts.Idle))
	if _, err := peer.Write(early); err != nil {
		return
	}
	x.call.Edge.Sent(int64(len(early)))
	x.lighten()
	x.Caller.SetDeadline(noDeadline)
	peer.SetDeadline(noDeadline)
	relay.Run(x.Caller, peer.Conn, x.call.Timeouts.Idle, x.call.Edge.Sent, x.call.Edge.Received)
}

// lighten gives all buffers back before a long time in which none is needed.
func (x *exchange) lighten() {
	x.request.Method, x.request.Path = bytes.Clone(x.request.Method), bytes.Clone(x.request.Path)
	x.in.release()
	x.up.in.release()
	giveBack(x.up.out)
	giveBack(x.out)
	x.up.out, x.out = nil, nil
}
