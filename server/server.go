// Package server assembles one server of a mesh's control plane.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/telemetry"
	"github.com/meshd/meshd/internal/version"
	"github.com/meshd/meshd/server/backup"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/server/leader"
	"github.com/meshd/meshd/server/push"
	"github.com/meshd/meshd/server/rpc"
	"github.com/meshd/meshd/store"
)

const (
	// sweepInterval is half of how long a lease may name this server without a
	// stream.
	sweepInterval = 5 * time.Second
	// stopTimeout bounds each step of stopping that waits for others.
	stopTimeout = 5 * time.Second
)

// A Server is one running server. It is started once and stopped once.
type Server struct {
	cfg      Config
	dir      dataDir
	member   *member
	keeper   *keeper
	log      *slog.Logger
	registry *prometheus.Registry

	mux     *grpcx.Mux
	store   *store.Store
	gossip  *gossip.Gossip
	replica *rpc.Replica
	hub     *push.Hub
	census  func(context.Context) ca.Census
	loops   atomic.Pointer[leader.Loops]
	// schedule of snapshots, nil when there is none.
	schedule *backup.Schedule

	gossipKeys sync.Mutex // guards member.gossip
	ready      chan struct{}
	retirement retirement
	background sync.WaitGroup
	// stops are the steps that undo a start, in the order of starting.
	stops []func()
}

// New reads the data directory, which Init or Join has filled.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	dir := dataDir(cfg.DataDir)
	if err := dir.checkRetired(); err != nil {
		return nil, err
	}
	m, err := dir.read(cfg.Credentials)
	if err != nil {
		return nil, err
	}
	if cfg.Name != "" && cfg.Name != m.Name {
		return nil, fmt.Errorf("the configured name is %s, and %s holds server %s: a server keeps its name, so correct the configuration", cfg.Name, dir, m.Name)
	}
	log := cfg.Logger.With("server", m.Name)
	k, err := newKeeper(dir, m, log)
	if err != nil {
		return nil, err
	}
	build := version.Get()
	made := &Server{
		cfg: cfg, dir: dir, member: m, keeper: k, log: log,
		registry: telemetry.NewRegistry(build.Version, build.Commit), ready: make(chan struct{}),
	}
	made.schedule = made.newSchedule()
	return made, nil
}

// Start brings the server up and returns when it takes connections; ctx bounds
// that only. Ready tells when it has found its mesh.
func (s *Server) Start(ctx context.Context) error {
	p, err := s.listen(ctx)
	if err == nil {
		err = s.openStore(p.raft)
	}
	if err == nil {
		err = s.checkRecovery()
	}
	if err == nil {
		err = s.startGossip(ctx)
	}
	if err == nil {
		err = s.serveCalls(ctx, p)
	}
	if err == nil {
		err = s.serveHTTP(ctx)
	}
	if err != nil {
		s.Stop()
		return err
	}
	s.mux.Start()
	s.startBackground()
	s.log.Info("server started", "id", s.member.ID, "cluster", s.member.ClusterName, "address", s.cfg.Advertise)
	return nil
}

// Stop ends the server in the reverse order of its start:
//
//   - leadership goes first, so that writes go on elsewhere while this server
//     still answers;
//   - then what this server does by itself, because it writes;
//   - HTTP, the agents' streams (their agents go to other servers) and calls;
//   - gossip, which tells the others that this server went on purpose;
//   - the store, which nobody uses any more;
//   - and last the port, over which the store still spoke.
func (s *Server) Stop() {
	for i := len(s.stops) - 1; i >= 0; i-- {
		s.stops[i]()
	}
	s.stops = nil
}

func (s *Server) onStop(f func()) { s.stops = append(s.stops, f) }

// Ready is closed once this server knows a leader and has the mesh's state.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Failed is closed when the disk has failed and the process should end; Err
// says why.
func (s *Server) Failed() <-chan struct{} { return s.store.Failed() }

// Err is why Failed was closed.
func (s *Server) Err() error { return s.store.Err() }

// Name of the server.
func (s *Server) Name() string { return s.member.Name }

// ID of the server.
func (s *Server) ID() string { return s.member.ID }

// Leads reports whether this server believes that it leads the others.
func (s *Server) Leads() bool { return s.store.IsLeader() }

