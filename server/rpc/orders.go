package rpc

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How many certificates are made, a second. A host needs all of its own at once
// when it starts or when the mesh changes its root, and else about one a day and
// service.
const (
	orderRate                     = 1.0
	orderSpare                    = 10 // beyond twice what a host needs at once
	allOrdersRate, allOrdersBurst = 1000, 4000
	// refusalInterval is how often a refusal of one host is recorded.
	refusalInterval = time.Minute
)

// An orderLimiter bounds how many certificates hosts may ask for: each, and all
// of them together.
type orderLimiter struct {
	total *rate.Limiter
	told  *limiter // refusals that are recorded

	mu    sync.Mutex
	hosts map[string]*orders // by node id
}

// orders are what one host had signed of late. How much it may have changes with
// what it runs, so that it is what was used that is kept.
type orders struct {
	used float64
	at   time.Time
}

func newOrderLimiter() *orderLimiter {
	return &orderLimiter{
		total: rate.NewLimiter(allOrdersRate, allOrdersBurst),
		told:  newLimiter(rate.Every(refusalInterval), 1), hosts: map[string]*orders{},
	}
}

// take counts n certificates for a host that needs so many at once. wait is 0 when
// they may be made, else how long until they might. One host over its limit does
// not use up what is there for all.
func (l *orderLimiter) take(node string, n, needs int, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.of(node, now)
	used := h.left(now) + float64(n)
	if over := used - float64(2*needs+orderSpare); over > 0 {
		return time.Duration(over / orderRate * float64(time.Second))
	}
	if !l.total.AllowN(now, n) {
		return time.Second
	}
	h.used, h.at = used, now
	return 0
}

func (h *orders) left(now time.Time) float64 {
	return max(0, h.used-orderRate*now.Sub(h.at).Seconds())
}

func (l *orderLimiter) of(node string, now time.Time) *orders {
	h := l.hosts[node]
	if h == nil {
		if len(l.hosts) >= maxLimited {
			l.forget(now)
		}
		h = &orders{}
		l.hosts[node] = h
	}
	return h
}

// forget drops those that have asked for nothing of late.
func (l *orderLimiter) forget(now time.Time) {
	for node, h := range l.hosts {
		if h.left(now) == 0 {
			delete(l.hosts, node)
		}
	}
}
