// Package leader holds the loops that only the leader runs: it admits servers
// to Raft and removes dead ones, ends their leases, raises the feature level,
// rotates the keys of gossip and clears away old tokens.
package leader

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/gossip"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

const (
	memberInterval = time.Second // also the longest wait after a gossip event
	orphanInterval = time.Second
	tokenInterval  = 10 * time.Minute
	levelInterval  = time.Second
	keyInterval    = 500 * time.Millisecond

	// deadFor is how long a server must be dead by gossip before its leases end.
	deadFor = 5 * time.Second
	// grace is how long a new leader waits before it ends any: the hosts of a
	// server that died with the leader are just on their way.
	grace = 10 * time.Second
	// keepTokens is how long expired and used tokens are shown.
	keepTokens = 24 * time.Hour

	callTimeout = 5 * time.Second
)

// A Store is what the loops need of store.Store.
type Store interface {
	WatchLeader() (store.Leadership, <-chan struct{})
	Barrier(context.Context) error
	Servers() ([]store.Member, error)
	// Committed is the last Raft index that a majority has.
	Committed() uint64
	AddNonvoter(ctx context.Context, id, address string) error
	AddVoter(ctx context.Context, id, address string) error
	RemoveServer(ctx context.Context, id string) error
	TransferLeadership(ctx context.Context, id string) error
	Stats() store.Stats
	NewAutopilot(store.Overseer, store.Intervals) *store.Autopilot
}

// A Replica is the replicated state.
type Replica interface {
	Local() *state.Txn
	Propose(context.Context, proto.Message) (*command.Result, error)
	// Progress asks the server with that id and address how far it has come.
	Progress(ctx context.Context, id, address string) (*apiv1.ProgressReply, error)
}

// Config of the loops.
type Config struct {
	Self    string // id of this server
	Name    string // of this server
	Store   Store
	Replica Replica
	// Members are the servers by gossip; Changes has a value when they changed.
	Members func() []gossip.Member
	Changes <-chan struct{}
	// Census asks servers and hosts how far they have taken over the certificate
	// authority, which Vault makes.
	Census func(context.Context) ca.Census
	Vault  ca.Vault
	// Keys are those of gossip.
	Keys Keys
	// FeatureLevel is the highest that this server knows.
	FeatureLevel uint32
	Autopilot    Autopilot
	// Init makes the mesh when there is none; nil unless this server is to.
	Init   *command.InitCluster
	Logger *slog.Logger
}

// Loops are those of one server. They run while it leads.
type Loops struct {
	cfg   Config
	log   *slog.Logger
	pilot atomic.Pointer[pilot] // while this server leads
}

// New makes loops; Run runs them.
func New(cfg Config) *Loops {
	cfg.Autopilot = cfg.Autopilot.withDefaults()
	return &Loops{cfg: cfg, log: cfg.Logger}
}

// Run runs the loops whenever this server leads, until ctx ends.
func (l *Loops) Run(ctx context.Context) {
	for ctx.Err() == nil {
		leadership, changed := l.cfg.Store.WatchLeader()
		if leadership.Leads {
			l.lead(ctx, leadership.Term)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// lead runs the loops for one term.
func (l *Loops) lead(ctx context.Context, term uint64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.log.Info("this server leads", "term", term)
	var loops sync.WaitGroup
	loops.Go(func() {
		if !l.prepare(ctx) {
			return
		}
		orphans := newOrphans(time.Now().Add(grace))
		loops.Go(func() { l.runAutopilot(ctx) })
		loops.Go(func() { every(ctx, levelInterval, nil, l.raiseLevel) })
		loops.Go(func() { every(ctx, keyInterval, nil, l.rotateKeys) })
		loops.Go(func() { every(ctx, memberInterval, l.cfg.Changes, l.reconcile) })
		loops.Go(func() { every(ctx, orphanInterval, nil, func(ctx context.Context) { l.endOrphans(ctx, orphans) }) })
		loops.Go(func() { every(ctx, tokenInterval, nil, l.reapTokens) })
		authority := &rotation{}
		loops.Go(func() {
			every(ctx, authorityInterval, nil, func(ctx context.Context) { l.keepAuthority(ctx, authority) })
		})
	})
	l.waitDeposed(ctx, term)
	cancel()
	loops.Wait()
	l.log.Info("this server leads no longer", "term", term)
}

func (l *Loops) waitDeposed(ctx context.Context, term uint64) {
	for {
		leadership, changed := l.cfg.Store.WatchLeader()
		if !leadership.Leads || leadership.Term != term {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// prepare catches up with the leaders before and makes the mesh if this server
// is to and nobody has. It reports whether there is a mesh to look after.
func (l *Loops) prepare(ctx context.Context) bool {
	for ctx.Err() == nil {
		if err := l.found(ctx); err == nil {
			return true
		} else if ctx.Err() == nil {
			l.log.Error("the leader could not take up its work; trying again", "error", err)
		}
		sleep(ctx, time.Second)
	}
	return false
}

func (l *Loops) found(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := l.cfg.Store.Barrier(ctx); err != nil {
		return err
	}
	if l.cfg.Replica.Local().Cluster(nil) != nil || l.cfg.Init == nil {
		return nil
	}
	if err := l.propose(ctx, l.cfg.Init); err != nil {
		return err
	}
	l.log.Info("made a new mesh", "name", l.cfg.Init.Cluster.Name, "id", l.cfg.Init.Cluster.Id, "trust_domain", l.cfg.Init.Cluster.TrustDomain)
	return nil
}

// propose has a command applied; a refusal is an error.
func (l *Loops) propose(ctx context.Context, msg proto.Message) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	result, err := l.cfg.Replica.Propose(ctx, msg)
	if err == nil && result.Refusal != command.Refusal_REFUSAL_NONE {
		err = &refusedError{result.Message}
	}
	return err
}

type refusedError struct{ reason string }

func (e *refusedError) Error() string { return e.reason }

// every calls f now, then again after each interval and whenever wake has a
// value, until ctx ends.
func every(ctx context.Context, interval time.Duration, wake <-chan struct{}, f func(context.Context)) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for ctx.Err() == nil {
		f(ctx)
		select {
		case <-t.C:
		case <-wake:
		case <-ctx.Done():
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
