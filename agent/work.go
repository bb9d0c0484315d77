package agent

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/agent/compile"
	"github.com/meshd/meshd/agent/local"
	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/dns/zone"
	"github.com/meshd/meshd/internal/mesh"
)

const (
	// settleTime is how long an agent that starts waits for the first result of
	// its checks before it registers: until then the servers go by what they
	// knew before, and nothing healthy is taken out because it was not asked yet.
	settleTime = 3 * time.Second
	// retryInterval is how often what could not be put to work is tried again,
	// such as a listener whose port was taken.
	retryInterval = 5 * time.Second
)

// A work turns what is known into what is done. The lock is held while it does.
type work struct {
	mu      sync.Mutex
	settled bool         // registrations may go out
	saved   *slice.Slice // handed to the cache last
	roots   [][]byte     // in force

	withdrawn map[string]withdrawn // by service

	now     built
	changed chan struct{} // closed and made anew with every built
	orders  chan struct{} // has a value when certify has something to do

	running sync.WaitGroup
}

// A built is what the agent works by.
type built struct {
	slice    *slice.Slice
	problems []string // with it
	retry    bool     // some of them may pass by themselves
	sequence uint64   // of the registrations, 0 while there were none
	services []string // that were registered, by name
}

func newWork() work {
	return work{now: built{slice: slice.Empty()}, withdrawn: map[string]withdrawn{}, changed: make(chan struct{}), orders: make(chan struct{}, 1)}
}

// follow rebuilds whenever something changed.
func (a *Agent) follow(ctx context.Context) {
	settled := time.NewTimer(settleTime)
	defer settled.Stop()
	retry := time.NewTicker(retryInterval)
	defer retry.Stop()
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for {
		register := false
		select {
		case <-ctx.Done():
			return
		case <-a.control.Changes():
		case <-a.local.Changes():
		case <-a.certs.Changes():
		case <-settled.C:
			register = true
		case <-sweep.C:
			a.sweep(false)
			a.saveInterest()
			continue
		case <-retry.C:
			if !a.built().retry {
				continue
			}
		}
		a.rebuild(register)
	}
}

// rebuild puts to work what is known of the mesh and of this host. With
// register set, what this host runs is registered even though its health is not
// known yet.
func (a *Agent) rebuild(register bool) built {
	w := &a.work
	w.mu.Lock()
	defer w.mu.Unlock()
	known, host := a.control.Slice(), a.local.State()
	if a.callers != nil {
		a.callers.SetTable(host.Speakers)
	}
	if known.Scoped && !w.now.slice.Scoped {
		a.sweep(true) // the servers wait for it
	}
	a.withdraw(known)
	next := built{slice: known, sequence: w.now.sequence, services: w.now.services}
	next.problems, next.retry = a.apply(known, host)
	if w.settled = w.settled || register || host.Settled(); w.settled {
		next.services = services(host)
		next.sequence = a.control.Register(a.registrations(host))
	}
	a.settle(next)
	return next
}

// apply has proxy and DNS work by what is known, and gives what of it they
// cannot. retry says that another attempt may do better.
func (a *Agent) apply(known *slice.Slice, host *local.State) (problems []string, retry bool) {
	if err := a.trust(known); err != nil {
		problems = append(problems, err.Error())
	}
	out := compile.Compile(compile.Input{
		Slice: a.work.callable(known), Instances: host.Instances, TrustDomain: a.member.TrustDomain,
		Node: a.member.Name, NodeID: a.member.NodeID, Address: a.address, Loopback: a.cfg.Loopback,
		Places: a.interest.Places(),
	})
	a.learn(out.Plan, &out.Zone)
	a.work.hide(&out.Zone)
	retry = len(a.work.withdrawn) > 0
	problems = append(problems, out.Problems...)
	for _, err := range a.proxy.Apply(out.Plan) {
		problems, retry = append(problems, err.Error()), true
	}
	if known.Version > 0 { // before, no name can be said not to exist
		a.dns.Swap(zone.Build(out.Zone))
	}
	for _, p := range problems {
		if !slices.Contains(a.work.now.problems, p) {
			a.log.Warn("part of the mesh's configuration cannot be put to work here", "version", known.Version, "problem", p)
		}
	}
	return problems, retry
}

