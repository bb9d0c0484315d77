package forward

import (
	"sync"
	"time"
)

const (
	// patience is how long an answer may take before somebody looks whether the
	// caller is still there.
	patience = time.Second
	// grace is how long the rest of a body may take to arrive once the answer
	// is complete.
	grace = 500 * time.Millisecond
)

// An attendant is a goroutine that is with the caller while the answer is
// waited for and passed on: it sends the rest of the body, and then sees whether
// the caller leaves. While it lives, nobody else reads from the caller or
// writes to the peer.
type attendant struct {
	done    chan struct{} // closed when the goroutine has ended; nil if there is none
	settled chan struct{} // closed when it has sent all of the body that it will

	mu       sync.Mutex
	stopping bool
	answered bool      // the answer has begun
	sentAt   time.Time // when the request was sent to its end
	err      error     // what went wrong on the caller's side
}

func (a *attendant) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.done, a.stopping, a.answered, a.sentAt, a.err = nil, false, false, time.Time{}, nil
}

// start starts the goroutine, with payload that is still to be sent.
func (a *attendant) start(x *Exchange, left []byte) {
	a.done, a.settled = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(a.done)
		if err := a.run(x, left); err != nil && a.fail(err) {
			// Whoever waits for the answer has nothing more to wait for, and
			// the peer must not take the request for complete.
			x.callee.Abort()
		}
	}()
}

func (a *attendant) run(x *Exchange, left []byte) error {
	err := x.sendRest(left)
	close(a.settled)
	if err != nil || !x.body.done() || x.writeErr != nil {
		return err
	}
	a.sent(x)
	if !a.unlessStopping(func() { x.caller.SetReadDeadline(noDeadline) }) {
		return nil
	}
	return x.caller.Leaves()
}

// stop ends the goroutine and waits for that.
func (a *attendant) stop(x *Exchange) {
	if a.done == nil {
		return
	}
	a.mu.Lock()
	a.stopping = true
	x.caller.SetReadDeadline(past)
	x.callee.SetWriteDeadline(past)
	a.mu.Unlock()
	<-a.done
	a.done = nil
	x.caller.SetReadDeadline(noDeadline)
	x.callee.SetWriteDeadline(noDeadline)
}

// settle ends the goroutine once the answer is complete. The rest of a body may
// be just about to come.
func (a *attendant) settle(x *Exchange) {
	if a.done != nil && !a.isSent() {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-a.settled:
		case <-t.C:
		}
	}
	a.stop(x)
}

// unlessStopping does something about deadlines, which stop has the last word on.
func (a *attendant) unlessStopping(do func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping {
		return false
	}
	do()
	return true
}

// fail notes what went wrong, unless it is that the goroutine is to stop.
func (a *attendant) fail(err error) bool {
	return a.unlessStopping(func() { a.err = err })
}

func (a *attendant) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// sent notes that the request is complete, from when on the answer has only so
// much time.
func (a *attendant) sent(x *Exchange) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sentAt.IsZero() {
		a.sentAt = time.Now()
	}
	if !a.answered && a.done != nil {
		x.callee.SetReadDeadline(a.limit(x))
	}
}

func (a *attendant) isSent() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.sentAt.IsZero()
}

// begun notes that the answer has begun.
func (a *attendant) begun() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answered = true
}

// arm sets the deadline for the answer to begin, and returns it. While there is
// no goroutine it comes early, so that one can be started.
func (a *attendant) arm(x *Exchange) (limit time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	limit = a.limit(x)
	if a.done == nil {
		x.callee.SetReadDeadline(earlier(after(patience), limit))
	} else {
		x.callee.SetReadDeadline(limit)
	}
	return limit
}

func (a *attendant) limit(x *Exchange) time.Time {
	limit := earlier(x.deadline, x.tryEnd)
	if !a.sentAt.IsZero() && x.call.Timeouts.Response > 0 {
		limit = earlier(limit, a.sentAt.Add(x.call.Timeouts.Response))
	}
	return limit
}
