package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
)

// Rules are what autopilot goes by.
type Rules struct {
	// RemoveDead lets servers that are gone be removed, never so many that fewer
	// than MinVoters voters are left and never half of them at once.
	RemoveDead bool
	MinVoters  int
	// LastContact is how long a healthy server may not have heard from the
	// leader, MaxBehind how many entries it may lack.
	LastContact time.Duration
	MaxBehind   uint64
	// Stable is how long a new server must be healthy before it gets a vote, by
	// the clock of the present leader.
	Stable time.Duration
}

// Liveness is what gossip says of a server.
type Liveness int

const (
	Unknown Liveness = iota
	Alive
	Dead
	Left
)

// A Peer is a server as those know it who run it, whether Raft does or not.
type Peer struct {
	ID, Name, Address, Version string
	Liveness                   Liveness
}

// A PeerHealth is what autopilot makes of a member of Raft.
type PeerHealth struct {
	Peer
	Leader, Voter bool
	Healthy       bool
	// Since is when Healthy last changed.
	Since time.Time
	// LastContact, LastTerm and LastIndex are what the server answered.
	LastContact         time.Duration
	LastTerm, LastIndex uint64
}

// A ClusterHealth is autopilot's view of the cluster.
type ClusterHealth struct {
	// Healthy is set when all servers are.
	Healthy bool
	// Tolerance is how many voters may fail and the cluster goes on.
	Tolerance int
	// Servers are the members of Raft by id; empty before the first look.
	Servers []PeerHealth
}

// An Overseer is what autopilot asks about the servers, and tells. Its methods
// are called from autopilot's goroutines.
type Overseer interface {
	Rules() Rules
	// Peers are all servers that there should be. What else is a member of Raft
	// is left alone.
	Peers() []Peer
	// MayRemove says of a server that is not alive whether it is to be removed:
	// a short absence is no death.
	MayRemove(Peer) bool
	// Ask asks servers for their Stats, as many as answer before ctx ends.
	Ask(ctx context.Context, peers []Peer) map[string]Stats
	// Remove takes a dead server out of the cluster; it must not wait for that.
	Remove(Peer)
	// Observed is called after each look.
	Observed(ClusterHealth)
}

// Intervals say how often autopilot looks at the servers and how often it acts.
// The defaults are 2 s and 10 s.
type Intervals struct{ Look, Act time.Duration }

// Autopilot gives votes to servers that have become stable and finds the dead
// ones. It runs on the leader only, between Start and Stop.
type Autopilot struct{ pilot *autopilot.Autopilot }

// NewAutopilot makes one that does not run yet.
func (s *Store) NewAutopilot(o Overseer, every Intervals) *Autopilot {
	logger := newRaftLogger(s.config.Logger).Named("autopilot")
	return &Autopilot{autopilot.New(patientRaft{s.raft, s}, overseen{o}, autopilot.WithPromoter(&promoter{overseer: o}),
		autopilot.WithLogger(logger), autopilot.WithUpdateInterval(every.Look), autopilot.WithReconcileInterval(every.Act))}
}

// Start begins; before it returns there has been a first look.
func (a *Autopilot) Start(ctx context.Context) { a.pilot.Start(ctx) }

// Stop ends it and waits for its goroutines. It must be called before the
// store's Shutdown.
func (a *Autopilot) Stop() { <-a.pilot.Stop() }

// RemoveDead has it look for dead servers now, not only when it next acts.
func (a *Autopilot) RemoveDead() { a.pilot.RemoveDeadServers() }

// Health is the newest view.
func (a *Autopilot) Health() ClusterHealth { return healthOf(a.pilot.GetState()) }

func healthOf(state *autopilot.State) ClusterHealth {
	h := ClusterHealth{Healthy: state.Healthy, Tolerance: state.FailureTolerance}
	for _, server := range state.Servers {
		h.Servers = append(h.Servers, PeerHealth{
			Peer:   peerOf(&server.Server),
			Leader: server.State == autopilot.RaftLeader, Voter: server.HasVotingRights(),
			Healthy: server.Health.Healthy, Since: server.Health.StableSince,
			LastContact: server.Stats.LastContact, LastTerm: server.Stats.LastTerm, LastIndex: server.Stats.LastIndex,
		})
	}
	slices.SortFunc(h.Servers, func(a, b PeerHealth) int { return strings.Compare(a.ID, b.ID) })
	return h
}

// overseen is an Overseer as the library wants it.
type overseen struct{ Overseer }

var _ autopilot.ApplicationIntegration = overseen{}

func (o overseen) AutopilotConfig() *autopilot.Config {
	r := o.Rules()
	return &autopilot.Config{
		CleanupDeadServers: r.RemoveDead, MinQuorum: uint(r.MinVoters),
		LastContactThreshold: r.LastContact, MaxTrailingLogs: r.MaxBehind, ServerStabilizationTime: r.Stable,
	}
}

