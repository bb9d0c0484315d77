package rpc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// leaderAdmin speaks with the leader as one server with another; nil when this
// one leads.
func (s *admin) leaderAdmin() (apiv1.AdminClient, error) {
	leadership, _ := s.replica.store.WatchLeader()
	switch {
	case leadership.Leads:
		return nil, nil
	case leadership.Address == "":
		return nil, &NoLeaderError{errNoLeader}
	}
	conn, err := s.replica.peer(leadership.Address)
	if err != nil {
		return nil, &NoLeaderError{err}
	}
	return apiv1.NewAdminClient(conn), nil
}

// RaftPeers is answered by what the leader sees, or, when there is none, by what
// this server knows by itself: it is wanted most then.
func (s *admin) RaftPeers(ctx context.Context, r *apiv1.RaftPeersRequest) (*apiv1.RaftPeersReply, error) {
	if h, ok := s.cfg.Health(); ok {
		return s.raftPeers(s.replica.Local(), h), nil
	}
	leader, err := s.leaderAdmin()
	if err == nil && leader != nil && callerOf(ctx).role != server {
		if reply, err := leader.RaftPeers(ctx, r); err == nil {
			return reply, nil
		}
	}
	return s.raftPeers(s.replica.Local(), store.ClusterHealth{}), nil
}

func (s *admin) raftPeers(txn *state.Txn, h store.ClusterHealth) *apiv1.RaftPeersReply {
	health := map[string]store.PeerHealth{}
	var leader store.PeerHealth
	for _, p := range h.Servers {
		health[p.ID] = p
		if p.Leader {
			leader = p
		}
	}
	seen := map[string]Peer{}
	for _, p := range s.cfg.Peers() {
		seen[p.ID] = p
	}
	reply := &apiv1.RaftPeersReply{FailureTolerance: uint32(max(0, h.Tolerance)), FeatureLevel: txn.FeatureLevel(nil)}
	for _, server := range txn.Servers(nil) {
		reply.Peers = append(reply.Peers, raftPeer(server, seen[server.Id], health[server.Id], leader))
	}
	return reply
}

func raftPeer(server *apiv1.Server, seen Peer, h, leader store.PeerHealth) *apiv1.RaftPeer {
	p := &apiv1.RaftPeer{
		Id: server.Id, Name: server.Name, Address: server.Address, Version: server.Version, FeatureLevel: max(server.FeatureLevel, 1),
		Leader: seen.Leader, Voter: seen.Voter, Alive: seen.Alive, Left: seen.Left,
		Healthy: h.Healthy, LastIndex: h.LastIndex, Problem: problemOf(server, seen, h, leader),
	}
	if h.ID != "" && h.LastContact >= 0 {
		p.LastContact = durationpb.New(h.LastContact)
	}
	if h.Healthy {
		p.HealthySinceUnix = h.Since.Unix()
	}
	return p
}

// problemOf says why autopilot does not count a server as healthy.
func problemOf(server *apiv1.Server, seen Peer, h, leader store.PeerHealth) string {
	switch {
	case h.Healthy:
		return ""
	case seen.Left:
		return "it was stopped"
	case leader.ID == "":
		return "there is no leader, or it was elected a moment ago: nobody knows how it is"
	case h.ID == "":
		return "it does not follow Raft yet"
	case h.LastContact < 0:
		return fmt.Sprintf("it does not answer the leader at %s, or has not heard of it", server.Address)
	case !seen.Alive:
		return "gossip does not see it alive: let UDP and TCP through to its gossip port"
	case h.LastTerm != leader.LastTerm:
		return fmt.Sprintf("its log ends in term %d, the leader's in %d", h.LastTerm, leader.LastTerm)
	case h.LastIndex < leader.LastIndex:
		return fmt.Sprintf("it lacks %d entries of the leader's log, or last heard of the leader %s ago", leader.LastIndex-h.LastIndex, h.LastContact)
	}
	return fmt.Sprintf("it last heard of the leader %s ago", h.LastContact)
}

// RemoveServer takes a server out of the mesh. The leader then takes it out of
// Raft, and the server learns of it.
func (s *admin) RemoveServer(ctx context.Context, r *apiv1.RemoveServerRequest) (*apiv1.RemoveServerReply, error) {
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	target, err := findServer(txn, r.GetName())
	if err != nil {
		return nil, err
	}
	if !r.GetForce() {
		if err := s.canSpare(ctx, target); err != nil {
			return nil, err
		}
	}
	if leadership, _ := s.replica.store.WatchLeader(); leadership.ID == target.Id && len(txn.Servers(nil)) > 1 {
		if _, err := s.transfer(ctx, &apiv1.TransferLeadershipRequest{}); err != nil {
			return nil, err
		}
	}
	_, err = s.change(ctx, "raft remove", []string{"server/" + target.Name}, &command.RemoveServer{Id: target.Id, TimeUnix: time.Now().Unix()})
	if err != nil {
		return nil, err
	}
	return &apiv1.RemoveServerReply{}, nil
}

