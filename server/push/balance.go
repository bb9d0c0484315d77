package push

import (
	"time"

	apiv1 "github.com/meshd/meshd/api/v1"
)

const (
	// slack is by how many agents a server may be above the average, beside a
	// tenth of that: in a small mesh it makes no difference where they are.
	slack = 10
	// moveShare is the part of its agents that a server sends away at a time.
	moveShare = 0.01
	// steady is how long a server must be there before agents are sent to it.
	steady = 10 * time.Second
)

// Balance asks a few agents to go to the server that holds fewest, if this one
// holds more than its share. To be called every few seconds: after a server has
// come back it gets its share within minutes, and nobody notices. alive are the
// servers that can be reached, by id.
func (h *Hub) Balance(alive map[string]bool) {
	target, surplus := h.surplus(h.steady(alive, time.Now()))
	if surplus <= 0 {
		return
	}
	address := h.cfg.Replica.Local().Server(nil, target).GetAddress()
	n := min(surplus, max(1, int(moveShare*float64(h.count()))))
	h.log.Info("this server holds more than its share of hosts, and asks some to go to another", "hosts", n, "server", address)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions { // in no order
		if n--; n < 0 {
			return
		}
		s.outbox.fill(func(o *outbox) { o.move = &apiv1.Move{Server: address} })
	}
}

// steady gives the members that have been alive for a while.
func (h *Hub) steady(alive map[string]bool, now time.Time) (ids []string) {
	since := map[string]time.Time{}
	for _, s := range h.cfg.Replica.Local().Servers(nil) {
		if !alive[s.Id] {
			continue
		}
		since[s.Id] = now
		if known, ok := h.aliveSince[s.Id]; ok {
			since[s.Id] = known
		}
		if s.Id == h.cfg.ServerID || now.Sub(since[s.Id]) >= steady {
			ids = append(ids, s.Id)
		}
	}
	h.aliveSince = since
	return ids
}

// surplus is by how many agents this server is above its share, and the server
// that has fewest.
func (h *Hub) surplus(servers []string) (target string, surplus int) {
	held := map[string]int{}
	for _, n := range h.cfg.Replica.Local().Nodes(nil) {
		if n.State == apiv1.NodeState_NODE_STATE_ALIVE {
			held[n.LeaseServer]++
		}
	}
	total := 0
	for _, id := range servers {
		total += held[id]
		if target == "" || held[id] < held[target] {
			target = id
		}
	}
	if len(servers) < 2 {
		return target, 0
	}
	average := (total + len(servers) - 1) / len(servers)
	own := held[h.cfg.ServerID]
	if own <= average+max(slack, average/10) {
		return target, 0
	}
	return target, own - average
}
