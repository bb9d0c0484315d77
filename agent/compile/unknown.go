package compile

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/meshd/meshd/agent/interest"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/proxy/plan"
)

// unknownListeners keeps open the addresses of services that were called once
// and of which nothing but the name is known by now: a caller that never looks a
// name up again must not be refused.
func (c *compiler) unknownListeners() (listeners []plan.Listener) {
	for _, name := range slices.Sorted(maps.Keys(c.Slice.Index)) {
		addr, ok := mesh.VirtualAddress(c.Loopback, c.Slice.Index[name])
		if !ok {
			continue // told when more of the service is wanted
		}
		place := c.Places[name]
		service := c.unknownService(name, place)
		for _, port := range place.Ports {
			listeners = append(listeners, plan.Listener{Address: netip.AddrPortFrom(addr, port), Service: service, Optional: true})
		}
	}
	return listeners
}

// unknownService has no endpoints: calls to it wait, and then fail.
func (c *compiler) unknownService(name string, place interest.Place) *plan.Service {
	protocol := plan.TCP
	if place.HTTP {
		protocol = plan.HTTP
	}
	cluster := &plan.Cluster{Name: name, Service: name, Identity: mesh.ServiceIdentity(c.TrustDomain, name).String(), Protocol: protocol}
	own := []plan.Split{{Cluster: cluster, Weight: mesh.DefaultWeight}}
	return &plan.Service{Name: name, Protocol: protocol, Default: target(own, nil, nil), Unknown: true}
}

// Places are where a plan has services reached, of which it knows enough.
func Places(p *plan.Plan) map[string]interest.Place {
	places := map[string]interest.Place{}
	for _, l := range p.Outbound {
		if l.Service.Unknown {
			continue
		}
		place := places[l.Service.Name]
		place.Ports = append(place.Ports, l.Address.Port())
		place.HTTP = l.Service.Protocol.Requests()
		places[l.Service.Name] = place
	}
	for name, place := range places {
		slices.Sort(place.Ports)
		places[name] = place
	}
	return places
}
