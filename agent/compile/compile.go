// Package compile turns what an agent knows of its mesh, and what its host
// runs, into a plan for the proxy and a zone for DNS. It is a pure function.
package compile

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/meshd/meshd/agent/interest"
	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/dns/zone"
	"github.com/meshd/meshd/proxy/plan"
)

// Input is everything that the result depends on.
type Input struct {
	Slice       *slice.Slice
	Instances   []*apiv1.Instance // that this host runs, with their health
	TrustDomain string
	Node        string // name of this host
	NodeID      string
	Address     netip.Addr   // of this host
	Loopback    netip.Prefix // range of the services' addresses
	// Places are where services were reached when more was known of them.
	Places map[string]interest.Place
}

// Output is what the host is to do. What of the input could not be put to work
// is left out of it and told in Problems; the rest is whole.
type Output struct {
	Plan     *plan.Plan
	Zone     zone.Input
	Problems []string
}

// Compile compiles.
func Compile(in Input) Output {
	c := &compiler{Input: in, services: map[string]*service{}, clusters: map[string]*plan.Cluster{}}
	for _, name := range slices.Sorted(maps.Keys(in.Slice.Services)) {
		c.services[name] = c.newService(in.Slice.Services[name])
	}
	p := &plan.Plan{Version: in.Slice.Version, TrustDomain: in.TrustDomain, Inbound: map[string]*plan.Inbound{}}
	p.Outbound = c.unknownListeners()
	for _, s := range c.sorted() {
		p.Outbound = append(p.Outbound, c.listeners(s)...)
		c.inbound(p, s)
	}
	return Output{Plan: p, Zone: c.zone(), Problems: c.problems}
}

type compiler struct {
	Input
	services map[string]*service
	clusters map[string]*plan.Cluster // by SERVICE or SERVICE@SUBSET
	problems []string
}

func (c *compiler) sorted() (services []*service) {
	for _, name := range slices.Sorted(maps.Keys(c.services)) {
		services = append(services, c.services[name])
	}
	return services
}

func (c *compiler) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// locals are the instances of a service on this host, ordered by id.
func (c *compiler) locals(service string) []*apiv1.Instance {
	var found []*apiv1.Instance
	for _, i := range c.Instances {
		if i.GetService() == service {
			found = append(found, i)
		}
	}
	slices.SortFunc(found, func(a, b *apiv1.Instance) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return found
}
