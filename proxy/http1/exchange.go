package http1

import (
	"errors"
	"time"

	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/http1/codec"
	"github.com/meshd/meshd/proxy/observe"
)

// An exchange is one request and its response. It is used again for the next
// one on its connection.
//
// The goroutine of the connection walks it from top to bottom. While it waits
// for the response, an attendant goroutine may send the rest of the body and
// see whether the caller is still there; what these two share is in attendant.
type exchange struct {
	*Conn
	request  codec.Request
	asked    dispatch.Request
	call     dispatch.Call
	body     requestBody
	up       upstream
	response codec.Response
	out      []byte // to the caller, borrowed
	attend   attendant

	began     time.Time // the head was complete
	deadline  time.Time // of all of it; zero is none
	tryEnd    time.Time // of the first byte of an answer to this try
	fresh     bool      // the next try needs a connection that has carried none
	answered  bool      // an answer has begun to go to the caller
	continued bool      // the caller was told to send the body
	keep      bool      // the caller's connection goes on
	lingers   bool      // it ends while the caller may still be sending
	interims  int       // responses before the answer that the caller was sent
	written   int64     // bytes of the response's body
	record    observe.Record
}

// A failure is why a try has not led to an answer.
type failure struct {
	*observe.Problem
	cause  dispatch.Cause // empty if another try would not help
	status int            // of a response that could still be passed on
	gone   bool           // the caller is
}

// serve answers the next request and reports whether the connection may go on.
func (x *exchange) serve() (again bool) {
	x.reset()
	defer x.release()
	head, ok, problem := x.readHead()
	if problem == nil && ok {
		problem = x.parse(head)
	}
	switch {
	case problem != nil:
		// Whatever follows cannot be told apart from the request.
		x.refuse(problem, false)
		x.lingers = true
	case !ok:
		return false
	default:
		again = x.run()
	}
	x.count()
	return again
}

func (x *exchange) reset() {
	x.began = time.Now()
	x.deadline, x.tryEnd = time.Time{}, time.Time{}
	x.fresh, x.answered, x.continued, x.keep, x.lingers = false, false, false, false, false
	x.interims, x.written = 0, 0
	x.record = observe.Record{}
	x.call = dispatch.Call{}
	x.request.Method, x.request.Path = nil, nil
	x.body.reset(&x.in, codec.Body{})
	x.out = borrow()
}

// release gives back what an exchange needs only while it lasts.
func (x *exchange) release() {
	x.call.End()
	x.up.close()
	x.body.release()
	x.in.forget()
	giveBack(x.out)
	x.out = nil
}

func (x *exchange) parse(head []byte) *observe.Problem {
	x.began = time.Now()
	r := &x.request
	if err := r.Parse(head); err != nil {
		return requestProblem(err)
	}
	x.body.reset(&x.in, r.Body())
	x.asked.Method, x.asked.Path, x.asked.Authority, x.asked.Fields = r.Method, r.Path, r.Authority, r
	return nil
}

// run leads the request to peers until one answers.
func (x *exchange) run() (again bool) {
	problem := x.Origin.Request(&x.call, &x.asked)
	if x.call.Timeouts.Request > 0 {
		x.deadline = x.began.Add(x.call.Timeouts.Request)
	}
	for {
		f := failureOf(problem)
		if problem == nil {
			f = x.try()
		}
		if f == nil {
			return x.finish()
		}
		var retry bool
		if retry, problem = x.again(f); !retry {
			return x.giveUp(f)
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
func (x *exchange) try() *failure {
	conn, problem := x.call.Connect(x.fresh)
	if problem != nil {
		f := failureOf(problem)
		if f.cause != "" {
			x.call.Failed()
		}
		return f
	}
	x.tryEnd = after(x.call.TryLimit())
	x.request.Path = x.asked.Path
	x.up.begin(conn)
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
func (x *exchange) again(f *failure) (again bool, problem *observe.Problem) {
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
		x.up.close()
	}
	return again, problem
}

// giveUp answers what can be answered after the last try.
func (x *exchange) giveUp(f *failure) (again bool) {
	switch {
	case f.gone, x.answered:
		x.record.Code, x.record.Err = f.Code, f.Err
		return false
	case f.status != 0:
		x.respond()
		return x.finish()
	}
	// Without the rest of the request, the next one cannot be found.
	x.refuse(f.Problem, x.drained())
	return x.finish()
}

// drained takes what is left of the request, if it is there already.
func (x *exchange) drained() bool {
	for !x.body.decoder.Done() {
		payload, err := x.body.next(false)
		if err != nil || len(payload) == 0 && !x.body.decoder.Done() {
			return false
		}
	}
	return true
}

// finish ends an exchange that was answered.
func (x *exchange) finish() (again bool) {
	x.lingers = !x.body.decoder.Done()
	return x.keep && !x.lingers
}

// keepsCaller reports whether the caller's connection goes on after this
// request, as far as can be told before its body has come.
func (x *exchange) keepsCaller() bool {
	return x.request.Persists() && x.lasts()
}

func expired(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// count lets observers know.
func (x *exchange) count() {
	r := &x.record
	edge := x.call.Edge
	if edge == nil {
		edge = x.Origin.Edge()
	}
	r.Method, r.Path = x.request.Method, x.request.Path
	r.Endpoint, r.Tries = x.call.Endpoint(), x.call.Tries
	if r.Took == 0 {
		r.Took = time.Since(x.began)
	}
	r.Sent, r.Received = x.body.size, x.written
	edge.Request(r)
}

// errGone says that a caller has left before it was answered.
var errGone = errors.New("the caller has left")

func orCode(p *observe.Problem) error {
	if p.Err != nil {
		return p.Err
	}
	return errors.New(p.Code.Sentence)
}
