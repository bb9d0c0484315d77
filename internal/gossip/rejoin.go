package gossip

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// rejoinEvery is how often lost members are called.
const rejoinEvery = 5 * time.Second

// A rejoiner calls the dead: memberlist forgets them after half a minute, so
// that the halves of a longer partition would never find each other again.
type rejoiner struct {
	list    *memberlist.Memberlist
	seen    *roster
	self    string
	ctx     context.Context
	halt    context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	seeds []string // what Join was given
}

func startRejoiner(list *memberlist.Memberlist, seen *roster, self string) *rejoiner {
	r := &rejoiner{list: list, seen: seen, self: self}
	r.ctx, r.halt = context.WithCancel(context.Background())
	r.running.Go(r.run)
	return r
}

func (r *rejoiner) remember(addresses []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seeds = slices.Clone(addresses)
}

func (r *rejoiner) run() {
	tick := time.NewTicker(rejoinEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		for _, address := range r.lost() {
			if r.ctx.Err() != nil {
				return
			}
			// That it fails is usual; memberlist logs it for who debugs.
			_, _ = r.list.Join([]string{address})
		}
	}
}

// lost are the addresses of those who are gone, and the seeds while nobody else is alive.
func (r *rejoiner) lost() (addresses []string) {
	alone := true
	for _, m := range r.seen.members() {
		switch {
		case m.State != Alive:
			addresses = append(addresses, m.Address.String())
		case m.ID != r.self:
			alone = false
		}
	}
	if alone {
		r.mu.Lock()
		defer r.mu.Unlock()
		addresses = append(addresses, r.seeds...)
	}
	slices.Sort(addresses)
	return slices.Compact(addresses)
}
