package store

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/store/command"
)

const (
	// enqueueTimeout is how long a change may wait for the leader to begin with
	// it.
	enqueueTimeout = 5 * time.Second
	// maxEntry bounds a log entry. Larger ones would hold up heartbeats.
	maxEntry = 4 << 20
)

// Apply proposes a command and waits until it is on a majority of disks and
// applied here. A command that the state refuses gives a result that says so,
// and no error. Errors are ErrNotLeader, ErrBusy, ErrTooLarge and ErrClosed,
// with nothing done, and ErrOutcomeUnknown.
func (s *Store) Apply(ctx context.Context, msg proto.Message) (*command.Result, error) {
	entry, err := command.Encode(msg)
	if err != nil {
		return nil, err
	}
	if len(entry) > maxEntry {
		return nil, fmt.Errorf("%w: %s has %d bytes, and %d is the most", ErrTooLarge, command.Name(msg), len(entry), maxEntry)
	}
	start := time.Now()
	future, err := await(ctx, s, func() raft.ApplyFuture { return s.raft.Apply(entry, enqueueTimeout) })
	if err != nil {
		return nil, fmt.Errorf("applying %s: %w", command.Name(msg), s.explainChange(err))
	}
	s.metrics.applied(time.Since(start))
	return future.Response().(*command.Result), nil
}

// Barrier returns when everything proposed to this leader before has been
// applied here. A new leader knows by it that it has all of its predecessors'.
func (s *Store) Barrier(ctx context.Context) error {
	if _, err := await(ctx, s, func() raft.Future { return s.raft.Barrier(enqueueTimeout) }); err != nil {
		return fmt.Errorf("waiting for all changes to be applied: %w", s.explain(err))
	}
	return nil
}

// await asks Raft for something and waits for the answer or for ctx, of which
// Raft's futures know nothing.
func await[F raft.Future](ctx context.Context, s *Store, ask func() F) (F, error) {
	type answer struct {
		future F
		err    error
	}
	answers := make(chan answer, 1)
	asked := s.begin(func() {
		future := ask()
		answers <- answer{future, future.Error()}
	})
	var none F
	if !asked {
		return none, s.whyStopped()
	}
	select {
	case a := <-answers:
		return a.future, a.err
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", errGaveUp, context.Cause(ctx))
	}
}

// begin runs f in a goroutine that Shutdown waits for, unless the store has
// stopped or is about to.
func (s *Store) begin(f func()) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed || s.Err() != nil {
		return false
	}
	s.inFlight.Go(f)
	return true
}
