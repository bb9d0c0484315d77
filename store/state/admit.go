package state

import (
	"bytes"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
)

// joining is what a host or server brings when it asks to be let in.
type joining struct {
	token  string // id; whoever proposed the entry has checked the secret
	name   string
	key    []byte // hash of the public key
	server bool
	time   int64 // Unix seconds, by the proposer's clock
}

// admit checks that the token lets the joiner in, and uses it up.
func (w *writer) admit(j joining) (*apiv1.Token, error) {
	if j.time <= 0 {
		return nil, invalid("the entry does not say when %q asked to join", j.name)
	}
	t := w.Token(nil, j.token)
	if t == nil {
		return nil, noEntry("the join token is not known to the mesh, or has been revoked: make a new one with meshd token create")
	}
	if err := w.checkToken(t, j); err != nil {
		return nil, err
	}
	if !bytes.Equal(t.UsedBy, j.key) {
		t = proto.CloneOf(t)
		t.UsedBy, t.UsedUnix = bytes.Clone(j.key), j.time
		w.put(tokenTable, t)
	}
	return t, nil
}

func (w *writer) checkToken(t *apiv1.Token, j joining) error {
	switch {
	case j.time >= t.ExpiresUnix:
		return noEntry("the join token %s expired at %s: make a new one with meshd token create", t.Id, clock(t.ExpiresUnix))
	case j.server && !t.Server:
		return noEntry("the join token %s is for hosts: for a server, make one with meshd token create --server", t.Id)
	case len(t.AllowedNames) > 0 && !slices.Contains(t.AllowedNames, j.name):
		return noEntry("the join token %s is not for the name %q, only for %q: make one for this name with meshd token create", t.Id, j.name, t.AllowedNames)
	case len(t.UsedBy) > 0 && !t.Reusable && !w.repeats(t, j):
		return noEntry("the join token %s was used by another host at %s, and it is for one use: make a new one with meshd token create; if that was not you, remove the host that used it", t.Id, clock(t.UsedUnix))
	}
	return nil
}

// repeats tells whether the one who used the token asks again, because the
// answer was lost. One who has been removed since does not get back in so.
func (w *writer) repeats(t *apiv1.Token, j joining) bool {
	member := w.nodeByKey(j.key) != nil || w.serverByKey(j.key) != nil
	return bytes.Equal(t.UsedBy, j.key) && member
}

func noEntry(format string, args ...any) error {
	return refuse(command.Refusal_REFUSAL_TOKEN, format, args...)
}

func clock(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }

// putNode admits a host. One that is a member by its key keeps its id, which
// the result names, and its lease.
func (w *writer) putNode(c *command.PutNode) error {
	if err := checkNode(c.Node); err != nil {
		return err
	}
	n := proto.CloneOf(c.Node)
	token, err := w.admit(joining{token: c.TokenId, name: n.Name, key: n.KeyHash, time: c.TimeUnix})
	if err != nil {
		return err
	}
	n.AllowedServices = slices.Clone(token.AllowedServices)
	if w.FeatureLevel(nil) >= 2 {
		n.WholeCatalogue, n.StateUnix = token.WholeCatalogue, c.TimeUnix
	}
	if known := w.nodeByKey(n.KeyHash); known != nil {
		return w.updateNode(known, n)
	}
	return w.addNode(n)
}

func (w *writer) addNode(n *apiv1.Node) error {
	if other := w.Node(nil, n.Id); other != nil {
		return refuse(command.Refusal_REFUSAL_EXISTS, "host id %s belongs to %q already", n.Id, other.Name)
	}
	if err := w.takeName(n.Name); err != nil {
		return err
	}
	n.State, n.LeaseServer, n.LeaseEpoch = apiv1.NodeState_NODE_STATE_UNSPECIFIED, "", 0
	n.CreateIndex, n.ModifyIndex = w.index, w.index
	w.put(nodeTable, n)
	w.result.Id = n.Id
	return nil
}

// takeName makes a name free. A host that is not alive gives way: most likely
// it is the one that joins, installed anew.
func (w *writer) takeName(name string) error {
	other := w.NodeByName(nil, name)
	if other == nil {
		w.recall(name)
		return nil
	}
	if other.State == apiv1.NodeState_NODE_STATE_ALIVE {
		return refuse(command.Refusal_REFUSAL_EXISTS, "there is a host %q already, alive at %s (id %s): join under another name, or stop the agent there and run meshd leave", name, other.Address, other.Id)
	}
	w.dropNode(other)
	return nil
}

func (w *writer) updateNode(known, n *apiv1.Node) error {
	w.result.Id = known.Id
	if known.Name != n.Name {
		return refuse(command.Refusal_REFUSAL_EXISTS, "this host is a member as %q already (id %s): to give it another name, run meshd leave first", known.Name, known.Id)
	}
	n.Id, n.State, n.LeaseServer, n.LeaseEpoch = known.Id, known.State, known.LeaseServer, known.LeaseEpoch
	n.StateUnix = known.StateUnix
	w.replaceNode(known, n)
	return nil
}

func (w *writer) nodeByKey(hash []byte) *apiv1.Node {
	return first[*apiv1.Node](&w.Txn, nil, nodeTable, byKey, hash)
}

func checkNode(n *apiv1.Node) error {
	if err := checkID("host id", n.GetId()); err != nil {
		return err
	}
	if err := mesh.CheckName(n.GetName()); err != nil {
		return errorIn(err, "host %s", n.GetId())
	}
	if err := checkIP(n.GetAddress()); err != nil {
		return errorIn(err, "host %q", n.GetName())
	}
	if err := checkPort(n.GetInboundPort()); err != nil {
		return errorIn(err, "inbound listener of host %q", n.GetName())
	}
	return checkHash("host's key", n.GetKeyHash())
}
