package push

import (
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/state"
)

// serviceHead gives what there is to know of a service but its endpoints.
func serviceHead(txn *state.Txn, s *apiv1.ServiceIndex) *apiv1.ServiceSlice {
	return &apiv1.ServiceSlice{
		Name: s.Name, Vip: s.Vip,
		Config:   txn.Resource(nil, mesh.ResourceService, s.Name).GetService(),
		Routes:   txn.Routes(nil, s.Name),
		Policies: txn.Policies(nil, s.Name),
	}
}

// ServiceSlice makes all that there is to know of a service.
func ServiceSlice(txn *state.Txn, s *apiv1.ServiceIndex) *apiv1.ServiceSlice {
	slice := serviceHead(txn, s)
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
