package store

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/meshd/meshd/store/raftlog"
)

var (
	// ErrNotLeader means that only the leader can do it, and nothing was done.
	// The error is a *NotLeaderError.
	ErrNotLeader = errors.New("this server is not the leader")
	// ErrOutcomeUnknown means that a change was under way when the answer was
	// lost: it may come into force or not. Read before repeating it.
	ErrOutcomeUnknown = errors.New("it is not known whether the change came into force")
	// ErrBusy means that the leader has more to do than it can, and nothing was
	// done.
	ErrBusy = errors.New("the leader is overloaded")
	// ErrFailed means that this server's disk has failed and it takes part no
	// more. Nothing was done, unless the error is an ErrOutcomeUnknown too.
	ErrFailed = errors.New("this server has stopped taking part, because its log cannot be written")
	// ErrClosed means that the store has been shut down.
	ErrClosed = errors.New("the store is closed")
	// ErrBootstrapped means that Bootstrap found a store that is not empty.
	ErrBootstrapped = errors.New("this server belongs to a mesh already")
	// ErrTooLarge means that a change has more bytes than a log entry may have.
	ErrTooLarge = errors.New("the change is too large")
)

// A NotLeaderError is an ErrNotLeader with the leader to ask instead.
type NotLeaderError struct {
	// ID and Address are empty while no leader is known.
	ID, Address string
	// Cause is why this server cannot lead, nil when it could.
	Cause error
}

func (e *NotLeaderError) Error() string {
	var cause string
	if e.Cause != nil {
		cause = fmt.Sprintf(" and cannot be (%v)", e.Cause)
	}
	if e.Address == "" {
		return "this server is not the leader" + cause + ", and no leader is known: there is none until a majority of the servers reach each other"
	}
	return fmt.Sprintf("this server is not the leader%s, %s at %s is", cause, e.ID, e.Address)
}

func (e *NotLeaderError) Unwrap() error { return e.Cause }

// Is makes errors.Is(err, ErrNotLeader) hold.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

func (s *Store) notLeader() error {
	id, addr := s.Leader()
	if id == s.config.ID {
		id, addr = "", "" // it hands over just now
	}
	return &NotLeaderError{ID: id, Address: addr, Cause: s.log.OutOfRoom()}
}

// errGaveUp is await's when its context ends.
var errGaveUp = errors.New("gave up waiting")

// explain translates Raft's error about something that changes nothing.
func (s *Store) explain(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raftlog.ErrFull): // it steps down
		return s.notLeader()
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrBusy
	case errors.Is(err, raft.ErrRaftShutdown):
		return s.whyStopped()
	}
	return err
}

// explainChange translates Raft's error about a change. Only where Raft says
// that it has not begun is the outcome known.
func (s *Store) explainChange(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, ErrClosed), errors.Is(err, ErrFailed),
		errors.Is(err, raftlog.ErrFull): // nothing was written, nor sent
		return s.explain(err)
	case errors.Is(err, raft.ErrLeadershipLost):
		return fmt.Errorf("%w: this server was the leader and is no longer", ErrOutcomeUnknown)
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, s.explain(err))
}

func (s *Store) whyStopped() error {
	if err := s.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return ErrClosed
}
