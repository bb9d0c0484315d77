package balance

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/meshd/meshd/proxy/plan"
)

const (
	firstEjection = time.Second
	maxEjection   = time.Minute
	jitter        = 0.5
	// ProbeTimeout is how long the one call may take that decides about an
	// ejected endpoint.
	ProbeTimeout = 5 * time.Second
	// minCalls must have been made within the window before their success rate
	// means anything.
	minCalls = 5
)

// A gate is what a breaker lets through.
type gate uint32

const (
	closed  gate = iota // all calls
	open                // none
	probing             // one, which is under way
)

// A breaker counts failures of one endpoint. Counting takes no lock; changes of
// the gate are made under the lock of the group.
type breaker struct {
	gate atomic.Uint32
	// era numbers the periods between changes of the gate, so that calls begun
	// in an earlier one have no say.
	era         atomic.Uint32
	consecutive atomic.Int32
	ring        [buckets]atomic.Uint64

	// Of the group's lock.
	until  time.Duration // next probe, or end of the one under way
	length time.Duration // of the last ejection, without jitter
	since  time.Duration // last recovery
}

func (b *breaker) is(g gate) bool { return gate(b.gate.Load()) == g }

func (b *breaker) become(g gate) {
	b.era.Add(1)
	b.gate.Store(uint32(g))
}

// count takes the result of a call in and reports whether it is one too many.
func (b *breaker) count(now time.Duration, failed bool, limits *plan.Breaker) bool {
	b.bucket(now, limits.Window, failed)
	if !failed {
		if b.consecutive.Load() != 0 {
			b.consecutive.Store(0)
		}
		return false
	}
	n := b.consecutive.Add(1)
	return limits.Consecutive > 0 && int(n) >= limits.Consecutive || b.tooFew(now, limits)
}

// eject leaves the endpoint out for a while: longer each time, unless it did
// well for longer than it had been out.
func (b *breaker) eject(now time.Duration, random uint64) {
	if b.is(closed) && now-b.since > b.length {
		b.length = 0
	}
	b.length = min(max(2*b.length, firstEjection), maxEjection)
	share := jitter * float64(random) / math.MaxUint64
	b.until = now + min(b.length+time.Duration(share*float64(b.length)), maxEjection)
	b.become(open)
}

// restore takes calls again, as if nothing had been.
func (b *breaker) restore(now time.Duration) {
	b.since = now
	b.consecutive.Store(0)
	for i := range b.ring {
		b.ring[i].Store(0)
	}
	b.become(closed)
}

// The window is a ring of buckets. Each is one word, with the number of its
// interval so that one left over from the last round is known to be stale:
// interval (24 bits), successes (20 bits), failures (20 bits).
const buckets = 10

const (
	countBits = 20
	maxCount  = 1<<countBits - 1
)

func interval(now, window time.Duration) uint64 {
	return uint64(now/(max(window, buckets)/buckets)) & (1<<24 - 1)
}

func (b *breaker) bucket(now, window time.Duration, failed bool) {
	if window <= 0 {
		return
	}
	at := interval(now, window)
	one := uint64(1) << countBits
	if failed {
		one = 1
	}
	slot := &b.ring[at%buckets]
	for {
		old := slot.Load()
		next := old + one
		if old>>(2*countBits) != at {
			next = at<<(2*countBits) + one
		} else if old&maxCount == maxCount || old>>countBits&maxCount == maxCount {
			return
		}
		if slot.CompareAndSwap(old, next) {
			return
		}
	}
}

// tooFew reports whether the share of successes in the window is below the limit.
func (b *breaker) tooFew(now time.Duration, limits *plan.Breaker) bool {
	if limits.SuccessRate <= 0 || limits.Window <= 0 {
		return false
	}
	var good, all uint64
	at := interval(now, limits.Window)
	for i := range b.ring {
		word := b.ring[i].Load()
		if (at-word>>(2*countBits))&(1<<24-1) < buckets {
			good += word >> countBits & maxCount
			all += word>>countBits&maxCount + word&maxCount
		}
	}
	return all >= minCalls && float64(good) < limits.SuccessRate*float64(all)
}
