package gossip

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// A roster remembers members past their death, which memberlist itself soon
// forgets, and tells of changes.
type roster struct {
	mu      sync.Mutex
	gone    map[string]Member
	changed chan struct{}
}

var _ memberlist.EventDelegate = (*roster)(nil)

func newRoster() *roster {
	return &roster{gone: map[string]Member{}, changed: make(chan struct{}, 1)}
}

func (r *roster) NotifyJoin(n *memberlist.Node) {
	r.mu.Lock()
	delete(r.gone, n.Name)
	r.mu.Unlock()
	r.tell()
}

func (r *roster) NotifyLeave(n *memberlist.Node) {
	r.mu.Lock()
	r.gone[n.Name] = member(n, Dead)
	r.mu.Unlock()
	r.tell()
}

func (r *roster) NotifyUpdate(*memberlist.Node) { r.tell() }

func (r *roster) tell() {
	select {
	case r.changed <- struct{}{}:
	default: // one that was not received yet tells of this change as well
	}
}

func (r *roster) members(alive []*memberlist.Node) []Member {
	r.mu.Lock()
	all := maps.Clone(r.gone)
	r.mu.Unlock()
	for _, n := range alive {
		all[n.Name] = member(n, Alive)
	}
	return slices.SortedFunc(maps.Values(all), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
}

func member(n *memberlist.Node, s State) Member {
	m := Member{ID: n.Name, Address: addrPort(n.Addr, n.Port), State: s}
	// Tags of a newer or broken member may not decode: its liveness still counts.
	if err := json.Unmarshal(n.Meta, &m.Tags); err != nil {
		m.Tags = Tags{}
	}
	return m
}
