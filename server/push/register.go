package push

import (
	"context"
	"errors"
	"sync"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// register answers the newest registrations that came, if any.
func (s *session) register() {
	r := s.inbox.take()
	if r == nil {
		return
	}
	answer := &apiv1.RegistrationsResult{Sequence: r.GetSequence()}
	if err := s.setInstances(r.GetInstances()); err != nil {
		answer.Error = err.Error()
		s.log.Warn("registrations refused", "error", err)
	}
	s.outbox.fill(func(o *outbox) { o.result = answer })
}

// setInstances writes what differs from what the host had.
func (s *session) setInstances(set []*apiv1.Instance) error {
	txn := s.hub.cfg.Replica.Local()
	node := txn.Node(nil, s.node.Id)
	if node == nil {
		return errors.New("the host was removed from the mesh")
	}
	if err := checkInstances(node, set); err != nil {
		return err
	}
	put, remove := difference(txn.NodeInstances(nil, node.Id), ownInstances(node.Id, set))
	if len(put)+len(remove) == 0 {
		return nil
	}
	result, err := s.hub.propose(s.ctx, &command.SetInstances{NodeId: node.Id, Put: put, Remove: remove})
	if err == nil && result.Refusal != command.Refusal_REFUSAL_NONE {
		err = errors.New(result.Message)
	}
	if err == nil {
		s.log.Info("registrations changed", "put", ids(put), "removed", remove)
	}
	return err
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
