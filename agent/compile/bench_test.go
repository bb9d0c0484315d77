package compile

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/meshd/meshd/agent/slice"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/dns/zone"
)

// large is a mesh of 1,000 services with 20 instances each, on 1,000 hosts.
func large() Input {
	s := slice.Empty()
	for i := range 1000 {
		host := fmt.Sprintf("h%d", i)
		s.Nodes[host] = &apiv1.Node{Id: host, Name: host, Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)}
		service := &apiv1.ServiceSlice{Name: fmt.Sprintf("s%d", i), Vip: uint32(i + 1)}
		for j := range 20 {
			n := (i + j) % 1000
			service.Endpoints = append(service.Endpoints, &apiv1.Endpoint{
				Node: fmt.Sprintf("h%d", n), NodeId: fmt.Sprintf("h%d", n), Id: service.Name,
				Address: fmt.Sprintf("10.0.%d.%d", n/250, n%250+1), InboundPort: 7443, Port: 8080,
				Protocol: apiv1.Protocol_PROTOCOL_HTTP, Health: apiv1.Health_HEALTH_PASSING,
			})
		}
		s.Services[service.Name] = service
	}
	return Input{Slice: s, TrustDomain: "mesh", Node: "h0", NodeID: "h0", Loopback: netip.MustParsePrefix("127.128.0.0/9")}
}

func BenchmarkCompile(b *testing.B) {
	in := large()
	b.ReportAllocs()
	for b.Loop() {
		if out := Compile(in); len(out.Problems) > 0 {
			b.Fatal(out.Problems[0])
		}
	}
}

func BenchmarkZone(b *testing.B) {
	z := Compile(large()).Zone
	b.ReportAllocs()
	for b.Loop() {
		zone.Build(z)
	}
}
