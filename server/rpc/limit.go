package rpc

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// Joining is rare, so that whoever asks more often is guessing or broken.
	joinRate, joinBurst         = 2, 20 // of one source, a second
	allJoinsRate, allJoinsBurst = 50, 500
	failureRate, failureBurst   = 1, 20    // of one source: attempts with no valid access token
	changeRate, changeBurst     = 100, 500 // of one caller that bears an access token
	maxLimited                  = 10_000   // sources or callers that are remembered
)

// A limiter holds each of many, by their names, to a rate.
type limiter struct {
	rate  rate.Limit // a second
	burst int

	mu    sync.Mutex
	known map[string]*rate.Limiter
}

func newLimiter(r rate.Limit, burst int) *limiter {
	return &limiter{rate: r, burst: burst, known: map[string]*rate.Limiter{}}
}

// take counts one event of somebody. wait is 0 when it may happen, else how long
// until it might.
func (l *limiter) take(name string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.of(name, now); !b.AllowN(now, 1) {
		return l.until(b, now)
	}
	return 0
}

// ask is take without an event.
func (l *limiter) ask(name string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.known[name]; b != nil && b.TokensAt(now) < 1 {
		return l.until(b, now)
	}
	return 0
}

func (l *limiter) until(b *rate.Limiter, now time.Time) time.Duration {
	return time.Duration((1 - b.TokensAt(now)) / float64(l.rate) * float64(time.Second))
}

func (l *limiter) of(name string, now time.Time) *rate.Limiter {
	b := l.known[name]
	if b == nil {
		if len(l.known) >= maxLimited {
			l.forget(now)
		}
		b = rate.NewLimiter(l.rate, l.burst)
		l.known[name] = b
	}
	return b
}

// forget drops those that have their whole burst again, and all of them when
// that is not enough.
func (l *limiter) forget(now time.Time) {
	for name, b := range l.known {
		if b.TokensAt(now) >= float64(l.burst) {
			delete(l.known, name)
		}
	}
	if len(l.known) >= maxLimited {
		clear(l.known)
	}
}

// A joinLimiter bounds how often hosts may try to join: each source, and all of
// them together.
type joinLimiter struct {
	total   *rate.Limiter
	sources *limiter
}

func newJoinLimiter() *joinLimiter {
	return &joinLimiter{rate.NewLimiter(allJoinsRate, allJoinsBurst), newLimiter(joinRate, joinBurst)}
}

// take counts one attempt, as limiter.take does. One source over its limit does
// not use up what is there for all.
func (l *joinLimiter) take(source string, now time.Time) (wait time.Duration) {
	if wait = l.sources.take(source, now); wait == 0 && !l.total.AllowN(now, 1) {
		wait = time.Second
	}
	return wait
}