func (o overseen) NotifyState(s *autopilot.State) { o.Observed(healthOf(s)) }

func (o overseen) KnownServers() map[raft.ServerID]*autopilot.Server {
	known := map[raft.ServerID]*autopilot.Server{}
	for _, p := range o.Peers() {
		known[raft.ServerID(p.ID)] = &autopilot.Server{
			ID: raft.ServerID(p.ID), Name: p.Name, Address: raft.ServerAddress(p.Address), Version: p.Version,
			NodeStatus: statuses[p.Liveness], RaftVersion: int(raft.ProtocolVersionMax), NodeType: autopilot.NodeVoter,
		}
	}
	return known
}

func (o overseen) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	var peers []Peer
	for _, s := range servers {
		peers = append(peers, peerOf(s))
	}
	all := map[raft.ServerID]*autopilot.ServerStats{}
	for id, s := range o.Ask(ctx, peers) {
		all[raft.ServerID(id)] = &autopilot.ServerStats{LastContact: s.LastContact, LastTerm: s.LastTerm, LastIndex: s.LastIndex}
	}
	return all
}

func (o overseen) RemoveFailedServer(s *autopilot.Server) { o.Remove(peerOf(s)) }

var statuses = map[Liveness]autopilot.NodeStatus{
	Unknown: autopilot.NodeUnknown, Alive: autopilot.NodeAlive, Dead: autopilot.NodeFailed, Left: autopilot.NodeLeft,
}

func peerOf(s *autopilot.Server) Peer {
	p := Peer{ID: string(s.ID), Name: s.Name, Address: string(s.Address), Version: s.Version}
	for liveness, status := range statuses {
		if status == s.NodeStatus {
			p.Liveness = liveness
		}
	}
	return p
}

// promoter decides as the library's own does, but for two things: a new leader
// has not seen for how long a server has been well, and waits; and who is not
// alive is gone only when the overseer says so.
type promoter struct {
	autopilot.StablePromoter
	overseer Overseer
}

func (p *promoter) CalculatePromotionsAndDemotions(c *autopilot.Config, s *autopilot.State) (changes autopilot.RaftChanges) {
	now := time.Now()
	for id, server := range s.Servers {
		if server.State == autopilot.RaftNonVoter && server.Health.IsStable(now, c.ServerStabilizationTime) {
			changes.Promotions = append(changes.Promotions, id)
		}
	}
	return changes
}

func (p *promoter) FilterFailedServerRemovals(_ *autopilot.Config, _ *autopilot.State, failed *autopilot.FailedServers) *autopilot.FailedServers {
	alive := func(s *autopilot.Server) bool { return !p.overseer.MayRemove(peerOf(s)) }
	return &autopilot.FailedServers{
		FailedVoters:    slices.DeleteFunc(failed.FailedVoters, alive),
		FailedNonVoters: slices.DeleteFunc(failed.FailedNonVoters, alive),
	}
}

// patientRaft is Raft with changes that end when the store stops: Raft itself
// leaves some without an answer once it has been stopped.
type patientRaft struct {
	*raft.Raft
	store *Store
}

func (r patientRaft) AddNonvoter(id raft.ServerID, address raft.ServerAddress, prev uint64, timeout time.Duration) raft.IndexFuture {
	return change(r.store, func() raft.IndexFuture { return r.Raft.AddNonvoter(id, address, prev, timeout) })
}

func (r patientRaft) AddVoter(id raft.ServerID, address raft.ServerAddress, prev uint64, timeout time.Duration) raft.IndexFuture {
	return change(r.store, func() raft.IndexFuture { return r.Raft.AddVoter(id, address, prev, timeout) })
}

func (r patientRaft) DemoteVoter(id raft.ServerID, prev uint64, timeout time.Duration) raft.IndexFuture {
	return change(r.store, func() raft.IndexFuture { return r.Raft.DemoteVoter(id, prev, timeout) })
}

func (r patientRaft) RemoveServer(id raft.ServerID, prev uint64, timeout time.Duration) raft.IndexFuture {
	return change(r.store, func() raft.IndexFuture { return r.Raft.RemoveServer(id, prev, timeout) })
}

// A finished future has its answer.
type finished struct {
	index uint64
	err   error
}

func (f finished) Error() error  { return f.err }
func (f finished) Index() uint64 { return f.index }

func change(s *Store, ask func() raft.IndexFuture) raft.IndexFuture {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	future, err := await(ctx, s, ask)
	if err != nil {
		return finished{err: s.explainChange(err)}
	}
	return finished{index: future.Index()}
}
