package forward

import (
	"errors"
	"time"

	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/exchange"
	"github.com/meshd/meshd/proxy/observe"
)

// answerTimeout is how long a caller may take to take a refusal.
const answerTimeout = 10 * time.Second

// An Exchange is one request and its response. It can be used again for the next
// one.
//
// The goroutine of the caller walks it from top to bottom. While it waits for
// the response, an attendant goroutine may send the rest of the body and see
// whether the caller is still there; what these two share is in attendant.
type Exchange struct {
	Origin  dispatch.Origin
	Connect Connector
	// Until is when the caller's certificate ends; zero is never.
	Until time.Time

	caller   Caller
	callee   Callee // nil if there is none
	asked    dispatch.Request
	call     dispatch.Call
	body     requestBody
	response *exchange.Response
	attend   attendant
	grpc     grpcCall

	began     time.Time // the head was complete
	deadline  time.Time // of all of it; zero is none
	tryEnd    time.Time // of the first byte of an answer to this try
	fresh     bool      // the next try needs a connection that has carried none
	answered  bool      // an answer has begun to go to the caller
	continued bool      // the caller was told to send the body
	interims  int       // responses before the answer that the caller was sent
	written   int64     // bytes of the response's body
	writeErr  error     // what sending the request ended with
	record    observe.Record
}

// A failure is why a try has not led to an answer.
type failure struct {
	*observe.Problem
	cause  dispatch.Cause // empty if another try would not help
	status int            // of a response that could still be passed on
	gone   bool           // the caller is
}

// Begin prepares for a request of a caller, from when on it takes time.
func (x *Exchange) Begin(c Caller) {
	*x = Exchange{Origin: x.Origin, Connect: x.Connect, Until: x.Until, asked: x.asked, body: x.body, caller: c, began: time.Now()}
	x.asked.Request = nil
	x.body.reset(c)
}

// Run leads the request to peers until one answers, or refuses it. When it
// returns, all is over, but what the caller has not sent.
func (x *Exchange) Run(r *exchange.Request) {
	defer x.release()
	x.asked.Request = r
	x.run()
	x.count()
}

// Refuse answers a request that is none.
func (x *Exchange) Refuse(p *observe.Problem) {
	defer x.release()
	x.refuse(p, false)
	x.count()
}

// Answered reports whether anything was sent to the caller in answer.
func (x *Exchange) Answered() bool { return x.answered }

// release gives back what an exchange needs only while it lasts.
func (x *Exchange) release() {
	x.call.End()
	x.hangUp()
	x.body.release()
}

// hangUp ends the call to a peer, if there is one.
func (x *Exchange) hangUp() {
	if x.callee != nil {
		x.callee.Close()
		x.callee = nil
	}
}

// run leads the request to peers until one answers.
func (x *Exchange) run() {
	problem := x.Origin.Request(&x.call, &x.asked)
	x.deadline = x.grpc.begin(x.asked.Request, x.began)
	if x.call.Timeouts.Request > 0 {
		x.deadline = earlier(x.deadline, x.began.Add(x.call.Timeouts.Request))
	}
	for {
		f := failureOf(problem)
		if problem == nil {
			f = x.try()
		}
		if f == nil {
			return
		}
		var retry bool
		if retry, problem = x.again(f); !retry {
			x.giveUp(f)
			return
		}
	}
}

// failureOf says whether it would help to try elsewhere after a problem before
// anything was sent.
func failureOf(p *observe.Problem) *failure {
	if p == nil {
		return nil
	}
	f := &failure{Problem: p}
	switch p.Code {
	case observe.NotHere:
		f.cause = dispatch.Refused
	case observe.ConnectFailed, observe.AppConnectFailed, observe.Identity:
		f.cause = dispatch.Connect
	}
	return f
}

// try sends the request to one peer and passes the answer on.
func (x *Exchange) try() *failure {
	callee, problem := x.Connect(&x.call, x.fresh)
	if problem != nil {
		f := failureOf(problem)
		if f.cause != "" {
			x.call.Failed()
		}
		return f
	}
	x.tryEnd = after(x.call.TryLimit())
	x.hangUp()
	x.callee, x.writeErr = callee, nil
	x.send()
	if f := x.receive(); f != nil {
		return f
	}
	x.respond()
	return nil
}

// again begins another try after a failure, if that is of use and harmless.
// What the caller was sent before an answer is of the instance that was to give
// it, and of no other.
func (x *Exchange) again(f *failure) (again bool, problem *observe.Problem) {
	if f.cause == "" || x.answered || x.interims > 0 || expired(x.deadline) || x.body.lost {
		return false, nil
	}
	x.fresh = f.cause == dispatch.Stale
	if x.fresh {
		again = true
		x.call.CountStale()
	} else {
		again, problem = x.call.Again(f.cause, f.status)
	}
	if again {
		x.body.rewind()
		x.hangUp()
	}
	return again, problem
}

// giveUp answers what can be answered after the last try.
func (x *Exchange) giveUp(f *failure) {
	switch {
	case f.gone, x.answered:
		x.record.Code, x.record.Err = f.Code, f.Err
	case f.status != 0:
		x.respond()
	default:
		// Without the rest of the request, the next one may not be found.
		x.refuse(f.Problem, x.drained())
	}
}

// drained takes what is left of the request, if it is there already.
func (x *Exchange) drained() bool {
	for !x.caller.Ended() {
		payload, err := x.body.next(false)
		if err != nil || len(payload) == 0 && !x.caller.Ended() {
			return false
		}
	}
	return true
}

// refuse answers in place of an application.
func (x *Exchange) refuse(p *observe.Problem, drained bool) {
	x.record.Status, x.record.Code, x.record.Err = p.Code.Status, p.Code, orCode(p)
	x.answered = true
	x.caller.SetWriteDeadline(after(answerTimeout))
	x.caller.Refuse(p, drained)
}

func expired(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// count lets observers know.
func (x *Exchange) count() {
	r := &x.record
	edge := x.call.Edge
	if edge == nil {
		edge = x.Origin.Edge()
	}
	if q := x.asked.Request; q != nil {
		r.Method, r.Path = q.Method, q.Path
	}
	r.Endpoint, r.Tries = x.call.Endpoint(), x.call.Tries
	if r.Took == 0 {
		r.Took = time.Since(x.began)
	}
	r.Sent, r.Received = x.body.size, x.written
	edge.Request(r)
}

func orCode(p *observe.Problem) error {
	if p.Err != nil {
		return p.Err
	}
	return errors.New(p.Code.Sentence)
}

// Deadlines that are over, and that never come.
var (
	past       = time.Unix(1, 0)
	noDeadline time.Time
)

// after is a deadline some time from now; 0 is none.
func after(d time.Duration) (t time.Time) {
	if d > 0 {
		t = time.Now().Add(d)
	}
	return t
}

// earlier is the earlier of two deadlines.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
