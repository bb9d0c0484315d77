package rpc

import (
	"context"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/server/push"
	"github.com/meshd/meshd/store/state"
)

// admin serves operators.
type admin struct {
	apiv1.UnimplementedAdminServer
	*Services
}

// at gives the state to answer from.
func (s *admin) at(ctx context.Context, stale bool) (*state.Txn, error) {
	if stale {
		return s.replica.Local(), nil
	}
	return s.replica.Fresh(ctx)
}

// Status is answered from what this server has: it is wanted most when there is
// no leader.
func (s *admin) Status(ctx context.Context, _ *apiv1.StatusRequest) (*apiv1.StatusReply, error) {
	txn := s.replica.Local()
	reply := &apiv1.StatusReply{
		Cluster: txn.Cluster(nil), Servers: s.servers(txn), Index: txn.Index(nil),
		Version: s.cfg.Version,
	}
	reply.Agents, reply.SilentServers = s.Agents(ctx)
	for _, n := range txn.Nodes(nil) {
		reply.Nodes++
		if n.State == apiv1.NodeState_NODE_STATE_ALIVE {
			reply.NodesAlive++
		}
	}
	for _, service := range txn.Services(nil) {
		reply.Services++
		for _, i := range txn.Instances(nil, service.Name) {
			reply.Instances++
			if i.Health == apiv1.Health_HEALTH_PASSING {
				reply.InstancesPassing++
			}
		}
	}
	return reply, nil
}

func (s *admin) servers(txn *state.Txn) []*apiv1.ServerStatus {
	peers := map[string]Peer{}
	for _, p := range s.cfg.Peers() {
		peers[p.ID] = p
	}
	var list []*apiv1.ServerStatus
	for _, server := range txn.Servers(nil) {
		p := peers[server.Id]
		list = append(list, &apiv1.ServerStatus{
			Id: server.Id, Name: server.Name, Address: server.Address,
			Leader: p.Leader, Voter: p.Voter, Alive: p.Alive, Version: p.Version,
		})
	}
	return list
}

func (s *admin) Members(ctx context.Context, r *apiv1.MembersRequest) (*apiv1.MembersReply, error) {
	txn, err := s.at(ctx, r.GetStale())
	if err != nil {
		return nil, err
	}
	nodes := txn.Nodes(nil)
	if callerOf(ctx).role == host {
		nodes = publicNodes(nodes)
	}
	return &apiv1.MembersReply{Servers: s.servers(txn), Nodes: nodes}, nil
}

// publicNodes are hosts as another host may see them.
func publicNodes(nodes []*apiv1.Node) []*apiv1.Node {
	public := make([]*apiv1.Node, len(nodes))
	for i, n := range nodes {
		public[i] = push.PublicNode(n)
	}
	return public
}

func (s *admin) ListServices(ctx context.Context, r *apiv1.ListServicesRequest) (*apiv1.ListServicesReply, error) {
	txn, err := s.at(ctx, r.GetStale())
	if err != nil {
		return nil, err
	}
	reply := &apiv1.ListServicesReply{}
	for _, service := range txn.Services(nil) {
		if r.GetName() == "" || r.Name == service.Name {
			reply.Services = append(reply.Services, push.ServiceSlice(txn, service))
		}
	}
	return reply, nil
}

func (s *admin) GetResources(ctx context.Context, r *apiv1.GetResourcesRequest) (*apiv1.GetResourcesReply, error) {
	txn, err := s.at(ctx, r.GetStale())
	if err != nil {
		return nil, err
	}
	reply := &apiv1.GetResourcesReply{}
	for _, resource := range txn.Resources(nil, r.GetKind()) {
		if r.GetName() == "" || r.Name == resource.Name {
			reply.Resources = append(reply.Resources, resource)
		}
	}
	return reply, nil
}