// openStore starts Raft. Only a server that Init has made begins a cluster, and
// only until the mesh is made.
func (s *Server) openStore(layer store.StreamLayer) (err error) {
	s.store, err = store.Open(store.Config{
		ID: s.member.ID, Address: s.cfg.Advertise, Dir: s.dir.file(raftDir),
		Stream: layer, Logger: s.log, Metrics: s.registry, NoSync: s.cfg.NoSync,
	})
	if err != nil {
		return err
	}
	s.onStop(func() { s.complain("stopping the store", s.store.Shutdown()) })
	if s.member.init == nil {
		return nil
	}
	if err := s.store.Bootstrap(); err != nil && !errors.Is(err, store.ErrBootstrapped) {
		return err
	}
	return nil
}

// startBackground begins what the server does by itself.
func (s *Server) startBackground() {
	ctx, cancel := context.WithCancel(context.Background())
	s.onStop(func() {
		cancel()
		s.background.Wait()
	})
	loops := leader.New(leader.Config{
		Self: s.member.ID, Name: s.member.Name, Keys: s.keyring(), FeatureLevel: s.cfg.featureLevel(), Autopilot: s.cfg.Autopilot,
		Store: s.store, Replica: s.replica, Init: s.member.init,
		Members: s.gossip.Members, Changes: s.gossip.Changes(), Logger: s.log,
		Census: s.census, Vault: s.member.vault(),
	})
	s.loops.Store(loops)
	s.background.Go(func() { loops.Run(ctx) })
	s.background.Go(func() { s.keeper.run(ctx, s.replica.Local, s.replica.Renew) })
	s.background.Go(func() { s.followGossipKeys(ctx) })
	s.background.Go(func() { s.awaitReady(ctx) })
	if s.schedule != nil {
		s.background.Go(func() { s.schedule.Run(ctx) })
	}
	s.background.Go(func() { s.keepTogether(ctx) })
	s.background.Go(func() { s.awaitRetirement(ctx) })
	s.background.Go(func() {
		for sleep(ctx, sweepInterval) {
			s.hub.Sweep()
			s.hub.Balance(s.alive())
		}
	})
	s.onStop(s.handOver)
}

// alive are the servers that gossip sees, by id.
func (s *Server) alive() map[string]bool {
	alive := map[string]bool{}
	for _, m := range s.gossip.Members() {
		alive[m.ID] = m.State == gossip.Alive
	}
	return alive
}

// handOver lets another server lead, if this one does and there is another.
func (s *Server) handOver() {
	members, err := s.store.Servers()
	if err != nil || len(members) < 2 || !s.store.IsLeader() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	s.complain("handing over leadership", s.store.TransferLeadership(ctx, ""))
}

// complain logs a failure that stops nothing.
func (s *Server) complain(doing string, err error) {
	if err != nil {
		s.log.Warn(doing+" failed", "error", err)
	}
}

// peers is what this server knows of all servers beyond the replicated state.
func (s *Server) peers() []rpc.Peer {
	known := map[string]*rpc.Peer{}
	at := func(id string) *rpc.Peer {
		if known[id] == nil {
			known[id] = &rpc.Peer{ID: id}
		}
		return known[id]
	}
	for _, m := range s.gossip.Members() {
		p := at(m.ID)
		p.Alive, p.Left, p.Version = m.State == gossip.Alive, m.State == gossip.Left, m.Tags.Version
	}
	members, err := s.store.Servers()
	s.complain("reading the members of Raft", err)
	for _, m := range members {
		at(m.ID).Voter = m.Voter
	}
	if leadership, _ := s.store.WatchLeader(); leadership.ID != "" {
		at(leadership.ID).Leader = true
	}
	list := make([]rpc.Peer, 0, len(known))
	for _, p := range known {
		list = append(list, *p)
	}
	return list
}

// health is autopilot's view of the servers, if this one leads.
func (s *Server) health() (h store.ClusterHealth, ok bool) {
	if loops := s.loops.Load(); loops != nil {
		return loops.Health()
	}
	return h, false
}

// secrets are what a server that joins needs.
func (s *Server) secrets() *apiv1.ServerSecrets {
	keys := s.keyring().Own()
	secrets := &apiv1.ServerSecrets{GossipKey: keys[0][:], SealingKey: s.member.sealing[:], Recovery: s.member.Recovery}
	for _, key := range keys {
		secrets.GossipKeys = append(secrets.GossipKeys, key[:])
	}
	for _, server := range s.replica.Local().Servers(nil) {
		secrets.GossipAddresses = append(secrets.GossipAddresses, server.GossipAddress)
	}
	return secrets
}

// sleep reports whether it was not cut short by the end of ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
