package rpc

import (
	"context"
	"encoding/base64"

	apiv1 "github.com/meshd/meshd/api/v1"
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
		Version: s.cfg.Version, Problem: s.cfg.Problem(),
	}
	reply.Agents, reply.Backups, reply.SilentServers = s.askServers(ctx)
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
			Leader: p.Leader, Voter: p.Voter, Alive: p.Alive, Left: p.Left, Version: p.Version,
			Pin: base64.StdEncoding.EncodeToString(server.KeyHash),
		})
	}
	return list
}
