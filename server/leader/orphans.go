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

// askTimeout is how long a server that seems dead may take to say otherwise.
const askTimeout = time.Second

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
	l.acquit(ctx, o, dead)
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

// acquit asks those that are to be taken for dead: one that still answers has
// only been lost by gossip. It would take its leases back at once, and its hosts
// would come and go. It is asked again after a while.
func (l *Loops) acquit(ctx context.Context, o *orphans, dead map[string]bool) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var asking sync.WaitGroup
	var mu sync.Mutex
	for _, s := range l.cfg.Replica.Local().Servers(nil) {
		if !dead[s.Id] {
			continue
		}
		asking.Go(func() {
			if _, err := l.cfg.Replica.Progress(ctx, s.Id, s.Address); err != nil {
				return
			}
			l.log.Warn("gossip takes a server for dead, and it answers: its hosts stay with it; let UDP and TCP through to its gossip port", "server", s.Name, "gossip_address", s.GossipAddress)
			mu.Lock()
			defer mu.Unlock()
			dead[s.Id], o.since[s.Id] = false, time.Now()
		})
	}
	asking.Wait()
}

func (l *Loops) endLease(ctx context.Context, n *apiv1.Node) {
	err := l.propose(ctx, &command.EndLease{NodeId: n.Id, Epoch: n.LeaseEpoch, State: apiv1.NodeState_NODE_STATE_LOST})
	if err != nil {
		l.log.Error("the lease of a dead server could not be ended; trying again", "node", n.Name, "error", err)
		return
	}
	l.log.Warn("host lost: the server that held its stream died, and it came to no other", "node", n.Name, "server", n.LeaseServer)
}
