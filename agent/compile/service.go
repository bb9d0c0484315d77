package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/proxy/plan"
)

// webPort is where people expect a service of http, whatever its own port is.
const webPort = 80

// A service is one as this host sees it.
type service struct {
	*apiv1.ServiceSlice
	protocol  plan.Protocol
	declared  bool              // the protocol was; otherwise it is only the default
	all       []*apiv1.Endpoint // those of this host as it knows them itself, ordered by key
	endpoints []endpoint        // that can be called
	ports     []uint16          // of all instances, in order
	locals    []*apiv1.Instance
}

// An endpoint is one in the plan, with what subsets ask about it.
type endpoint struct {
	plan.Endpoint
	of *apiv1.Endpoint
}

func (c *compiler) newService(slice *apiv1.ServiceSlice) *service {
	s := &service{ServiceSlice: slice, locals: c.locals(slice.GetName())}
	s.all = c.allEndpoints(s)
	c.protocolOf(s)
	s.endpoints = make([]endpoint, 0, len(s.all))
	for _, e := range s.all {
		if port, ok := portOf(e.GetPort()); ok {
			s.ports = append(s.ports, port)
		}
		if !callable(e) {
			continue
		}
		compiled, problem := c.endpoint(s, e)
		if problem != "" {
			c.problem("service %s: instance %s on node %s gets no calls: %s", s.GetName(), e.GetId(), e.GetNode(), problem)
			continue
		}
		s.endpoints = append(s.endpoints, endpoint{compiled, e})
	}
	slices.Sort(s.ports)
	s.ports = slices.Compact(s.ports)
	return s
}

// callable leaves out instances that say themselves that they cannot serve, and
// those of hosts that said goodbye.
func callable(e *apiv1.Endpoint) bool {
	return e.GetHealth() != apiv1.Health_HEALTH_CRITICAL && e.GetNodeState() != apiv1.NodeState_NODE_STATE_LEFT
}

func (c *compiler) endpoint(s *service, e *apiv1.Endpoint) (compiled plan.Endpoint, problem string) {
	if p := e.GetProtocol(); s.GetConfig().GetProtocol() == 0 && p != 0 && protocol(p).Requests() != s.protocol.Requests() {
		return compiled, fmt.Sprintf("it is declared %s, and most others are %s; declare the same protocol everywhere, or set it in the service's resource",
			protocolName(protocol(p)), protocolName(s.protocol))
	}
	port, ok := portOf(e.GetPort())
	if !ok {
		return compiled, fmt.Sprintf("%d is no port", e.GetPort())
	}
	compiled = plan.Endpoint{
		Key:        key(e),
		Node:       e.GetNode(),
		ServerName: mesh.ServerName(c.TrustDomain, s.GetName(), port),
		Local:      e.GetNodeId() == c.NodeID,
		Weight:     mesh.EffectiveWeight(e.GetWeight()),
		Demoted:    e.GetNodeState() == apiv1.NodeState_NODE_STATE_LOST,
	}
	if compiled.Local {
		return compiled, ""
	}
	addr, err := netip.ParseAddr(e.GetAddress())
	inbound, ok := portOf(e.GetInboundPort())
	if err != nil || !ok {
		return compiled, fmt.Sprintf("its node's address %q, port %d, is none", e.GetAddress(), e.GetInboundPort())
	}
	compiled.Address = netip.AddrPortFrom(addr, inbound)
	return compiled, ""
}

// allEndpoints takes the instances of other hosts from the slice and those of
// this one from itself: it knows them first, and without any server.
func (c *compiler) allEndpoints(s *service) []*apiv1.Endpoint {
	all := make([]*apiv1.Endpoint, 0, len(s.GetEndpoints())+len(s.locals))
	for _, e := range s.GetEndpoints() {
		if e.GetNodeId() != c.NodeID {
			all = append(all, e)
		}
	}
	for _, i := range s.locals {
		all = append(all, &apiv1.Endpoint{
			Node: c.Node, NodeId: c.NodeID, Address: c.Address.String(), Id: i.GetId(), Port: i.GetPort(), Protocol: i.GetProtocol(),
			Weight: i.GetWeight(), Tags: i.GetTags(), Meta: i.GetMeta(), Health: i.GetHealth(),
			NodeState: apiv1.NodeState_NODE_STATE_ALIVE,
		})
	}
	slices.SortFunc(all, func(a, b *apiv1.Endpoint) int {
		return cmp.Or(cmp.Compare(a.GetNodeId(), b.GetNodeId()), cmp.Compare(a.GetId(), b.GetId()))
	})
	return all
}

// key is the endpoint's name for good, in every plan.
func key(e *apiv1.Endpoint) string { return e.GetNodeId() + "/" + e.GetId() }

// protocolOf decides how the service's bytes are understood: as configured,
// else as most instances declare.
func (c *compiler) protocolOf(s *service) {
	if p := s.GetConfig().GetProtocol(); p != 0 {
		s.protocol, s.declared = protocol(p), true
		return
	}
	votes := map[plan.Protocol]int{}
	for _, e := range s.all {
		if e.GetProtocol() != 0 {
			votes[protocol(e.GetProtocol())]++
			s.declared = true
		}
	}
	// Calls by HTTP find an application of either kind.
	requests := votes[plan.HTTP] + votes[plan.GRPC]
	switch {
	case requests == 0 || requests < votes[plan.TCP]:
	case votes[plan.GRPC] > votes[plan.HTTP]:
		s.protocol = plan.GRPC
	default:
		s.protocol = plan.HTTP
	}
}

func protocol(p apiv1.Protocol) plan.Protocol {
	switch p {
	case apiv1.Protocol_PROTOCOL_HTTP:
		return plan.HTTP
	case apiv1.Protocol_PROTOCOL_GRPC:
		return plan.GRPC
	}
	return plan.TCP
}

func protocolName(p plan.Protocol) string {
	switch p {
	case plan.HTTP:
		return "http"
	case plan.GRPC:
		return "grpc"
	}
	return "tcp"
}

func portOf(n uint32) (port uint16, ok bool) { return uint16(n), n > 0 && n < 1<<16 }

// listeners gives the addresses on which applications of this host reach the
// service: its own ports, and for http the one that a URL need not name.
func (c *compiler) listeners(s *service) []plan.Listener {
	addr, ok := mesh.VirtualAddress(c.Loopback, s.GetVip())
	if !ok {
		c.problem("service %s: its place %d is not within the loopback range %s, so that it has no address on this host; widen the range in the agent's configuration",
			s.GetName(), s.GetVip(), c.Loopback)
		return nil
	}
	service := c.outbound(s)
	var listeners []plan.Listener
	for _, port := range s.ports {
		listeners = append(listeners, plan.Listener{Address: netip.AddrPortFrom(addr, port), Service: service})
	}
	if s.protocol == plan.HTTP && !slices.Contains(s.ports, webPort) {
		listeners = append(listeners, plan.Listener{Address: netip.AddrPortFrom(addr, webPort), Service: service, Optional: true})
	}
	return listeners
}

func (c *compiler) outbound(s *service) *plan.Service {
	own := []plan.Split{{Cluster: c.cluster(s, ""), Weight: mesh.DefaultWeight}}
	return &plan.Service{
		Name:     s.GetName(),
		Protocol: s.protocol,
		Rules:    c.rules(s),
		Default:  target(own, s.GetConfig(), nil),
	}
}
