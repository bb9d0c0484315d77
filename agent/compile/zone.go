package compile

import (
	"maps"
	"net/netip"
	"slices"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/dns/zone"
	"github.com/meshd/meshd/internal/mesh"
)

// Domain is the DNS domain of every mesh.
const Domain = "mesh"

func (c *compiler) zone() zone.Input {
	z := zone.Input{Domain: Domain, Serial: uint32(c.Slice.Version), Loopback: c.Loopback}
	for _, name := range slices.Sorted(maps.Keys(c.Slice.Nodes)) {
		n := c.Slice.Nodes[name]
		if addr, err := netip.ParseAddr(n.GetAddress()); err == nil && n.GetState() != apiv1.NodeState_NODE_STATE_LEFT {
			z.Nodes = append(z.Nodes, zone.Node{Name: name, Address: addr})
		}
	}
	for _, s := range c.sorted() {
		z.Services = append(z.Services, c.zoneService(s))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Slice.Index)) {
		s := zone.Service{Name: name, Unknown: true}
		s.Virtual, _ = mesh.VirtualAddress(c.Loopback, c.Slice.Index[name])
		z.Services = append(z.Services, s)
	}
	return z
}

func (c *compiler) zoneService(s *service) zone.Service {
	out := zone.Service{Name: s.GetName()}
	if addr, ok := mesh.VirtualAddress(c.Loopback, s.GetVip()); ok {
		out.Virtual = addr
	}
	out.Instances = make([]zone.Instance, 0, len(s.all))
	fallback := !slices.ContainsFunc(s.all, alive)
	for _, e := range s.all {
		addr, err := netip.ParseAddr(e.GetAddress())
		if err != nil {
			continue // told by the cluster
		}
		port, _ := portOf(e.GetPort())
		out.Instances = append(out.Instances, zone.Instance{
			ID: e.GetId(), Node: e.GetNode(), Address: addr, Port: port, Tags: e.GetTags(),
			Weight: mesh.EffectiveWeight(e.GetWeight()), Healthy: alive(e) || fallback && callable(e),
		})
	}
	return out
}

// alive reports whether an instance is as good as known. As in calls, those of
// lost hosts are named only when there are no others.
func alive(e *apiv1.Endpoint) bool {
	return callable(e) && e.GetNodeState() != apiv1.NodeState_NODE_STATE_LOST
}
