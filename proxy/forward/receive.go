package forward

import (
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/observe"
)

// maxInterims is how many responses before the last one are passed on.
const maxInterims = 16

// receive waits for the head of the answer. Without a failure, it is there and
// is to be passed on.
func (x *Exchange) receive() *failure {
	for {
		if err := x.readResponse(); err != nil {
			x.attend.stop(x)
			return x.unanswered(err)
		}
		if !x.response.Interim() {
			break
		}
		if err := x.interim(); err != nil {
			x.attend.stop(x)
			return x.left(err)
		}
	}
	x.attend.begun()
	return x.judge()
}

// readResponse waits for one head, of the answer or before it.
func (x *Exchange) readResponse() (err error) {
	for {
		limit := x.attend.arm(x)
		x.response, err = x.callee.Response(x.asked.Method)
		if !isTimeout(err) || expired(limit) {
			return err
		}
		// Either it is time to look after the caller, or the attendant has set
		// another deadline meanwhile.
		if x.attend.done == nil {
			x.attend.start(x, nil)
		}
	}
}

// interim passes a head on that comes before the answer.
func (x *Exchange) interim() error {
	if !x.caller.TakesInterim() || x.interims == maxInterims {
		return nil
	}
	x.interims++
	x.continued = x.continued || x.response.Status == 100
	x.caller.SetWriteDeadline(x.stepLimit())
	return x.caller.Interim(x.response, x.call.Peer.Application())
}

// judge says what the answer shows of the endpoint, and whether there is reason
// not to pass it on.
func (x *Exchange) judge() *failure {
	r := x.response
	if r.Status == 101 && !r.Accepts(x.asked.Upgrade) {
		x.call.Failed()
		x.attend.stop(x)
		return &failure{Problem: &observe.Problem{Code: observe.BadResponse, Err: errors.New("the response switches protocols, but was not asked to")}}
	}
	said := x.said()
	x.record.Code = said
	x.tell(said)
	cause := x.cause(said)
	if x.interims > 0 || !x.call.Retries(cause, r.Status) {
		return nil
	}
	x.attend.stop(x)
	return &failure{Problem: &observe.Problem{Code: observe.Reset}, cause: cause, status: r.Status}
}

// tell lets the balancer know what the answer shows of the endpoint. What came
// of a gRPC call is seen only at its end.
func (x *Exchange) tell(said *observe.Code) {
	r := x.response
	if !x.grpc.on || r.Status != 200 || !r.IsGRPC() {
		x.call.Answered(r.Status, said, retryAfter(r))
		return
	}
	if status, ok := r.Get("grpc-status"); ok {
		x.record.GRPC = knownStatus(status)
		x.call.Answered(httpStatus(x.record.GRPC), said, 0)
		return
	}
	x.call.Heard()
}

// tellEnd does so at the end of a gRPC call.
func (x *Exchange) tellEnd() {
	if !x.grpc.on || x.response.Status != 200 || x.record.GRPC != "" || !x.response.IsGRPC() {
		return
	}
	x.record.GRPC = grpcStatus(x.callee.Trailers())
	x.call.Answered(httpStatus(x.record.GRPC), nil, 0)
}

// cause is the reason that an answer gives to try again, if it gives any. Where
// an application may have seen the request, its method must allow that.
func (x *Exchange) cause(said *observe.Code) dispatch.Cause {
	switch {
	case said == observe.AppConnectFailed:
		return dispatch.Connect
	case said != nil && said.Untouched:
		return dispatch.Refused
	case !x.asked.Idempotent():
		return ""
	case said == observe.Reset:
		return dispatch.Reset
	case said != nil:
		return ""
	}
	return dispatch.Status
}

// said is why the other agent answered in place of the application, if it did.
func (x *Exchange) said() *observe.Code {
	name, ok := x.response.Get("meshd-error")
	if !ok || x.call.Peer.Application() {
		return nil
	}
	if code := observe.Lookup(string(name)); code != nil {
		return code
	}
	return unknownCode
}

// unknownCode stands for those of agents of another version.
var unknownCode = &observe.Code{Name: "unknown", Status: 502, Sentence: "The called agent answered for a reason that this one does not know."}

// unanswered says why there is no answer.
func (x *Exchange) unanswered(err error) *failure {
	var refused *exchange.Error
	if e := x.attend.failed(); e != nil {
		x.call.Cancelled()
		return callerFailure(e)
	}
	switch {
	case errors.As(err, &refused):
		x.call.Failed()
		return &failure{Problem: &observe.Problem{Code: observe.BadResponse, Err: err}}
	case isTimeout(err):
		return x.late(err)
	case isAlert(err) && x.callee.Silent() && !x.callee.Reused():
		x.call.Failed()
		return &failure{Problem: &observe.Problem{Code: observe.Identity, Err: err}, cause: dispatch.Connect}
	}
	return x.broken(err)
}

// late says which time was up.
func (x *Exchange) late(err error) *failure {
	x.call.Failed()
	f := &failure{Problem: &observe.Problem{Code: observe.ResponseTimeout, Err: err}}
	if expired(x.deadline) {
		f.Code = observe.RequestTimeout
	} else if expired(x.tryEnd) && x.asked.Idempotent() {
		f.cause = dispatch.Timeout
	}
	return f
}

// broken says what follows from a connection that ended without an answer. The
// request is made once more only if its method promises that this does no
// harm, or if the peer has certainly not seen it.
func (x *Exchange) broken(err error) *failure {
	f := &failure{Problem: &observe.Problem{Code: observe.Reset, Err: err}}
	harmless := x.callee.Silent() && (x.asked.Idempotent() || x.callee.Untouched(err))
	switch {
	case harmless && x.callee.Reused():
		f.cause = dispatch.Stale
		return f
	case harmless:
		f.cause = dispatch.Reset
	}
	x.call.Failed()
	return f
}

// left says that the caller did not take what was sent to it.
func (x *Exchange) left(err error) *failure {
	x.call.Cancelled()
	return &failure{Problem: &observe.Problem{Code: observe.Cancelled, Err: err}, gone: true}
}

// isAlert finds what TLS 1.3 clients learn only when they read: that the server
// did not accept their certificate.
func isAlert(err error) bool {
	var e *net.OpError
	return errors.As(err, &e) && e.Op == "remote error"
}

// retryAfter is how long the application asks not to be called.
func retryAfter(r *exchange.Response) time.Duration {
	if r.Status != 429 && r.Status != 503 {
		return 0
	}
	value, ok := r.Get("retry-after")
	if !ok {
		return 0
	}
	if seconds, err := strconv.ParseUint(string(value), 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"
	if t, err := time.Parse(httpDate, string(value)); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}
