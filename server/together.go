package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/internal/version"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// togetherInterval is how often a server looks for those that it has lost sight
// of, and whether the others know its present addresses.
const togetherInterval = 5 * time.Second

func (s *Server) startGossip(ctx context.Context) error {
	advertise, err := netip.ParseAddrPort(s.cfg.GossipAdvertise)
	if err != nil {
		return fmt.Errorf("advertised gossip address: %w", err)
	}
	s.gossip, err = gossip.Start(ctx, gossip.Config{
		Name: s.member.ID, Bind: s.cfg.GossipListen, Advertise: advertise,
		Keys: s.member.gossip, Label: s.gossipLabel(), Network: s.cfg.Network, Logger: s.log,
		Tags: gossip.Tags{Name: s.member.Name, Address: s.cfg.Advertise, Version: version.Version()},
	})
	if err != nil {
		return err
	}
	s.onStop(func() {
		s.complain("leaving gossip", s.gossip.Leave(time.Second))
		s.complain("stopping gossip", s.gossip.Stop())
	})
	return nil
}

// gossipLabel keeps servers of other clusters apart, and those of this one that a
// recovery has left behind.
func (s *Server) gossipLabel() string {
	if s.member.Recovery == 0 {
		return s.member.ClusterID
	}
	return fmt.Sprintf("%s/%d", s.member.ClusterID, s.member.Recovery)
}

// keepTogether keeps this server in touch with the others: at the start, and
// when a partition has lasted so long that gossip gave them up.
func (s *Server) keepTogether(ctx context.Context) {
	for ctx.Err() == nil && s.problem() == "" {
		if missing := s.missing(); len(missing) > 0 {
			if err := s.gossip.Join(missing); err != nil {
				s.log.Debug("servers not found by gossip", "addresses", missing, "error", err)
			}
		}
		s.complain("telling the others about this server", s.announce(ctx))
		sleep(ctx, togetherInterval)
	}
}

// missing are the gossip addresses of the servers that are not seen alive. A
// server that has no state yet knows those that its join told it.
func (s *Server) missing() (addresses []string) {
	alive := s.seenAlive()
	servers := s.replica.Local().Servers(nil)
	if len(servers) == 0 && len(alive) < 2 {
		return s.member.GossipPeers
	}
	for _, server := range servers {
		if !alive[server.Id] && server.Id != s.member.ID {
			addresses = append(addresses, server.GossipAddress)
		}
	}
	return addresses
}

// seenAlive are those whom gossip sees alive.
func (s *Server) seenAlive() map[string]bool {
	alive := map[string]bool{}
	for _, m := range s.gossip.Members() {
		alive[m.ID] = m.State == gossip.Alive
	}
	return alive
}

// announce corrects what the state says of this server: its addresses, which the
// leader takes to Raft, its version, and the feature level that it knows, by
// which the leader raises that of the mesh.
func (s *Server) announce(ctx context.Context) error {
	known := s.replica.Local().Server(nil, s.member.ID)
	if known == nil {
		return nil
	}
	self := proto.CloneOf(known)
	self.Address, self.GossipAddress = s.cfg.Advertise, s.cfg.GossipAdvertise
	self.Version, self.FeatureLevel = version.Version(), s.cfg.featureLevel()
	if proto.Equal(self, known) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	result, err := s.replica.Propose(ctx, &command.PutServer{Server: self})
	if err == nil && result.Refusal != command.Refusal_REFUSAL_NONE {
		err = errors.New(result.Message)
	}
	return err
}

// awaitReady notes when this server has found its mesh.
func (s *Server) awaitReady(ctx context.Context) {
	if !s.awaitCluster(ctx) || !s.awaitLeader(ctx) {
		return
	}
	if s.member.init != nil {
		s.complain("removing the file that made the mesh", s.dir.forgetInit())
	}
	close(s.ready)
	s.log.Info("server ready")
}

func (s *Server) awaitCluster(ctx context.Context) bool {
	for {
		var ws state.WatchSet
		if s.replica.Local().Cluster(&ws) != nil {
			return true
		}
		if ws.Wait(ctx) != nil {
			return false
		}
	}
}

func (s *Server) awaitLeader(ctx context.Context) bool {
	for {
		leadership, changed := s.store.WatchLeader()
		if leadership.ID != "" {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// healthy says why this server does not do its work.
func (s *Server) healthy() error {
	if why := s.problem(); why != "" {
		return errors.New(why)
	}
	if s.replica.Local().Cluster(nil) == nil {
		return errors.New("this server has not got the state of its mesh yet")
	}
	if leadership, _ := s.store.WatchLeader(); leadership.ID == "" {
		return errors.New("the servers have no leader: it takes a majority of them to have one")
	}
	return nil
}

// registerMetrics adds what this server knows of the mesh.
func (s *Server) registerMetrics() error {
	gauge := func(name, help string, value func(*state.Txn) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "meshd_server_" + name, Help: help}, func() float64 {
			return float64(value(s.replica.Local()))
		})
	}
	for _, c := range append([]prometheus.Collector{
		gauge("agent_streams", "Agents that have their stream to this server.", func(*state.Txn) int { return len(s.hub.Agents()) }),
		gauge("servers", "Servers of the mesh.", func(txn *state.Txn) int { return len(txn.Servers(nil)) }),
		gauge("nodes", "Hosts of the mesh.", func(txn *state.Txn) int { return len(txn.Nodes(nil)) }),
		gauge("nodes_alive", "Hosts of the mesh whose agents have a stream to a server.", aliveNodes),
		gauge("services", "Services in the catalogue.", func(txn *state.Txn) int { return len(txn.Services(nil)) }),
	}, s.backupMetrics()...) {
		if err := s.registry.Register(c); err != nil {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

func aliveNodes(txn *state.Txn) (n int) {
	for _, node := range txn.Nodes(nil) {
		if node.State == apiv1.NodeState_NODE_STATE_ALIVE {
			n++
		}
	}
	return n
}
