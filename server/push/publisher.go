package push

import (
	"context"
	"sync"
	"time"

	"github.com/meshd/meshd/store/state"
)

const (
	// settle is how long a change waits for those that come with it.
	settle = 10 * time.Millisecond
	// pacePerAgent is how long one edition is in force at the least, for each
	// agent that is told of it: under steady change the work of telling them
	// must not grow without bound.
	pacePerAgent = 100 * time.Microsecond
	maxPace      = time.Second
	// catchUp is how long a server may take to come as far as an agent's slice
	// before it sends another whole one, and catchUpPause between two looks.
	catchUp      = 2 * time.Second
	catchUpPause = 50 * time.Millisecond
)

// A publisher makes an edition of the state whenever something changed that
// agents are told of, and no more often than they can be told.
type publisher struct {
	local   func() *state.Txn
	agents  func() int
	builder *builder

	mu      sync.Mutex
	now     *edition
	changed chan struct{} // closed and made anew with every edition that tells something new
}

func newPublisher(local func() *state.Txn, agents func() int) *publisher {
	p := &publisher{local: local, agents: agents, builder: newBuilder(), changed: make(chan struct{})}
	p.now = newEdition(local(), p.builder)
	return p
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context) {
	for {
		var ws state.WatchSet
		published := p.publish(&ws)
		began := time.Now()
		if ws.Wait(ctx) != nil {
			return
		}
		pace := settle
		if published {
			pace = max(settle, p.pace()-time.Since(began))
		}
		sleep(ctx, pace)
	}
}

func (p *publisher) pace() time.Duration {
	return min(maxPace, time.Duration(p.agents())*pacePerAgent)
}

// publish makes the state as it is now the present edition, and reports whether
// it says anything new. ws wakes when that may have changed.
func (p *publisher) publish(ws *state.WatchSet) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := newEdition(p.local(), p.builder)
	news := e.differs(p.now, ws)
	if e.version >= p.now.version {
		p.now = e
	}
	if news {
		close(p.changed)
		p.changed = make(chan struct{})
	}
	return news
}

// differs reports whether agents are to be told of anything since another
// edition.
func (e *edition) differs(from *edition, ws *state.WatchSet) bool {
	c := e.work(from.version, ws)
	e.changes[from.version] = c
	_, version := e.txn.MeshConfig(ws)
	_, before := from.txn.MeshConfig(nil)
	authority := e.txn.Authority(ws).GetModifyIndex()
	restored := e.txn.RestoredIndex(ws) != from.txn.RestoredIndex(nil)
	return restored || !c.none() || version != before || authority != from.txn.Authority(nil).GetModifyIndex()
}

// current gives the present edition, which must not be kept, and a channel that
// is closed when there is a newer one.
func (p *publisher) current() (*edition, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now, p.changed
}

// reach gives this server a moment to come as far as an agent has come with
// another one.
func (p *publisher) reach(ctx context.Context, version uint64) {
	for end := time.Now().Add(catchUp); ctx.Err() == nil; sleep(ctx, catchUpPause) {
		if e, _ := p.current(); e.version >= version || !time.Now().Before(end) {
			return
		}
		if p.local().Index(nil) >= version {
			p.publish(nil)
		}
	}
}
