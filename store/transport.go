package store

import (
	"sync"

	"github.com/hashicorp/raft"
)

// transport is Raft's, and notes which servers have answered this one as their
// leader to something that was sent after a given moment. Raft's VerifyLeader
// counts an answer whenever it is read: after a pause of the process it takes
// answers from before the pause, which say nothing about now.
type transport struct {
	*raft.NetworkTransport
	// received is what Raft is handed of what others send; see vouch.
	received chan raft.RPC

	mu      sync.Mutex
	moment  uint64
	answers map[raft.ServerID]answer
	changed chan struct{}
}

// An answer confirms leadership in a term at the moment of the question or
// later.
type answer struct{ term, moment uint64 }

func newTransport(t *raft.NetworkTransport) *transport {
	return &transport{NetworkTransport: t, received: make(chan raft.RPC), answers: map[raft.ServerID]answer{}, changed: make(chan struct{})}
}

// Consumer is where Raft takes what others send from.
func (t *transport) Consumer() <-chan raft.RPC { return t.received }

// AppendEntries carries heartbeats.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	t.mu.Lock()
	moment := t.moment
	t.mu.Unlock()
	if err := t.NetworkTransport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	if resp.Success {
		t.note(id, answer{args.Term, moment})
	}
	return nil
}

func (t *transport) note(id raft.ServerID, a answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers[id] = a
	close(t.changed)
	t.changed = make(chan struct{})
}

// begin gives a new moment, later than all before.
func (t *transport) begin() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moment++
	return t.moment
}

// next is closed when the next answer has come.
func (t *transport) next() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// confirmed tells whether a server has answered as in a.
func (t *transport) confirmed(id raft.ServerID, a answer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	got := t.answers[id]
	return got.term == a.term && got.moment >= a.moment
}
