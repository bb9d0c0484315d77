package rpc

import (
	"sync"
	"time"
)

// Joining is rare, so that whoever asks more often is guessing or broken.
const (
	sourceRate  = 2.0 // a second
	sourceBurst = 20
	totalRate   = 50.0
	totalBurst  = 500
	maxSources  = 10_000
)

// A joinLimiter bounds how often hosts may try to join: each source, and all of
// them together.
type joinLimiter struct {
	mu      sync.Mutex
	total   bucket
	sources map[string]*bucket
}

func newJoinLimiter() *joinLimiter {
	return &joinLimiter{sources: map[string]*bucket{}}
}

// allow counts one attempt and says whether it may be made.
func (l *joinLimiter) allow(source string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.sources[source]
	if !ok {
		if len(l.sources) >= maxSources {
			l.forget(now)
		}
		b = &bucket{}
		l.sources[source] = b
	}
	// One source over its limit must not use up what is there for all.
	return b.take(now, sourceRate, sourceBurst) && l.total.take(now, totalRate, totalBurst)
}

// forget drops the sources that have their whole burst again, and all of them
// when that is not enough: the limit over all still holds.
func (l *joinLimiter) forget(now time.Time) {
	for source, b := range l.sources {
		if b.level(now, sourceRate) == 0 {
			delete(l.sources, source)
		}
	}
	if len(l.sources) >= maxSources {
		clear(l.sources)
	}
}

// A bucket fills with every attempt and leaks at a rate.
type bucket struct {
	filled float64
	at     time.Time
}

func (b *bucket) level(now time.Time, rate float64) float64 {
	return max(0, b.filled-rate*now.Sub(b.at).Seconds())
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	level := b.level(now, rate)
	if level+1 > burst {
		return false
	}
	b.filled, b.at = level+1, now
	return true
}
