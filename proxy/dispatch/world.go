package dispatch

import (
	"net/netip"

	"github.com/meshd/meshd/proxy/authz"
	"github.com/meshd/meshd/proxy/balance"
	"github.com/meshd/meshd/proxy/plan"
	"github.com/meshd/meshd/proxy/pool"
	"github.com/meshd/meshd/proxy/route"
)

// A world is a compiled plan. Nothing in it changes.
type world struct {
	version  uint64
	services map[netip.AddrPort]*service
	inbound  map[string]*inbound
}

// A service is a destination of calls from this host.
type service struct {
	plan    *plan.Service
	table   *route.Table
	targets []target // of the rules, and last the default
}

type target struct {
	*plan.Target
	split    route.Split
	clusters []*cluster
}

// A cluster is endpoints that calls are balanced between.
type cluster struct {
	plan   *plan.Cluster
	set    *balance.Set
	budget *budget
	peers  map[*plan.Endpoint]*pool.Peer // of those on other hosts
}

// An inbound is a local instance.
type inbound struct {
	plan     *plan.Inbound
	policies *authz.Policies
	app      *pool.Peer
}

// A compiler turns a plan into a world.
type compiler struct {
	*Dispatcher
	plan     *plan.Plan
	clusters []*plan.Cluster // each once
	sets     map[*plan.Cluster]*balance.Set
	peers    map[pool.Target]*pool.Peer
	compiled map[*plan.Cluster]*cluster
}

func (d *Dispatcher) compile(p *plan.Plan) *world {
	c := &compiler{Dispatcher: d, plan: p, compiled: map[*plan.Cluster]*cluster{}}
	c.findClusters()
	c.sets = d.balance.Compile(d.now(), c.clusters)
	c.peers = d.pool.Use(c.targets())
	w := &world{version: p.Version, services: map[netip.AddrPort]*service{}, inbound: map[string]*inbound{}}
	for name, in := range p.Inbound {
		w.inbound[name] = &inbound{plan: in, policies: authz.Compile(in), app: c.peers[appTarget(in)]}
	}
	services := map[*plan.Service]*service{}
	for i := range p.Outbound {
		l := &p.Outbound[i]
		if services[l.Service] == nil {
			services[l.Service] = c.service(l.Service)
		}
		w.services[l.Address] = services[l.Service]
	}
	c.forgetBudgets()
	return w
}

func (c *compiler) findClusters() {
	seen := map[*plan.Cluster]bool{}
	add := func(t *plan.Target) {
		for _, s := range t.Split {
			if !seen[s.Cluster] {
				seen[s.Cluster] = true
				c.clusters = append(c.clusters, s.Cluster)
			}
		}
	}
	for _, l := range c.plan.Outbound {
		for i := range l.Service.Rules {
			add(&l.Service.Rules[i].Target)
		}
		add(&l.Service.Default)
	}
}

// targets are all that connections may go to.
func (c *compiler) targets() (all []pool.Target) {
	for _, in := range c.plan.Inbound {
		all = append(all, appTarget(in))
	}
	for _, cl := range c.clusters {
		for i := range cl.Endpoints {
			if e := &cl.Endpoints[i]; !e.Local {
				all = append(all, linkTarget(cl, e))
			}
		}
	}
	return all
}

func appTarget(in *plan.Inbound) pool.Target {
	return pool.Target{Key: "application", Address: in.Address, Multiplexed: in.Protocol == plan.GRPC}
}

func linkTarget(c *plan.Cluster, e *plan.Endpoint) pool.Target {
	return pool.Target{Key: e.Key, Address: e.Address, ServerName: e.ServerName, Identity: c.Identity, Protocol: alpn(c.Protocol), Multiplexed: c.Protocol.Requests()}
}

func (c *compiler) service(p *plan.Service) *service {
	s := &service{plan: p, table: route.Compile(p.Rules)}
	for i := range p.Rules {
		s.targets = append(s.targets, c.target(&p.Rules[i].Target))
	}
	s.targets = append(s.targets, c.target(&p.Default))
	return s
}

func (c *compiler) target(p *plan.Target) target {
	t := target{Target: p, split: route.NewSplit(p.Split)}
	for _, s := range p.Split {
		t.clusters = append(t.clusters, c.cluster(s.Cluster, p.Retry.BudgetPerSec))
	}
	return t
}

func (c *compiler) cluster(p *plan.Cluster, perSecond float64) *cluster {
	if done := c.compiled[p]; done != nil {
		return done
	}
	cl := &cluster{plan: p, set: c.sets[p], budget: c.budgets[p.Service], peers: map[*plan.Endpoint]*pool.Peer{}}
	if cl.budget == nil {
		cl.budget = newBudget(c.now(), perSecond)
		c.budgets[p.Service] = cl.budget
	}
	for i := range p.Endpoints {
		if e := &p.Endpoints[i]; !e.Local {
			cl.peers[e] = c.peers[linkTarget(p, e)]
		}
	}
	c.compiled[p] = cl
	return cl
}

// forgetBudgets drops those of services that are no longer called.
func (c *compiler) forgetBudgets() {
	used := map[string]bool{}
	for _, cl := range c.clusters {
		used[cl.Service] = true
	}
	for service := range c.budgets {
		if !used[service] {
			delete(c.budgets, service)
		}
	}
}