// trust takes over new trust anchors.
func (a *Agent) trust(known *slice.Slice) error {
	if len(known.Roots) == 0 {
		return nil
	}
	if !slices.EqualFunc(known.Roots, a.work.roots, bytes.Equal) {
		if err := a.certs.SetRoots(known.Roots); err != nil {
			return fmt.Errorf("the mesh's new trust anchors are not taken over: %w", err)
		}
		a.work.roots = known.Roots
		a.recheck()
		if !slices.EqualFunc(known.Roots, a.member.Roots, bytes.Equal) {
			a.saveRoots(known.Roots)
		}
	}
	a.certs.SetGeneration(known.Generation)
	return nil
}

// recheck closes what is open to peers whose certificates are trusted no more.
func (a *Agent) recheck() {
	cut := a.links.Recheck(a.certs.Roots()) + a.proxy.Recheck()
	if cut > 0 {
		a.log.Warn("closed connections of peers whose certificates are trusted no more", "connections", cut)
	}
}

// settle makes next what the agent works by, and tells everybody concerned.
func (a *Agent) settle(next built) {
	w := &a.work
	w.now = next
	close(w.changed)
	w.changed = make(chan struct{})
	select {
	case w.orders <- struct{}{}:
	default:
	}
	if next.slice.Version == 0 {
		return // nothing came yet
	}
	a.keep(next.slice)
	a.control.Ack(next.slice.Version, next.problems)
	select {
	case <-a.ready:
	default:
		close(a.ready)
	}
}

// keep has the slice written to disk. Who may call whom is there before it is
// acknowledged: after a crash the agent must not go back to laxer rules that the
// mesh believes gone.
func (a *Agent) keep(s *slice.Slice) {
	last := a.work.saved
	if last == s {
		return
	}
	a.work.saved = s
	if last == nil || !s.SameRules(last) {
		a.cache.SaveNow(s)
	} else {
		a.cache.Save(s)
	}
}

// built is what the agent works by now.
func (a *Agent) built() built {
	a.work.mu.Lock()
	defer a.work.mu.Unlock()
	return a.work.now
}

// waitBuilt blocks until the agent works by something that satisfies cond.
func (a *Agent) waitBuilt(ctx context.Context, cond func(built) bool) error {
	for {
		a.work.mu.Lock()
		now, changed := a.work.now, a.work.changed
		a.work.mu.Unlock()
		if cond(now) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// certify has certificates made for the services of this host, once the servers
// know that it runs them.
func (a *Agent) certify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.work.orders:
		}
		now := a.built()
		if now.sequence == 0 {
			continue
		}
		if a.control.WaitAccepted(ctx, now.sequence) == nil {
			a.certs.SetServices(now.services)
		}
	}
}

// services of this host by name, each once.
func services(host *local.State) (names []string) {
	for _, s := range host.Services {
		names = append(names, s.Declaration.GetName())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// registrations are the instances as servers want them: what was not found to
// be healthy is not, and nor is what cannot prove yet to callers who it is.
func (a *Agent) registrations(host *local.State) []*apiv1.Instance {
	out := slices.Clone(host.Instances)
	for i, instance := range out {
		if instance.GetHealth() == apiv1.Health_HEALTH_UNSPECIFIED || !a.speaksAs(instance.GetService()) {
			out[i] = proto.CloneOf(instance)
			out[i].Health = apiv1.Health_HEALTH_CRITICAL
		}
	}
	return out
}

// speaksAs reports whether the host has the certificate of a service.
func (a *Agent) speaksAs(service string) bool {
	return a.certs.Certificate(mesh.ServiceIdentity(a.member.TrustDomain, service).String()) != nil
}
