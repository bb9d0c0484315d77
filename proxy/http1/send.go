package http1

import (
	"errors"
	"io"
	"time"

	"github.com/meshd/meshd/proxy/http1/codec"
	"github.com/meshd/meshd/proxy/observe"
)

// enough is how much is gathered before it is written.
const enough = 16 << 10

// send sends the head with what has arrived of the body: in one write, if that
// is all. An attendant sends the rest. What goes wrong is seen when the answer
// is read: a peer may answer before it has read everything.
func (x *exchange) send() {
	u := &x.up
	if u.conn.Reused && !x.request.Idempotent() {
		u.conn.Mark()
	}
	x.attend.reset()
	u.out = x.request.Append(borrow(), codec.Onward{Host: x.call.Edge.Service(), ClientID: x.call.ClientID})
	for len(u.out) < enough && !x.body.done() {
		payload, err := x.body.next(false)
		if err != nil {
			x.attend.fail(err)
			u.conn.Abort()
			return
		}
		if len(payload) == 0 && !x.body.done() {
			break
		}
		x.gather(payload)
	}
	u.conn.SetWriteDeadline(x.stepLimit())
	u.write()
	if x.body.done() {
		x.attend.sent(x)
	} else {
		x.attend.start(x)
	}
}

// gather adds payload to what is to be written, and what ends it.
func (x *exchange) gather(payload []byte) {
	u := &x.up
	if !x.request.Chunked {
		u.out = append(u.out, payload...)
		return
	}
	u.out = codec.AppendChunk(u.out, payload)
	if x.body.done() {
		u.out = codec.AppendEnd(u.out, x.body.decoder.Trailers())
	}
}

// sendRest sends the rest of the body as it arrives. A peer that takes no more
// of it has yet to say why.
func (x *exchange) sendRest() error {
	for !x.body.done() {
		if !x.attend.unlessStopping(func() { x.Caller.SetReadDeadline(x.stepLimit()) }) {
			return nil
		}
		payload, err := x.body.next(true)
		if err != nil {
			return err
		}
		x.gather(payload)
		if !x.attend.unlessStopping(func() { x.up.conn.SetWriteDeadline(x.stepLimit()) }) || x.up.write() != nil {
			return nil
		}
	}
	return nil
}

// stepLimit is the deadline of one step of a body.
func (x *exchange) stepLimit() time.Time {
	return earlier(after(x.call.Timeouts.Idle), x.deadline)
}

// callerFailure says what is wrong with a request that has not come to its end.
func callerFailure(err error) *failure {
	var refused *codec.Error
	switch {
	case errors.As(err, &refused):
		return &failure{Problem: requestProblem(err)}
	case isTimeout(err):
		return &failure{Problem: &observe.Problem{Code: observe.BodyTimeout, Err: err}}
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the caller has ended the request before its body was complete")
	}
	return &failure{Problem: &observe.Problem{Code: observe.Cancelled, Err: err}, gone: true}
}
