package leader

import (
	"cmp"
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/command"
)

// Autopilot says when servers get their vote and when dead ones are removed. Zero
// fields stand for the defaults.
type Autopilot struct {
	// KeepDead leaves the removal of dead servers to people.
	KeepDead bool
	// MinVoters is how many voters there are at least after a removal; 3.
	MinVoters int
	// Stable is how long a server must have been well before it gets a vote, once
	// there are three voters; 10 s.
	Stable time.Duration
	// DeadAfter is how long a server must have been dead before it is removed;
	// 10 min, more than it takes a host to start anew. One that was stopped in
	// good order is not dead.
	DeadAfter time.Duration
}

const (
	// lastContact is how long a healthy server may not have heard from the leader,
	// which lets it hear every 100 ms.
	lastContact = time.Second
	// maxBehind is how many entries a healthy server may lack.
	maxBehind = 2048
)

var pilotIntervals = store.Intervals{Look: time.Second, Act: time.Second}

func (a Autopilot) withDefaults() Autopilot {
	a.MinVoters = cmp.Or(a.MinVoters, 3)
	a.Stable = cmp.Or(a.Stable, 10*time.Second)
	a.DeadAfter = cmp.Or(a.DeadAfter, 10*time.Minute)
	return a
}

// A pilot oversees autopilot for one term.
type pilot struct {
	*store.Autopilot
	loops *Loops
	dead  chan store.Peer // that autopilot wants removed

	mu   sync.Mutex
	away map[string]time.Time // since when servers are dead by gossip
}

var _ store.Overseer = (*pilot)(nil)

// runAutopilot runs autopilot until ctx ends, and takes out the servers that it
// finds dead.
func (l *Loops) runAutopilot(ctx context.Context) {
	p := &pilot{loops: l, dead: make(chan store.Peer), away: map[string]time.Time{}}
	p.Autopilot = l.cfg.Store.NewAutopilot(p, pilotIntervals)
	p.Start(ctx)
	defer p.Stop()
	l.pilot.Store(p)
	defer l.pilot.Store(nil)
	for {
		select {
		case s := <-p.dead:
			l.removeDead(ctx, s)
		case <-ctx.Done():
			return
		}
	}
}

// Health is autopilot's view; ok is false on a server that does not lead.
func (l *Loops) Health() (h store.ClusterHealth, ok bool) {
	p := l.pilot.Load()
	if p == nil {
		return h, false
	}
	return p.Autopilot.Health(), true
}

func (p *pilot) Rules() store.Rules {
	a := p.loops.cfg.Autopilot
	return store.Rules{RemoveDead: !a.KeepDead, MinVoters: a.MinVoters, LastContact: lastContact, MaxBehind: maxBehind, Stable: a.Stable}
}

// Peers are the servers of the state. It is where autopilot begins every look.
func (p *pilot) Peers() (peers []store.Peer) {
	seen := map[string]gossip.Member{}
	for _, m := range p.loops.cfg.Members() {
		seen[m.ID] = m
	}
	for _, s := range p.loops.cfg.Replica.Local().Servers(nil) {
		m := seen[s.Id]
		if s.Id == p.loops.cfg.Self {
			m.State = gossip.Alive
		}
		peers = append(peers, store.Peer{ID: s.Id, Name: s.Name, Address: s.Address, Version: m.Tags.Version, Liveness: liveness[m.State]})
	}
	p.note(peers, time.Now())
	return peers
}

var liveness = map[gossip.State]store.Liveness{gossip.Alive: store.Alive, gossip.Dead: store.Dead, gossip.Left: store.Left}

// note keeps since when servers are dead: or unknown, for gossip forgets those
// that a new process has never met.
func (p *pilot) note(peers []store.Peer, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	away := map[string]time.Time{}
	for _, peer := range peers {
		if peer.Liveness == store.Alive || peer.Liveness == store.Left {
			continue
		}
		away[peer.ID] = now
		if since, known := p.away[peer.ID]; known {
			away[peer.ID] = since
		}
	}
	p.away = away
}

func (p *pilot) MayRemove(peer store.Peer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, dead := p.away[peer.ID]
	return dead && time.Since(since) >= p.loops.cfg.Autopilot.DeadAfter
}

// Ask asks all at once. One that does not answer has not heard from the leader
// for all that is known.
func (p *pilot) Ask(ctx context.Context, peers []store.Peer) map[string]store.Stats {
	all := map[string]store.Stats{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, peer := range peers {
		asking.Go(func() {
			stats := p.ask(ctx, peer)
			mu.Lock()
			defer mu.Unlock()
			all[peer.ID] = stats
		})
	}
	asking.Wait()
	return all
}

func (p *pilot) ask(ctx context.Context, peer store.Peer) store.Stats {
	if peer.ID == p.loops.cfg.Self {
		return p.loops.cfg.Store.Stats()
	}
	r, err := p.loops.cfg.Replica.Progress(ctx, peer.ID, peer.Address)
	if err != nil {
		return store.Stats{ID: peer.ID, LastContact: -1}
	}
	return store.Stats{ID: peer.ID, LastIndex: r.LastIndex, LastTerm: r.LastTerm, LastContact: r.LastContact.AsDuration()}
}

// Remove leaves the work to runAutopilot; if that is busy, autopilot comes again.
func (p *pilot) Remove(peer store.Peer) {
	select {
	case p.dead <- peer:
	default:
	}
}

// Observed is for those who keep a copy.
func (p *pilot) Observed(store.ClusterHealth) {}

// removeDead takes a dead server out of the mesh, if the others stay a mesh that
// can lose one.
func (l *Loops) removeDead(ctx context.Context, s store.Peer) {
	h, _ := l.Health()
	if why := h.Spare(s.ID, l.cfg.Autopilot.MinVoters); why != "" {
		l.log.Debug("a dead server stays a member", "server", s.Name, "reason", why)
		return
	}
	err := l.audited(ctx, "raft remove", "server/"+s.Name, &command.RemoveServer{Id: s.ID, TimeUnix: time.Now().Unix()})
	if err != nil {
		l.log.Error("a dead server could not be removed; trying again", "server", s.Name, "error", err)
		return
	}
	l.log.Warn("removed a server that was dead for long: should it come back, move its data away and join it again", "server", s.Name, "id", s.ID, "dead_for", l.cfg.Autopilot.DeadAfter)
}

// audited proposes a change that this server makes by itself, with a record of
// it when all servers know how.
func (l *Loops) audited(ctx context.Context, action, object string, msg proto.Message) error {
	if l.cfg.Replica.Local().FeatureLevel(nil) < command.LevelOf(command.TypeAudited) {
		return l.propose(ctx, msg)
	}
	entry, err := command.Encode(msg)
	if err != nil {
		return err
	}
	return l.propose(ctx, &command.Audited{Entry: entry, Record: &apiv1.AuditRecord{
		TimeUnixNano: time.Now().UnixNano(), Actor: "server/" + l.cfg.Name, Role: apiv1.Role_ROLE_ADMIN,
		Server: l.cfg.Name, Action: action, Objects: []string{object},
	}})
}
