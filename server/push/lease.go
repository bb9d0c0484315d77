package push

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

var (
	errMoved   = status.Error(codes.Aborted, "the host opened a newer stream to another server")
	errRemoved = status.Error(codes.PermissionDenied, "the host was removed from the mesh: join it again with a new token")
)

// A tenure is a claim to a host's lease. Epochs rise with every claim, so that
// an old one can be told from a new one.
type tenure struct {
	epoch uint64
	held  bool
}

// hold keeps the host's lease and its registrations until the stream ends.
func (s *session) hold(hello *apiv1.Hello) error {
	for s.ctx.Err() == nil {
		var ws state.WatchSet
		txn := s.hub.cfg.Replica.Local()
		txn.NodeInstances(&ws, s.node.Id)
		held, err := s.claim(txn.Node(&ws, s.node.Id), hello)
		if err != nil {
			return err
		}
		switch {
		case !held:
		case s.register():
			s.inbox.await(s.ctx, &ws)
		default:
			sleep(s.ctx, retryDelay)
		}
	}
	return context.Cause(s.ctx)
}

// claim sees to it that the lease is this stream's. held is false when the
// state must be looked at again.
func (s *session) claim(node *apiv1.Node, hello *apiv1.Hello) (held bool, err error) {
	switch {
	case node == nil:
		return false, errRemoved
	case node.LeaseEpoch == s.epoch && node.LeaseServer == s.hub.cfg.ServerID && node.State == apiv1.NodeState_NODE_STATE_ALIVE:
		s.held = true
		return true, nil
	case s.held && node.LeaseEpoch > s.epoch:
		return false, errMoved
	}
	// Not claimed yet, or the leader took this server for dead and ended it.
	s.held = false
	s.epoch = max(s.epoch, node.LeaseEpoch+1)
	return false, s.take(hello)
}

func (s *session) take(hello *apiv1.Hello) error {
	result, err := s.hub.propose(s.ctx, &command.TakeLease{
		NodeId: s.node.Id, ServerId: s.hub.cfg.ServerID, Epoch: s.epoch,
		Address: hello.GetAddress(), InboundPort: hello.GetInboundPort(), Version: hello.GetVersion(),
	})
	switch {
	case err != nil:
		s.log.Warn("the host's lease could not be written; trying again", "error", err)
		sleep(s.ctx, retryDelay)
	case result.Refusal == command.Refusal_REFUSAL_NOT_FOUND && s.hub.cfg.Replica.Local().Node(nil, s.node.Id) == nil:
		return errRemoved
	case result.Refusal == command.Refusal_REFUSAL_NOT_FOUND:
		return status.Errorf(codes.Unavailable, "server %s is no member of the mesh: connect to another", s.hub.cfg.ServerName)
	case result.Refusal != command.Refusal_REFUSAL_NONE && result.Refusal != command.Refusal_REFUSAL_STALE_LEASE:
		return status.Errorf(codes.InvalidArgument, "the host's lease was refused: %s", result.Message)
	}
	return nil
}

// conclude ends the lease as the end of the stream demands.
func (s *session) conclude(why error) error {
	switch {
	case errors.Is(why, errGoodbye):
		s.log.Info("agent said goodbye")
		return s.hub.farewell(s.node, s.epoch)
	case errors.Is(why, errMoved), errors.Is(why, errReplaced), errors.Is(why, errRemoved), errors.Is(why, errStopping):
		s.log.Info("agent's stream ended", "reason", status.Convert(why).Message())
		return why
	}
	s.log.Warn("agent's stream broke", "error", why)
	s.hub.releaseAfter(s.pulse.left(), s.node, s.epoch)
	return why
}

// farewell marks a host as left before the agent is told that it may go.
func (h *Hub) farewell(node *apiv1.Node, epoch uint64) error {
	result, err := h.propose(h.ctx, &command.EndLease{NodeId: node.Id, Epoch: epoch, State: apiv1.NodeState_NODE_STATE_LEFT})
	if err != nil {
		h.releaseAfter(0, node, epoch)
		return status.Errorf(codes.Unavailable, "the host's leave could not be written: %v", err)
	}
	if result.Refusal != command.Refusal_REFUSAL_NONE {
		return status.Errorf(codes.Aborted, "the host's leave was refused: %s", result.Message)
	}
	return nil
}

// releaseAfter marks a host as lost once its lease has run out, unless a newer
// lease was taken by then.
func (h *Hub) releaseAfter(d time.Duration, node *apiv1.Node, epoch uint64) {
	done, ok := h.begin()
	if !ok {
		return
	}
	go func() {
		defer done()
		sleep(h.ctx, d)
		for h.ctx.Err() == nil && !h.release(node, epoch) {
			sleep(h.ctx, retryDelay)
		}
	}()
}

// release reports whether nothing is left to do.
func (h *Hub) release(node *apiv1.Node, epoch uint64) bool {
	now := h.cfg.Replica.Local().Node(nil, node.Id)
	if now == nil || now.LeaseEpoch > epoch || now.LeaseEpoch == epoch && now.State != apiv1.NodeState_NODE_STATE_ALIVE {
		return true
	}
	_, err := h.propose(h.ctx, &command.EndLease{NodeId: node.Id, Epoch: epoch, State: apiv1.NodeState_NODE_STATE_LOST})
	if err != nil {
		h.log.Warn("the end of a lease could not be written; trying again", "node", node.Name, "error", err)
		return false
	}
	h.log.Warn("host lost: its agent was not heard of in time", "node", node.Name)
	return true
}

// Sweep ends the leases that name this server though it has no stream for them,
// and had none at the sweep before: it held them before it was restarted, or
// wrote them when the stream was gone already. By then their hosts had time to
// come back.
func (h *Hub) Sweep() {
	found := map[string]uint64{}
	for _, node := range h.cfg.Replica.Local().Nodes(nil) {
		if node.LeaseServer != h.cfg.ServerID || node.State != apiv1.NodeState_NODE_STATE_ALIVE || h.holds(node.Id) {
			continue
		}
		found[node.Id] = node.LeaseEpoch
		if h.stray[node.Id] == node.LeaseEpoch {
			h.releaseAfter(0, node, node.LeaseEpoch)
		}
	}
	h.stray = found
}

func (h *Hub) propose(ctx context.Context, msg proto.Message) (*command.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	return h.cfg.Replica.Propose(ctx, msg)
}
