package forward

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/observe"
)

// send sends the head with what has arrived of the body: in one write, if that
// is all. An attendant sends the rest. What goes wrong is seen when the answer
// is read: a peer may answer before it has read everything.
func (x *Exchange) send() {
	x.attend.reset()
	x.grpc.passOn(x.deadline)
	x.callee.Head(x.asked.Request, Onward{Host: x.call.Edge.Service(), ClientID: x.call.ClientID}, x.lastPayload())
	var left []byte
	for !x.body.done() && len(left) == 0 {
		payload, err := x.body.next(false)
		if err != nil {
			x.attend.fail(err)
			x.callee.Abort()
			return
		}
		if len(payload) == 0 && !x.body.done() {
			break
		}
		left = payload[x.callee.Gather(payload, x.lastPayload()):]
	}
	if len(left) > 0 {
		x.attend.start(x, left)
		return
	}
	x.callee.SetWriteDeadline(x.stepLimit())
	if !x.body.done() {
		x.writeErr = x.callee.Flush()
		x.attend.start(x, nil)
		return
	}
	x.writeErr = x.callee.End(x.trailers())
	x.attend.sent(x)
}

// lastPayload reports whether nothing follows the payload that was given last.
func (x *Exchange) lastPayload() bool { return x.body.done() && len(x.trailers()) == 0 }

func (x *Exchange) trailers() []byte {
	if x.asked.Body {
		return x.caller.Trailers()
	}
	return nil
}

// sendRest sends what is left of some payload, and the rest of the body as it
// arrives. A peer that takes no more of it has yet to say why.
func (x *Exchange) sendRest(left []byte) error {
	for {
		for len(left) > 0 && x.writeErr == nil {
			left = left[x.callee.Gather(left, x.lastPayload()):]
			if !x.sendOn(x.callee.Flush) {
				return nil
			}
		}
		if x.body.done() || x.writeErr != nil {
			break
		}
		if !x.attend.unlessStopping(func() { x.caller.SetReadDeadline(x.stepLimit()) }) {
			return nil
		}
		var err error
		if left, err = x.body.next(true); err != nil {
			return err
		}
	}
	x.sendOn(func() error { return x.callee.End(x.trailers()) })
	return nil
}

// sendOn sends, unless it failed before or the attendant is to stop, and reports
// whether it did.
func (x *Exchange) sendOn(send func() error) bool {
	if x.writeErr != nil || !x.attend.unlessStopping(func() { x.callee.SetWriteDeadline(x.stepLimit()) }) {
		return false
	}
	x.writeErr = send()
	return x.writeErr == nil
}

// stepLimit is the deadline of one step of a body.
func (x *Exchange) stepLimit() time.Time {
	return earlier(after(x.call.Timeouts.Idle), x.deadline)
}

// callerFailure says what is wrong with a request that has not come to its end.
func callerFailure(err error) *failure {
	var refused *exchange.Error
	switch {
	case errors.As(err, &refused):
		return &failure{Problem: RequestProblem(err)}
	case isTimeout(err):
		return &failure{Problem: &observe.Problem{Code: observe.BodyTimeout, Err: err}}
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the caller has ended the request before its body was complete")
	}
	return &failure{Problem: &observe.Problem{Code: observe.Cancelled, Err: err}, gone: true}
}

// RequestProblem gives the code for why a head or body is refused.
func RequestProblem(err error) *observe.Problem {
	var refused *exchange.Error
	if !errors.As(err, &refused) {
		return &observe.Problem{Code: observe.BadRequest, Err: err}
	}
	code := observe.BadRequest
	switch refused.Status {
	case 414:
		code = observe.TargetTooLong
	case 417:
		code = observe.Expectation
	case 431:
		code = observe.HeadTooLarge
	case 501:
		code = observe.NotImplemented
	case 505:
		code = observe.Version
	}
	return &observe.Problem{Code: code, Err: err}
}

// isTimeout reports whether a deadline of ours was met; the network has others.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
