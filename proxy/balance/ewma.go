package balance

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	decayTime = 10 * time.Second
	// Below this, latencies are all alike and only calls in flight count.
	leastLatency = 100 * time.Microsecond
	// seedLatency is what an endpoint starts with when none is known yet.
	seedLatency = 30 * time.Millisecond
)

// An ewma is a peak-sensitive moving average of latencies: it jumps up to a
// slower sample at once and drifts down to faster ones. Reading it decays it as
// well, so that endpoints that are equally fast stay equal however often each
// is chosen.
//
// It is one word: the average in milliseconds as a float32, and the time of the
// last change in milliseconds, which wraps round after 49 days.
type ewma struct{ word atomic.Uint64 }

func pack(average float32, clock uint32) uint64 {
	return uint64(math.Float32bits(average))<<32 | uint64(clock)
}

func unpack(word uint64) (average float32, clock uint32) {
	return math.Float32frombits(uint32(word >> 32)), uint32(word)
}

func clockOf(now time.Duration) uint32 { return uint32(now / time.Millisecond) }

func millis(d time.Duration) float32 {
	return float32(max(d, leastLatency)) / float32(time.Millisecond)
}

// keep is how much of an average is left after some milliseconds.
func keep(ms int32) float32 {
	if ms <= 0 {
		return 1
	}
	return float32(math.Exp(-float64(ms) / float64(decayTime.Milliseconds())))
}

func (e *ewma) set(now time.Duration, d time.Duration) {
	e.word.Store(pack(millis(d), clockOf(now)))
}

// read returns the average in milliseconds.
func (e *ewma) read(now time.Duration) float32 {
	old := e.word.Load()
	average, clock := unpack(old)
	passed := int32(clockOf(now) - clock)
	if passed <= 0 {
		return average
	}
	average = max(average*keep(passed), millis(0))
	// Whoever is first has decayed it for all.
	e.word.CompareAndSwap(old, pack(average, clock+uint32(passed)))
	return average
}

// observe takes a sample in.
func (e *ewma) observe(now, sample time.Duration) {
	e.update(now, millis(sample), func(average, sample, kept float32) float32 {
		return average*kept + sample*(1-kept)
	})
}

// raise takes a sample in that can only make matters look worse.
func (e *ewma) raise(now, sample time.Duration) {
	e.update(now, millis(sample), func(average, _, _ float32) float32 { return average })
}

func (e *ewma) update(now time.Duration, sample float32, faster func(average, sample, kept float32) float32) {
	for {
		old := e.word.Load()
		average, clock := unpack(old)
		passed := max(int32(clockOf(now)-clock), 0)
		next := sample
		if sample < average {
			next = faster(average, sample, keep(passed))
		}
		if e.word.CompareAndSwap(old, pack(next, clock+uint32(passed))) {
			return
		}
	}
}
