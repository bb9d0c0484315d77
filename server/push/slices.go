package push

import (
	"sync"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/state"
)

// A builder makes the parts of updates that are the same for every agent, and
// makes each of them once.
type builder struct {
	mu       sync.Mutex
	services map[string]builtService
}

type builtService struct {
	version uint64 // of the service in the catalogue
	slice   *apiv1.ServiceSlice
}

func newBuilder() *builder { return &builder{services: map[string]builtService{}} }

// service gives all that agents know of a service. The result is shared and
// must not be modified.
func (b *builder) service(txn *state.Txn, s *apiv1.ServiceIndex) *apiv1.ServiceSlice {
	b.mu.Lock()
	defer b.mu.Unlock()
	built, ok := b.services[s.Name]
	if ok && built.version == s.ModifyIndex {
		return built.slice
	}
	slice := ServiceSlice(txn, s)
	// A reader of an older state must not make the others build again.
	if s.ModifyIndex > built.version {
		b.services[s.Name] = builtService{s.ModifyIndex, slice}
	}
	return slice
}

// ServiceSlice makes all that there is to know of a service.
func ServiceSlice(txn *state.Txn, s *apiv1.ServiceIndex) *apiv1.ServiceSlice {
	slice := &apiv1.ServiceSlice{
		Name: s.Name, Vip: s.Vip,
		Config:   txn.Resource(nil, mesh.ResourceService, s.Name).GetService(),
		Routes:   txn.Routes(nil, s.Name),
		Policies: txn.Policies(nil, s.Name),
	}
	for _, i := range txn.Instances(nil, s.Name) {
		if node := txn.Node(nil, i.NodeId); node != nil {
			slice.Endpoints = append(slice.Endpoints, endpoint(i, node))
		}
	}
	return slice
}

func endpoint(i *apiv1.Instance, node *apiv1.Node) *apiv1.Endpoint {
	return &apiv1.Endpoint{
		Node: node.Name, NodeId: node.Id, NodeState: node.State,
		Address: node.Address, InboundPort: node.InboundPort,
		Id: i.Id, Port: i.Port, Protocol: i.Protocol, Weight: i.Weight,
		Tags: i.Tags, Meta: i.Meta, Health: i.Health,
	}
}

// PublicNode is what agents may know of a host: how to reach it, and nothing of
// its key, its rights or who holds its lease.
func PublicNode(n *apiv1.Node) *apiv1.Node {
	return &apiv1.Node{
		Id: n.Id, Name: n.Name, Address: n.Address, InboundPort: n.InboundPort,
		State: n.State, Version: n.Version, CreateIndex: n.CreateIndex, ModifyIndex: n.ModifyIndex,
	}
}

// A cursor is how far one agent's slice has come.
type cursor struct {
	version   uint64 // 0 when the agent holds nothing to build upon
	mesh      uint64 // of the mesh's defaults
	authority uint64
	started   bool // something was sent on this stream
}

// update gives what leads from the cursor to the state, and the cursor after
// it; nil when there is nothing to tell. The first update of a stream is always
// sent, so that the agent knows that it is up to date.
func (b *builder) update(txn *state.Txn, ws *state.WatchSet, at cursor) (*apiv1.SliceUpdate, cursor) {
	removed, complete := txn.RemovedNodes(ws, at.version)
	if at.version == 0 || at.version > txn.Index(nil) || !complete {
		at.version, removed = 0, nil
	}
	u := &apiv1.SliceUpdate{Version: txn.Index(nil), Snapshot: at.version == 0, RemovedNodes: removed}
	for _, s := range txn.ServicesSince(ws, at.version) {
		u.Services = append(u.Services, b.service(txn, s))
	}
	for _, n := range txn.NodesSince(ws, at.version) {
		u.Nodes = append(u.Nodes, PublicNode(n))
	}
	changed := len(u.Services)+len(u.Nodes)+len(u.RemovedNodes) > 0
	config, version := txn.MeshConfig(ws)
	if !at.started || version != at.mesh {
		u.Mesh, changed = orEmpty(config), true
	}
	authority := txn.Authority(ws)
	if !at.started || authority.GetModifyIndex() != at.authority {
		u.Roots, u.AuthorityGeneration, changed = trusted(authority), authority.GetGeneration(), true
	}
	if !changed {
		return nil, at
	}
	return u, cursor{u.Version, version, authority.GetModifyIndex(), true}
}

// trusted are all roots that vouch for members of the mesh: during a rotation
// there are two.
func trusted(a *apiv1.Authority) [][]byte {
	return append([][]byte{a.GetRootCertificate()}, a.GetOtherRoots()...)
}

// orEmpty stands for the defaults where there is no configuration: in an update
// an absent one means that nothing changed.
func orEmpty(m *apiv1.Mesh) *apiv1.Mesh {
	if m == nil {
		return &apiv1.Mesh{}
	}
	return m
}
