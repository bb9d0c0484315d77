package store

import (
	"context"
	"sync"
	"testing"
	"time"
)

// overseer is one for whom all stores of a cluster are the servers.
type overseer struct {
	*cluster
	mu      sync.Mutex
	dead    map[string]bool
	pardon  bool // nobody may be removed
	removed []string
	looks   int
}

func (o *overseer) Rules() Rules {
	return Rules{RemoveDead: true, MinVoters: 2, LastContact: time.Second, MaxBehind: 100, Stable: 10 * time.Second}
}

func (o *overseer) Peers() (peers []Peer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id := range o.dirs {
		p := Peer{ID: id, Name: "vm" + id, Address: o.address(id), Version: "1", Liveness: Alive}
		if o.dead[id] {
			p.Liveness = Dead
		}
		peers = append(peers, p)
	}
	return peers
}

func (o *overseer) MayRemove(Peer) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.pardon
}

func (o *overseer) Ask(_ context.Context, peers []Peer) map[string]Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := map[string]Stats{}
	for _, p := range peers {
		if !o.dead[p.ID] {
			all[p.ID] = o.stores[p.ID].Stats()
		}
	}
	return all
}

func (o *overseer) Remove(p Peer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.removed = append(o.removed, p.ID)
}

func (o *overseer) Observed(ClusterHealth) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looks++
}

func (o *overseer) set(id string, dead, pardon bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead[id], o.pardon = dead, pardon
}

// A new server follows without a vote until it has been well for long enough;
// one that is dead is named for removal.
func TestAutopilot(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		c.addHost("s4")
		c.start("s4")
		o := &overseer{cluster: c, dead: map[string]bool{}}
		pilot := leader.NewAutopilot(o, Intervals{})
		pilot.Start(c.Context())
		defer pilot.Stop()
		c.must(leader.AddNonvoter(c.Context(), "s4", c.address("s4")))
		c.pass(8 * time.Second)
		if h := pilot.Health(); len(h.Servers) != 4 || h.Servers[3].Voter || !h.Servers[3].Healthy || h.Tolerance != 1 || !h.Healthy {
			c.Errorf("early: %+v", h)
		}
		c.pass(30 * time.Second)
		h := pilot.Health()
		if len(h.Servers) != 4 || !h.Servers[3].Voter || h.Servers[3].Name != "vms4" || h.Servers[3].Address != c.address("s4") || h.Servers[3].Liveness != Alive {
			c.Errorf("late: %+v", h)
		}
		for _, s := range h.Servers {
			if s.Leader != (s.ID == leader.config.ID) || s.LastIndex != leader.Stats().LastIndex {
				c.Errorf("%+v", s)
			}
		}
		o.set("s4", true, true)
		c.pass(30 * time.Second)
		pilot.RemoveDead()
		c.pass(time.Second)
		if o.mu.Lock(); len(o.removed) > 0 {
			c.Errorf("removed %q, who are only away", o.removed)
		}
		o.mu.Unlock()
		o.set("s4", true, false)
		pilot.RemoveDead()
		c.pass(time.Second)
		if h := pilot.Health(); h.Healthy || h.Servers[3].Healthy {
			c.Errorf("a dead server counts as healthy: %+v", h.Servers[3])
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.removed) == 0 || o.removed[0] != "s4" || o.looks < 20 {
			c.Errorf("removed %q after %d looks", o.removed, o.looks)
		}
	})
}

// A store that stops leaves no change of autopilot's without an answer.
func TestChangeAfterShutdown(t *testing.T) {
	bubble(t, 1, Timing{}, func(c *cluster) {
		s := c.stores["s1"]
		c.must(s.Shutdown())
		if err := (patientRaft{s.raft, s}).AddVoter("s2", "10.0.0.2:7300", 0, 0).Error(); err == nil {
			c.Error("a stopped store has a new member")
		}
	})
}

func TestStats(t *testing.T) {
	bubble(t, 3, Timing{}, func(c *cluster) {
		leader := c.leaderSeenBy("s1")
		index := c.write(leader, "web").Index
		f := func(s *Store, leads bool) {
			t.Helper()
			c.sees(s.config.ID, index)
			got := s.Stats()
			if got.ID != s.config.ID || got.Leader != leads || got.LastIndex < index || got.LastTerm == 0 || got.Applied < index || got.Committed < index || got.Voters != 3 || (got.LastContact != 0) == leads {
				c.Errorf("%+v", got)
			}
		}
		c.pass(time.Second / 2)
		f(leader, true)
		f(c.stores[c.follower(leader)], false)
		c.addHost("s4")
		if got := c.start("s4").Stats(); got.LastContact != -1 || got.LastIndex != 0 || got.Voters != 0 {
			c.Errorf("an empty server: %+v", got)
		}
	})
}
