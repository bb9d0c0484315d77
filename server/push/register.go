package push

import (
	"context"
	"errors"
	"sync"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// register answers the newest registrations that came, and without any sees to
// it that the state still has those that came last. ok is false when that must
// be tried again.
func (s *session) register() (ok bool) {
	r := s.inbox.take()
	if r == nil {
		return s.mend()
	}
	refused, err := s.setInstances(r.GetInstances())
	if errors.Is(err, errStale) {
		s.inbox.putBack(r)
		return true
	}
	s.latest = nil
	if err == nil {
		s.latest = r
	}
	answer := &apiv1.RegistrationsResult{Sequence: r.GetSequence(), Refused: refused, Error: describe(refused)}
	if err != nil {
		answer.Refused, answer.Error = nil, err.Error()
	}
	if answer.Error != "" && answer.Error != s.refusal {
		s.log.Warn("registrations refused", "error", answer.Error)
	}
	s.refusal = answer.Error
	s.outbox.fill(func(o *outbox) { o.result = answer })
	return true
}

// mend puts back what is no longer as the agent, the authority on its own host,
// has it: as when an operator brought back an older state.
func (s *session) mend() (ok bool) {
	if s.latest == nil {
		return true
	}
	_, err := s.setInstances(s.latest.GetInstances())
	if err != nil && !errors.Is(err, errStale) {
		s.log.Warn("what the host runs could not be put back; trying again", "error", err)
		return false
	}
	return true
}

// errStale says that the lease went to another stream. It is the handler that
// finds out how to go on.
var errStale = errors.New("the host's lease is no longer this stream's")

// setInstances writes what differs from what the host had, as far as it is
// valid: what is wrong with one service must not hold up the others.
func (s *session) setInstances(set []*apiv1.Instance) (refused []*refusal, err error) {
	txn := s.hub.cfg.Replica.Local()
	node := txn.Node(nil, s.node.Id)
	if node == nil {
		return nil, errors.New("the host was removed from the mesh")
	}
	have := txn.NodeInstances(nil, node.Id)
	valid, refused := choose(node, have, set)
	put, remove := difference(have, ownInstances(node.Id, valid))
	if len(put)+len(remove) == 0 {
		return refused, nil
	}
	result, err := s.hub.propose(s.ctx, &command.SetInstances{NodeId: node.Id, Put: put, Remove: remove, Epoch: s.epoch})
	switch {
	case err != nil:
		return nil, err
	case result.Refusal == command.Refusal_REFUSAL_STALE_LEASE:
		return nil, errStale
	case result.Refusal != command.Refusal_REFUSAL_NONE:
		return nil, errors.New(result.Message)
	}
	s.log.Info("registrations changed", "put", ids(put), "removed", remove)
	return refused, nil
}

func ids(set []*apiv1.Instance) (list []string) {
	for _, i := range set {
		list = append(list, i.Id)
	}
	return list
}

// An inbox holds the newest registrations that nobody has looked at yet.
type inbox struct {
	mu     sync.Mutex
	newest *apiv1.Registrations
	wake   context.CancelFunc
}

func (b *inbox) put(r *apiv1.Registrations) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.newest = r
	if b.wake != nil {
		b.wake()
	}
}

// putBack is for what could not be dealt with, unless something newer came.
func (b *inbox) putBack(r *apiv1.Registrations) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.newest == nil {
		b.newest = r
	}
}

func (b *inbox) take() *apiv1.Registrations {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.newest
	b.newest = nil
	return r
}

// await blocks until something comes in, what ws watches changes, or ctx ends.
func (b *inbox) await(ctx context.Context, ws *state.WatchSet) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.mu.Lock()
	b.wake = cancel
	waiting := b.newest != nil
	b.mu.Unlock()
	if !waiting {
		_ = ws.Wait(ctx) // an error is only the end of ctx, which callers look at
	}
}
