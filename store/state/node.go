package state

import (
	"cmp"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

// remembered is how many removals of hosts are kept for agents that were away.
const remembered = 4096

// takeLease leaves an address or port as it is when the command has none.
func (w *writer) takeLease(c *command.TakeLease) error {
	known, err := w.needNode(c.NodeId)
	if err != nil {
		return err
	}
	if c.Epoch <= known.LeaseEpoch {
		return refuse(command.Refusal_REFUSAL_STALE_LEASE, "host %q has a lease with epoch %d, so epoch %d comes too late: the host has connected again since", known.Name, known.LeaseEpoch, c.Epoch)
	}
	if w.Server(nil, c.ServerId) == nil {
		return refuse(command.Refusal_REFUSAL_NOT_FOUND, "there is no server with id %q to hold the lease of host %q", c.ServerId, known.Name)
	}
	n := proto.CloneOf(known)
	n.State, n.LeaseServer, n.LeaseEpoch = apiv1.NodeState_NODE_STATE_ALIVE, c.ServerId, c.Epoch
	if known.State != n.State && w.FeatureLevel(nil) >= 2 {
		n.StateUnix = c.TimeUnix
	}
	n.Version = c.Version
	n.Address = cmp.Or(c.Address, known.Address)
	n.InboundPort = cmp.Or(c.InboundPort, known.InboundPort)
	if err := checkNode(n); err != nil {
		return err
	}
	w.replaceNode(known, n)
	return nil
}

func (w *writer) endLease(c *command.EndLease) error {
	n, err := w.needNode(c.NodeId)
	if err != nil {
		return err
	}
	if c.State != apiv1.NodeState_NODE_STATE_LOST && c.State != apiv1.NodeState_NODE_STATE_LEFT {
		return invalid("a lease ends with a host lost or left, not %v", c.State)
	}
	if c.Epoch > n.LeaseEpoch {
		return invalid("host %q has no lease with epoch %d, its last one has %d", n.Name, c.Epoch, n.LeaseEpoch)
	}
	if c.Epoch == n.LeaseEpoch {
		w.endLeaseOf(n, c.State, c.TimeUnix)
	}
	return nil
}

// endLeaseOf does nothing when the lease is over: a host that has left is not
// lost when its stream closes.
func (w *writer) endLeaseOf(known *apiv1.Node, state apiv1.NodeState, time int64) {
	if known.State != apiv1.NodeState_NODE_STATE_ALIVE {
		return
	}
	n := proto.CloneOf(known)
	n.State, n.LeaseServer = state, ""
	if w.FeatureLevel(nil) >= 2 {
		n.StateUnix = time
	}
	w.replaceNode(known, n)
}

func (w *writer) removeNode(c *command.RemoveNode) error {
	n, err := w.needNode(c.NodeId)
	if err != nil {
		return err
	}
	w.dropNode(n)
	w.remember(n.Name)
	return nil
}

func (w *writer) needNode(id string) (*apiv1.Node, error) {
	n := w.Node(nil, id)
	if n == nil {
		return nil, refuse(command.Refusal_REFUSAL_NOT_FOUND, "there is no host with id %q: it was removed, and to be back it must join anew", id)
	}
	return n, nil
}

// replaceNode writes n in place of known. Only what others see counts as a
// modification: when a server restarts, thousands of leases move, and no agent
// needs to hear of it.
func (w *writer) replaceNode(known, n *apiv1.Node) {
	n.CreateIndex, n.ModifyIndex = known.CreateIndex, known.ModifyIndex
	if proto.Equal(n, known) {
		return
	}
	seen := proto.CloneOf(n)
	seen.LeaseServer, seen.LeaseEpoch, seen.StateUnix = known.LeaseServer, known.LeaseEpoch, known.StateUnix
	if !proto.Equal(seen, known) {
		n.ModifyIndex = w.index
	}
	w.put(nodeTable, n)
	if n.State != known.State || n.Address != known.Address || n.InboundPort != known.InboundPort {
		w.touchServicesOn(n.Id)
	}
}

func (w *writer) dropNode(n *apiv1.Node) {
	for _, i := range w.NodeInstances(nil, n.Id) {
		w.remove(instanceTable, i)
		w.touch(i.Service)
	}
	w.dropHosted(n.Id)
	w.remove(nodeTable, n)
}

// remember keeps the name of a host that was removed.
func (w *writer) remember(name string) {
	w.put(removedTable, &RemovedNode{Name: name, Index: w.index})
	w.remembers = true
}

// forget forgets the oldest removals when there are too many.
func (w *writer) forget() {
	oldest := since[*RemovedNode](&w.Txn, nil, removedTable, 0)
	for len(oldest) > remembered {
		w.put(markTable, mark{forgottenMark, oldest[0].Index})
		w.remove(removedTable, oldest[0])
		oldest = oldest[1:]
	}
}

// recall forgets that a host of that name was removed, for it is back.
func (w *writer) recall(name string) {
	if r := first[*RemovedNode](&w.Txn, nil, removedTable, byID, text(name)); r != nil {
		w.remove(removedTable, r)
	}
}