// canSpare refuses to remove a server that the others need.
func (s *admin) canSpare(ctx context.Context, target *apiv1.Server) error {
	reply, err := s.RaftPeers(ctx, &apiv1.RaftPeersRequest{})
	if err != nil {
		return err
	}
	var h store.ClusterHealth
	for _, p := range reply.Peers {
		h.Servers = append(h.Servers, store.PeerHealth{Peer: store.Peer{ID: p.Id}, Voter: p.Voter, Healthy: p.Healthy})
	}
	if why := h.Spare(target.Id, 1); why != "" {
		return status.Errorf(codes.FailedPrecondition, "the mesh cannot spare server %s: %s; see how they are with meshd raft peers and add a server first, or do it all the same with --force", target.Name, why)
	}
	return nil
}

func findServer(txn *state.Txn, name string) (*apiv1.Server, error) {
	for _, server := range txn.Servers(nil) {
		if server.Name == name || server.Id == name {
			return server, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "there is no server %q: meshd raft peers lists them", printable(name))
}

// TransferLeadership has another server lead.
func (s *admin) TransferLeadership(ctx context.Context, r *apiv1.TransferLeadershipRequest) (*apiv1.TransferLeadershipReply, error) {
	reply, err := s.transfer(ctx, r)
	s.logChange(ctx, "raft transfer", []string{"server/" + printable(r.GetName())}, err)
	return reply, err
}

func (s *admin) transfer(ctx context.Context, r *apiv1.TransferLeadershipRequest) (*apiv1.TransferLeadershipReply, error) {
	leader, err := s.leaderAdmin()
	if err != nil {
		return nil, err
	}
	if leader != nil {
		return leader.TransferLeadership(ctx, r)
	}
	var target string
	if r.GetName() != "" {
		server, err := findServer(s.replica.Local(), r.Name)
		if err != nil {
			return nil, err
		}
		target = server.Id
	}
	if target != s.replica.self {
		if err := s.handOver(ctx, target); err != nil {
			return nil, err
		}
	}
	return &apiv1.TransferLeadershipReply{Leader: s.awaitLeader(ctx)}, nil
}

// handOver lets a server lead, or whichever is best when target is empty.
func (s *admin) handOver(ctx context.Context, target string) error {
	voters := 0
	for _, p := range s.cfg.Peers() {
		if p.Voter && p.ID != s.replica.self && (target == "" || p.ID == target) {
			voters++
		}
	}
	switch {
	case voters == 0 && target == "":
		return status.Error(codes.FailedPrecondition, "there is no other voter that could lead: meshd raft peers shows who has a vote")
	case voters == 0:
		return status.Error(codes.FailedPrecondition, "that server has no vote yet and cannot lead: meshd raft peers shows who has one")
	}
	if err := s.replica.store.TransferLeadership(ctx, target); err != nil {
		return status.Errorf(codes.Unavailable, "%v", err)
	}
	return nil
}

// awaitLeader waits for a leader and gives its name, or its id if it has none.
func (s *admin) awaitLeader(ctx context.Context) string {
	for {
		leadership, changed := s.replica.store.WatchLeader()
		if id := leadership.ID; id != "" {
			if server := s.replica.Local().Server(nil, id); server != nil {
				return server.Name
			}
			return id
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ""
		}
	}
}

// RemoveHost forgets a host, which can come back with a new token only.
func (s *admin) RemoveHost(ctx context.Context, r *apiv1.RemoveHostRequest) (*apiv1.RemoveHostReply, error) {
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	node := txn.NodeByName(nil, r.GetName())
	switch {
	case node == nil:
		return nil, status.Errorf(codes.NotFound, "there is no host %q: meshd members lists them", printable(r.GetName()))
	case node.State == apiv1.NodeState_NODE_STATE_ALIVE && !r.GetForce():
		return nil, status.Errorf(codes.FailedPrecondition, "host %s is alive: run meshd leave there, or remove it all the same with --force", node.Name)
	}
	_, err = s.change(ctx, "members remove", []string{"host/" + node.Name}, &command.RemoveNode{NodeId: node.Id})
	if err != nil {
		return nil, err
	}
	return &apiv1.RemoveHostReply{}, nil
}
