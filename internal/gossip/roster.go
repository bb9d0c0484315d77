package gossip

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// maxGone bounds how many members that are gone are remembered, whatever a member that
// lost its senses makes up.
const maxGone = 64

// A roster copies what memberlist tells of members, who must not be read beside
// its events, and remembers them past their death, which memberlist soon forgets.
type roster struct {
	mu      sync.Mutex
	all     map[string]Member
	gone    []string        // members dead or left, the longest gone first
	leaving map[string]bool // members alive that have said goodbye
	changed chan struct{}
}

var _ memberlist.EventDelegate = (*roster)(nil)

func newRoster() *roster {
	return &roster{all: map[string]Member{}, leaving: map[string]bool{}, changed: make(chan struct{}, 1)}
}

func (r *roster) NotifyJoin(n *memberlist.Node)   { r.put(member(n, Alive)) }
func (r *roster) NotifyUpdate(n *memberlist.Node) { r.put(member(n, Alive)) }
func (r *roster) NotifyLeave(n *memberlist.Node)  { r.put(member(n, Dead)) }

// leaves notes that a member goes of its own will. The word may come after the
// news that it is gone.
func (r *roster) leaves(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, known := r.all[id]
	switch {
	case !known:
	case m.State == Dead:
		m.State = Left
		r.store(m)
	case m.State == Alive:
		r.leaving[id] = true
	}
}

func (r *roster) put(m Member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.State == Dead && r.leaving[m.ID] {
		m.State = Left
	}
	delete(r.leaving, m.ID)
	r.store(m)
}

func (r *roster) store(m Member) {
	r.all[m.ID] = m
	r.gone = slices.DeleteFunc(r.gone, func(id string) bool { return id == m.ID })
	if m.State != Alive {
		r.gone = append(r.gone, m.ID)
	}
	if len(r.gone) > maxGone {
		delete(r.all, r.gone[0])
		r.gone = r.gone[1:]
	}
	select {
	case r.changed <- struct{}{}:
	default: // one that was not received yet tells of this change as well
	}
}

func (r *roster) members() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.all), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
}

func member(n *memberlist.Node, s State) Member {
	m := Member{ID: n.Name, Address: addrPort(n.Addr, n.Port), State: s}
	// Tags of a newer or broken member may not decode: its liveness still counts.
	if err := json.Unmarshal(n.Meta, &m.Tags); err != nil {
		m.Tags = Tags{}
	}
	return m
}
