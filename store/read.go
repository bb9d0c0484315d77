package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshd/meshd/store/state"
)

// Consistency says what a read may miss.
type Consistency int

const (
	// Linearizable reads see every change acknowledged before they began. Only
	// the leader can do them.
	Linearizable Consistency = iota
	// Stale reads see what this server has. They always work.
	Stale
)

// Read gives the state for reading. Errors are ErrNotLeader, ErrBusy, ErrClosed
// and that of ctx, and only come with Linearizable.
func (s *Store) Read(ctx context.Context, c Consistency) (*state.Txn, error) {
	if c == Stale {
		return s.db.Read(), nil
	}
	txn, err := s.readAsLeader(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the state: %w", s.explain(err))
	}
	return txn, nil
}

// ReadIndex gives the index at which the state shows every change acknowledged
// before the call, for ReadAt on another server. Its errors are those of Read.
func (s *Store) ReadIndex(ctx context.Context) (uint64, error) {
	txn, err := s.Read(ctx, Linearizable)
	if err != nil {
		return 0, err
	}
	return txn.Index(nil), nil
}

// ReadAt gives the state once the entry with that index has been applied here,
// which must be a command's: a result's index or one from ReadIndex. Its error
// is that of ctx.
func (s *Store) ReadAt(ctx context.Context, index uint64) (*state.Txn, error) {
	for {
		var ws state.WatchSet
		txn := s.db.Read()
		at := txn.Index(&ws)
		if at >= index {
			return txn, nil
		}
		if err := ws.Wait(ctx); err != nil {
			return nil, fmt.Errorf("waiting for the state to come from index %d to %d: %w", at, index, err)
		}
	}
}

// readAsLeader notes how far the log is committed, makes sure that this server
// is the leader still, and waits until all of that is applied.
func (s *Store) readAsLeader(ctx context.Context) (*state.Txn, error) {
	term := s.raft.CurrentTerm()
	if s.ready.Load() != term {
		return s.readBehindBarrier(ctx, term)
	}
	commit := s.raft.CommitIndex()
	if err := s.confirmLeader(ctx, term); err != nil {
		return nil, err
	}
	index, err := s.lastCommand(commit)
	if err != nil {
		return nil, err
	}
	return s.ReadAt(ctx, index)
}

// readBehindBarrier is for the first read of a term. Until a leader has
// committed an entry of its own term, it does not know how far its predecessors
// had committed theirs.
func (s *Store) readBehindBarrier(ctx context.Context, term uint64) (*state.Txn, error) {
	if err := s.Barrier(ctx); err != nil {
		return nil, err
	}
	if s.raft.CurrentTerm() == term {
		s.ready.Store(term)
	}
	return s.db.Read(), nil
}

// confirmLeader returns when a majority has answered, to a question put after
// the call, that this server leads in the term. The term must not have moved: a
// server that lost and regained leadership may have noted a commit index from
// before its successor's changes.
func (s *Store) confirmLeader(ctx context.Context, term uint64) error {
	asked := answer{term, s.transport.begin()}
	for {
		next := s.transport.next()
		if _, err := await(ctx, s, s.raft.VerifyLeader); err != nil { // asks everybody
			return err
		}
		if s.raft.CurrentTerm() != term {
			return raft.ErrNotLeader
		}
		if ok, err := s.majority(asked); ok || err != nil {
			return err
		}
		select {
		case <-next:
		case <-time.After(s.config.Timing.Heartbeat / 10):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Store) majority(asked answer) (bool, error) {
	members, err := s.Servers()
	voters, confirmed := 0, 0
	for _, m := range members {
		if !m.Voter {
			continue
		}
		voters++
		if m.ID == s.config.ID || s.transport.confirmed(raft.ServerID(m.ID), asked) {
			confirmed++
		}
	}
	return confirmed > voters/2, err
}

// lastCommand finds the last command up to a committed index. Other entries,
// such as changes of members, never reach the state, so that its index cannot
// be waited for to pass them.
func (s *Store) lastCommand(commit uint64) (uint64, error) {
	for i := commit; i > s.db.Read().Index(nil); i-- {
		var entry raft.Log
		err := s.log.GetLog(i, &entry)
		if errors.Is(err, raft.ErrLogNotFound) {
			break // in a snapshot by now, and so applied
		}
		if err != nil {
			return 0, err
		}
		if entry.Type == raft.LogCommand {
			return i, nil
		}
	}
	return 0, nil
}
