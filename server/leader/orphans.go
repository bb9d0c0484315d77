package leader

import (
	"context"
	"sync"
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// parallel is how many leases are ended at a time: many writes that are
// proposed together cost little more than one.
const parallel = 32

// orphans knows since when servers are dead.
type orphans struct {
	notBefore time.Time
	since     map[string]time.Time // by server id
}

func newOrphans(notBefore time.Time) *orphans {
	return &orphans{notBefore, map[string]time.Time{}}
}

// dead gives the servers that have been dead for long enough.
func (o *orphans) dead(now time.Time, holders, alive map[string]bool) map[string]bool {
	dead := map[string]bool{}
	for id := range holders {
		if alive[id] {
			delete(o.since, id)
			continue
		}
		if _, known := o.since[id]; !known {
			o.since[id] = now
		}
		dead[id] = !now.Before(o.notBefore) && now.Sub(o.since[id]) >= deadFor
	}
	for id := range o.since {
		if !holders[id] {
			delete(o.since, id)
		}
	}
	return dead
}

// endOrphans ends the leases of hosts whose server died and that have not gone
// to another one.
func (l *Loops) endOrphans(ctx context.Context, o *orphans) {
	nodes := l.cfg.Replica.Local().Nodes(nil)
	holders := map[string]bool{}
	for _, n := range nodes {
		if n.State == apiv1.NodeState_NODE_STATE_ALIVE {
			holders[n.LeaseServer] = true
		}
	}
	dead := o.dead(time.Now(), holders, l.alive())
	var ending sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for _, n := range nodes {
		if n.State != apiv1.NodeState_NODE_STATE_ALIVE || !dead[n.LeaseServer] {
			continue
		}
		slots <- struct{}{}
		ending.Go(func() {
			defer func() { <-slots }()
			l.endLease(ctx, n)
		})
	}
	ending.Wait()
}

func (l *Loops) endLease(ctx context.Context, n *apiv1.Node) {
	err := l.propose(ctx, &command.EndLease{NodeId: n.Id, Epoch: n.LeaseEpoch, State: apiv1.NodeState_NODE_STATE_LOST})
	if err != nil {
		l.log.Error("the lease of a dead server could not be ended; trying again", "node", n.Name, "error", err)
		return
	}
	l.log.Warn("host lost: the server that held its stream died, and it came to no other", "node", n.Name, "server", n.LeaseServer)
}
