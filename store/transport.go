package store

import (
	"errors"
	"sync"
	"time"

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
	// muted holds back what a leader sends.
	muted   bool
	appends map[raft.ServerID]*appends

	// full tells why this server cannot have entries, nil when it can.
	full func() error
}

// appends tell how well a follower stores entries.
type appends struct {
	since time.Time // of the message under way, zero when there is none
	took  time.Duration
	known bool
}

var errMuted = errors.New("held back, because this server's disk is stalled and others should lead")

// An answer confirms leadership in a term at the moment of the question or
// later.
type answer struct{ term, moment uint64 }

func newTransport(t *raft.NetworkTransport, full func() error) *transport {
	return &transport{
		NetworkTransport: t, received: make(chan raft.RPC), full: full,
		answers: map[raft.ServerID]answer{}, changed: make(chan struct{}), appends: map[raft.ServerID]*appends{},
	}
}

// Consumer is where Raft takes what others send from.
func (t *transport) Consumer() <-chan raft.RPC { return t.received }

// AppendEntries carries heartbeats.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	t.mu.Lock()
	moment, muted := t.moment, t.muted
	t.mu.Unlock()
	if muted {
		return errMuted
	}
	done := t.sending(id, len(args.Entries))
	err := t.NetworkTransport.AppendEntries(id, target, args, resp)
	done(err == nil && resp.Success)
	if err != nil {
		return err
	}
	if resp.Success {
		t.note(id, answer{args.Term, moment})
	}
	return nil
}

// sending notes how long a follower takes to store entries. Heartbeats, which
// have none, are answered without the disk.
func (t *transport) sending(id raft.ServerID, entries int) (done func(stored bool)) {
	if entries == 0 {
		return func(bool) {}
	}
	start := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.appends[id]
	if a == nil {
		a = &appends{}
		t.appends[id] = a
	}
	a.since = start
	return func(stored bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		a.since, a.took, a.known = time.Time{}, time.Since(start), stored
	}
}

// keepsUp tells whether a follower stored the newest entries within a time.
func (t *transport) keepsUp(id raft.ServerID, within time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.appends[id]
	return a != nil && a.known && a.took < within && (a.since.IsZero() || time.Since(a.since) < within)
}

func (t *transport) mute(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.muted = on
}

// RequestVote is not for a server that could not store an entry if it led.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := t.full(); err != nil {
		return err
	}
	return t.NetworkTransport.RequestVote(id, target, args, resp)
}

// RequestPreVote is like RequestVote.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.full(); err != nil {
		return err
	}
	return t.NetworkTransport.RequestPreVote(id, target, args, resp)
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
