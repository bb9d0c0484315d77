package balance

import (
	"time"

	"github.com/meshd/meshd/proxy/plan"
)

const (
	// failureLatency is what a failed call counts as, so that an endpoint that
	// fails fast attracts nothing.
	failureLatency = 5 * time.Second
	maxRetryAfter  = 300 * time.Second
	// A probe that its caller gave up on after this long has failed.
	patience = time.Second
)

// An Outcome is what a call showed of its endpoint.
type Outcome uint8

const (
	// Success: it answered.
	Success Outcome = iota
	// Failure: it did not answer, or with an error of its own.
	Failure
	// Overloaded: it asked to be spared. It is avoided, but not ejected.
	Overloaded
	// Cancelled: the caller gave up first.
	Cancelled
)

// A Call is under way to an endpoint from Pick to Release.
type Call struct {
	Endpoint *plan.Endpoint
	// Probe says that this one call decides whether the endpoint is called
	// again; it must have a result within ProbeTimeout.
	Probe bool

	set   *Set
	state *endpoint
	start time.Duration
	era   uint32
}

// Restart has the latency measured from now on: what has passed until then, such
// as opening a connection, says little about how fast the endpoint answers.
func (c *Call) Restart(now time.Duration) { c.start = now }

// Result says how the call went, once the first byte of the answer is there or
// none will come. A later one, about the rest of the answer, is a failure or
// nothing. retryAfter is how long the endpoint asked not to be called, or 0.
func (c *Call) Result(now time.Duration, o Outcome, retryAfter time.Duration) {
	took := now - c.start
	switch o {
	case Success:
		c.state.latency.observe(now, took)
		c.set.group.slowest.observe(now, took)
	case Cancelled:
		c.state.latency.raise(now, took)
	case Failure, Overloaded:
		c.state.latency.raise(now, c.penalty(now, max(took, min(retryAfter, maxRetryAfter))))
	}
	c.judge(now, o, took)
}

// Release ends the call.
func (c *Call) Release() { c.state.inFlight.Add(-1) }

// penalty stays within reach of real latencies, so that an endpoint is not
// avoided for minutes after it recovered.
func (c *Call) penalty(now, least time.Duration) time.Duration {
	slowest := time.Duration(c.set.group.slowest.read(now) * float32(time.Millisecond))
	return max(min(failureLatency, 2*slowest), least)
}

// judge lets the breaker know. Calls from before its last change have no say.
func (c *Call) judge(now time.Duration, o Outcome, took time.Duration) {
	b := &c.state.breaker
	if c.era != b.era.Load() || !c.set.breaks() {
		return
	}
	switch {
	case c.Probe:
		c.judgeProbe(now, o, took)
	case !b.is(closed) || o == Cancelled || o == Overloaded:
	case b.count(now, o == Failure, &c.set.cluster.Breaker):
		c.set.change(c.state, func() (EventKind, bool) {
			if !b.is(closed) {
				return 0, false
			}
			b.eject(now, c.set.registry.random())
			return Ejected, true
		})
	}
}

func (c *Call) judgeProbe(now time.Duration, o Outcome, took time.Duration) {
	b := &c.state.breaker
	c.set.change(c.state, func() (EventKind, bool) {
		switch {
		case !b.is(probing):
			return 0, false
		case o == Cancelled && took < patience:
			// It showed nothing: the next call is to be the probe.
			b.until = now
			b.become(open)
			return 0, false
		case o == Success, o == Overloaded:
			b.restore(now)
			return Recovered, true
		}
		b.eject(now, c.set.registry.random())
		return Ejected, true
	})
}

// breaks reports whether endpoints of the set can be ejected at all.
func (s *Set) breaks() bool { return s.cluster.Breaker.MaxEjected > 0 }

// change changes the breaker of an endpoint and tells everybody.
func (s *Set) change(e *endpoint, f func() (EventKind, bool)) {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	kind, told := f()
	s.group.generation.Add(1)
	if told {
		s.registry.notify(Event{Kind: kind, Service: s.group.service, Endpoint: e.key})
	}
}
