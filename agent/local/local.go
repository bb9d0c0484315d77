// Package local knows what its host runs: services declared by command line and
// files, their health, and who speaks as them.
package local

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/agent/caller"
	"github.com/meshd/meshd/agent/check"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/netx"
)

// pollInterval is how often files and listening sockets are looked at.
const pollInterval = 2 * time.Second

// Config of a Local.
type Config struct {
	NodeID      string
	TrustDomain string
	// DeclaredDir keeps what was declared by command line.
	DeclaredDir string
	// ServicesDir holds declarations as *.yaml files; empty means none.
	ServicesDir string
	Network     netx.Network // for health checks
	// ListenerUnit finds the system service that listens on a port of this
	// host; nil where it cannot be told.
	ListenerUnit func(port uint16) (string, error)
	Logger       *slog.Logger
}

// A Service is one that this host declares.
type Service struct {
	Declaration *apiv1.Declaration // with defaults filled in
	Source      string             // FromCommandLine, or a file
	Unit        string             // that speaks as it, empty when unknown
	Health      apiv1.Health       // unspecified until every check was made once
	Output      string             // of its checks, for people
}

// A State is what a host runs at one time. Nothing in it changes.
type State struct {
	Services  []*Service        // by id
	Instances []*apiv1.Instance // the same, as servers know them
	Speakers  *caller.Table
	Problems  []string
}

// Settled reports whether the health of all services is known.
func (s *State) Settled() bool {
	return !slices.ContainsFunc(s.Services, func(s *Service) bool { return s.Health == apiv1.Health_HEALTH_UNSPECIFIED })
}

// A Local follows what its host runs. Its methods may be called concurrently.
type Local struct {
	cfg     Config
	log     *slog.Logger
	changes chan struct{}
	state   atomic.Pointer[State]
	cancel  context.CancelFunc
	done    chan struct{}

	// startCheck has a service's port checked and what is found reported, until
	// stop returns.
	startCheck func(spec *apiv1.CheckSpec, port uint16, report func(check.Result)) (stop func())

	mu       sync.Mutex
	declared *folder
	files    *folder
	found    map[string]string // units of listeners
	health   *health
}

// Open reads what is declared.
func Open(cfg Config) (*Local, error) {
	if err := os.MkdirAll(cfg.DeclaredDir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder for declared services: %w", err)
	}
	l := &Local{
		cfg: cfg, log: cfg.Logger,
		changes: make(chan struct{}, 1), done: make(chan struct{}),
		declared: newFolder(cfg.DeclaredDir), files: newFolder(cfg.ServicesDir),
	}
	l.startCheck = l.check
	l.state.Store(&State{Speakers: &caller.Table{}})
	l.health = newHealth(l)
	return l, nil
}

// Start begins to follow files, listeners and health.
func (l *Local) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.Reload()
	go l.run(ctx)
}

// Stop ends what Start began.
func (l *Local) Stop() {
	l.cancel()
	<-l.done
	l.health.stop()
}

// State as it is now.
func (l *Local) State() *State { return l.state.Load() }

// Changes has a value after the state changed in more than the words of a
// check. Several changes may show as one.
func (l *Local) Changes() <-chan struct{} { return l.changes }

// Reload reads all files again.
func (l *Local) Reload() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.declared.scan()
	l.files.scan()
	l.refresh()
}

func (l *Local) run(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.Reload()
		}
	}
}

// refresh makes the state anew. The lock is held.
func (l *Local) refresh() {
	services, problems := l.merge()
	l.findUnits(services)
	l.health.follow(services)
	roll := l.speakers(services)
	next := &State{Services: services, Speakers: &roll.Table, Problems: append(problems, roll.problems...)}
	for _, s := range services {
		next.Instances = append(next.Instances, l.instance(s))
	}
	last := l.state.Swap(next)
	l.report(last.Problems, next.Problems)
	if !same(last, next) {
		l.notify()
	}
}

func (l *Local) notify() {
	select {
	case l.changes <- struct{}{}:
	default:
	}
}

func (l *Local) instance(s *Service) *apiv1.Instance {
	d := s.Declaration
	return &apiv1.Instance{
		NodeId: l.cfg.NodeID, Id: d.GetId(), Service: d.GetName(), Port: d.GetPort(), Protocol: d.GetProtocol(),
		Tags: d.GetTags(), Meta: d.GetMeta(), Weight: d.GetWeight(), Health: s.Health,
	}
}

// report logs every problem once.
func (l *Local) report(last, next []string) {
	for _, p := range next {
		if !slices.Contains(last, p) {
			l.log.Warn("a declared service cannot be put to work as declared", "problem", p)
		}
	}
}

func same(a, b *State) bool {
	equal := func(x, y *apiv1.Instance) bool { return proto.Equal(x, y) }
	return slices.EqualFunc(a.Instances, b.Instances, equal) && slices.Equal(a.Problems, b.Problems) &&
		maps.Equal(a.Speakers.Units, b.Speakers.Units) && maps.Equal(a.Speakers.Users, b.Speakers.Users)
}
