package dispatch

import (
	"sync/atomic"
	"time"
)

// budgetWindow is how much of the allowance per second can be saved up.
const budgetWindow = 10 * time.Second

// A budget limits the retries to one service: a share of its calls, and some
// every second besides, so that retries cannot multiply the load on a service
// that is failing under it.
type budget struct {
	balance atomic.Int64 // in thousandths of a retry
	filled  atomic.Int64 // when the allowance was last added
}

const oneRetry = 1000

func newBudget(now time.Duration, perSecond float64) *budget {
	b := &budget{}
	b.filled.Store(int64(now))
	b.balance.Store(int64(perSecond * budgetWindow.Seconds() * oneRetry))
	return b
}

// limit is what can be saved up.
func limit(perSecond float64) int64 {
	const least = 10 * oneRetry
	return max(int64(perSecond*budgetWindow.Seconds()*oneRetry), least)
}

// deposit adds a call's share.
func (b *budget) deposit(ratio, perSecond float64) {
	if share := int64(ratio * oneRetry); share > 0 && b.balance.Load() < limit(perSecond) {
		b.balance.Add(share)
	}
}

// withdraw takes one retry out, if there is one.
func (b *budget) withdraw(now time.Duration, perSecond float64) bool {
	b.fill(now, perSecond)
	if b.balance.Add(-oneRetry) >= 0 {
		return true
	}
	b.balance.Add(oneRetry)
	return false
}

func (b *budget) fill(now time.Duration, perSecond float64) {
	last := b.filled.Load()
	if int64(now) > last && b.filled.CompareAndSwap(last, int64(now)) {
		b.balance.Add(int64(time.Duration(int64(now)-last).Seconds() * perSecond * oneRetry))
	}
	if over := b.balance.Load() - limit(perSecond); over > 0 {
		b.balance.Add(-over)
	}
}
