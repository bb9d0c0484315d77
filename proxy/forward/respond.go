package forward

import (
	"bytes"
	"errors"
	"net"
	"time"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/observe"
	"github.com/meshd/meshd/proxy/relay"
)

// respond passes the answer on.
func (x *Exchange) respond() {
	if x.response.Status == 101 {
		x.upgrade()
		return
	}
	x.answered = true
	x.record.Status = x.response.Status
	x.caller.Answer(x.response, Answer{
		Bodiless:        x.response.Bodiless(x.asked.Method),
		End:             x.callee.Ended() && len(x.callee.Trailers()) == 0,
		Withheld:        x.bodyWithheld(),
		FromApplication: x.call.Peer.Application(),
	})
	if err := x.passBody(); err != nil {
		x.cutAnswer(err)
		return
	}
	x.tellEnd()
	x.attend.settle(x)
	x.callee.Release(x.body.done() && x.writeErr == nil)
	x.callee = nil
}

// bodyWithheld reports whether the caller may never send the body that it has
// announced, so that what it sends next could be either.
func (x *Exchange) bodyWithheld() bool {
	return x.asked.Expects && !x.continued && !x.attend.isSent()
}

// An errCaller is one of the caller's side.
type errCaller struct{ error }

func (e errCaller) Unwrap() error { return e.error }

// passBody passes the body on as it comes.
func (x *Exchange) passBody() error {
	for !x.callee.Ended() {
		payload, err := x.callee.Next(false)
		if err == nil && len(payload) == 0 && !x.callee.Ended() {
			if err := x.flush(); err != nil {
				return err
			}
			x.callee.SetReadDeadline(x.stepLimit())
			payload, err = x.callee.Next(true)
		}
		if err != nil {
			return err
		}
		if err := x.pass(payload); err != nil {
			return err
		}
	}
	x.caller.SetWriteDeadline(x.stepLimit())
	if err := x.caller.End(x.callee.Trailers()); err != nil {
		return errCaller{err}
	}
	return nil
}

// pass gathers payload, and sends when there is no more room.
func (x *Exchange) pass(payload []byte) error {
	x.written += int64(len(payload))
	end := x.callee.Ended() && len(x.callee.Trailers()) == 0
	for {
		n := x.caller.Gather(payload, end)
		if payload = payload[n:]; len(payload) == 0 {
			return nil
		}
		if err := x.flush(); err != nil {
			return err
		}
	}
}

// flush sends the caller what was gathered.
func (x *Exchange) flush() error {
	x.caller.SetWriteDeadline(x.stepLimit())
	if err := x.caller.Flush(); err != nil {
		return errCaller{err}
	}
	return nil
}

// cutAnswer ends an exchange in the middle of an answer. The caller must see
// that it is not complete.
func (x *Exchange) cutAnswer(err error) {
	x.attend.stop(x)
	x.hangUp()
	x.record.Err = err
	var caller errCaller
	var refused *exchange.Error
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
	x.caller.SetWriteDeadline(x.stepLimit())
	x.caller.Cut(err)
}

// upgrade passes on that the peer goes over to another protocol, and then all
// there is of that.
func (x *Exchange) upgrade() {
	x.answered = true
	x.record.Status = x.response.Status
	x.attend.settle(x)
	if !x.body.done() {
		x.record.Code, x.record.Err = observe.BadResponse, errors.New("the response switches protocols before the request is complete")
		return
	}
	x.caller.Answer(x.response, Answer{FromApplication: x.call.Peer.Application()})
	if err := x.flush(); err != nil {
		x.record.Code, x.record.Err = observe.Cancelled, err
		return
	}
	x.relay()
}

// relay carries bytes until both sides are done, policy comes to refuse them, or
// the caller's certificate ends.
func (x *Exchange) relay() {
	callee := x.callee
	stream := x.call.Hold(x.Until, func() {
		x.caller.Abort()
		callee.Abort()
	})
	defer stream.Release()
	x.record.Took = time.Since(x.began)
	x.asked.Method, x.asked.Path = bytes.Clone(x.asked.Method), bytes.Clone(x.asked.Path)
	there, fromCaller := x.caller.Upgrade()
	back, fromCallee := x.callee.Upgrade()
	if !x.passEarly(back, fromCaller, x.call.Edge.Sent) || !x.passEarly(there, fromCallee, x.call.Edge.Received) {
		return
	}
	there.SetDeadline(noDeadline)
	back.SetDeadline(noDeadline)
	relay.Run(there, back, x.call.Timeouts.Idle, x.call.Edge.Sent, x.call.Edge.Received)
}

// passEarly passes on what came before it was known where it belongs.
func (x *Exchange) passEarly(to net.Conn, early []byte, count func(int64)) bool {
	if len(early) == 0 {
		return true
	}
	to.SetWriteDeadline(after(x.call.Timeouts.Idle))
	_, err := to.Write(early)
	count(int64(len(early)))
	return err == nil
}
