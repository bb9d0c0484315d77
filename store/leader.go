package store

import (
	"sync"

	"github.com/hashicorp/raft"
)

// Leadership says who leads the cluster, as far as this server knows.
type Leadership struct {
	// Leads is set when this server does, and Term then tells one time of its
	// leading from another.
	Leads bool
	Term  uint64
	// ID and Address are the leader's, empty while none is known.
	ID, Address string
}

// IsLeader tells whether this server believes that it leads. It may have been
// deposed and not know; Apply and Read make sure.
func (s *Store) IsLeader() bool { return s.raft.State() == raft.Leader }

// Leader gives the leader's id and address, empty while none is known.
func (s *Store) Leader() (id, addr string) {
	address, serverID := s.raft.LeaderWithID()
	return string(serverID), string(address)
}

// WatchLeader gives the present leadership and a channel that is closed when it
// has changed. Changes in quick succession may be seen as one, and the last is
// never missed. After Shutdown nobody leads.
func (s *Store) WatchLeader() (Leadership, <-chan struct{}) {
	s.leader.mu.Lock()
	defer s.leader.mu.Unlock()
	return s.leader.now, s.leader.changed
}

// A leaderWatch turns Raft's events, some of which get lost, into a state.
type leaderWatch struct {
	self     raft.ServerID
	raft     *raft.Raft
	observer *raft.Observer
	events   chan raft.Observation

	mu      sync.Mutex
	now     Leadership
	changed chan struct{}
}

func watchLeader(self raft.ServerID, r *raft.Raft) *leaderWatch {
	// One place is enough: an event that finds it taken is dropped, and the
	// look that is still to come sees what it was about.
	w := &leaderWatch{self: self, raft: r, events: make(chan raft.Observation, 1), changed: make(chan struct{})}
	w.observer = raft.NewObserver(w.events, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	r.RegisterObserver(w.observer)
	w.set(w.look())
	return w
}

func (w *leaderWatch) run(stop <-chan struct{}) {
	defer w.raft.DeregisterObserver(w.observer)
	for {
		select {
		case <-w.events:
		case <-w.raft.LeaderCh(): // tells of some losses that are no events
		case <-stop:
			w.set(Leadership{})
			return
		}
		w.set(w.look())
	}
}

func (w *leaderWatch) look() Leadership {
	address, id := w.raft.LeaderWithID()
	l := Leadership{ID: string(id), Address: string(address)}
	// When it changes state, Raft is for a moment a leader that it does not know.
	if w.raft.State() == raft.Leader && id == w.self {
		l.Leads, l.Term = true, w.raft.CurrentTerm()
	}
	return l
}

func (w *leaderWatch) set(l Leadership) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l != w.now {
		w.now = l
		close(w.changed)
		w.changed = make(chan struct{})
	}
}
