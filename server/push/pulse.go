package push

import (
	"context"
	"sync"
	"time"
)

// A pulse notices that nothing was heard for the length of a lease.
type pulse struct {
	mu    sync.Mutex
	timer *time.Timer
	last  time.Time
}

func (p *pulse) start(silent func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last, p.timer = time.Now(), time.AfterFunc(lease, silent)
}

func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	p.timer.Reset(lease)
}

func (p *pulse) stop() { p.timer.Stop() }

// left is what remains of the lease.
func (p *pulse) left() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.last.Add(lease))
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
