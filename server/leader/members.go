package leader

import (
	"context"

	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/store"
)

// reconcile makes the members of Raft the servers of the state: those that are
// awaitKnown waits until a server knows that it was removed, if it can be told:
// otherwise it would stand for election until its data is moved away.
func (l *Loops) awaitKnown(ctx context.Context, m store.Member) {
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	target := l.cfg.Store.Committed()
	for ctx.Err() == nil {
		p, err := l.cfg.Replica.Progress(ctx, m.ID, m.Address)
		if err != nil || p.Applied >= target {
			return
		}
		sleep(ctx, proveInterval)
	}
}

// alive are added, those that were removed are dropped. One that was admitted
// and never came up, or does not answer, has no vote, so that it cannot cost the
// majority.
func (l *Loops) reconcile(ctx context.Context) {
	members, err := l.cfg.Store.Servers()
	if err != nil {
		l.log.Error("the members of Raft could not be read", "error", err)
		return
	}
	present, voters := map[string]store.Member{}, 0
	for _, m := range members {
		present[m.ID] = m
		if m.Voter {
			voters++
		}
	}
	servers := l.cfg.Replica.Local().Servers(nil)
	if len(servers) == 0 {
		return // no mesh yet
	}
	alive := l.alive()
	for _, s := range servers {
		if m := present[s.Id]; (m.Address != s.Address || !m.Voter) && alive[s.Id] {
			if l.admit(ctx, s, m, voters) {
				voters++
			}
		}
		delete(present, s.Id)
	}
	for _, m := range members {
		if _, gone := present[m.ID]; gone {
			l.drop(ctx, m)
		}
	}
}

// drop removes a server from Raft. A leader that was removed itself hands over
// first, so that writes go on without a gap.
func (l *Loops) drop(ctx context.Context, m store.Member) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if m.ID == l.cfg.Self {
		if err := l.cfg.Store.TransferLeadership(ctx, ""); err != nil {
			l.log.Error("this server was removed from the mesh and could not hand over; trying again", "error", err)
		}
		return
	}
	if l.alive()[m.ID] {
		l.awaitKnown(ctx, m)
	}
	if err := l.cfg.Store.RemoveServer(ctx, m.ID); err != nil {
		l.log.Error("a server could not be removed from Raft; trying again", "id", m.ID, "error", err)
		return
	}
	l.log.Info("removed a server from Raft", "id", m.ID, "address", m.Address)
}

// alive are the servers that gossip takes for alive, this one in any case.
func (l *Loops) alive() map[string]bool {
	alive := map[string]bool{l.cfg.Self: true}
	for _, m := range l.cfg.Members() {
		if m.State == gossip.Alive {
			alive[m.ID] = true
		}
	}
	return alive
}
