package dns

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/meshd/meshd/dns/zone"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// sampleInput is a small mesh with every peculiarity that answers know.
func sampleInput() zone.Input {
	return zone.Input{
		Domain: "mesh", Serial: 42, Loopback: netip.MustParsePrefix("127.128.0.0/9"),
		Nodes: []zone.Node{{Name: "vm1", Address: addr("10.0.0.1")}, {Name: "vm2", Address: addr("10.0.0.2")}, {Name: "vm6", Address: addr("fd00::6")}},
		Services: []zone.Service{
			{Name: "orders", Virtual: addr("127.128.0.1"), Instances: []zone.Instance{
				{ID: "orders", Node: "vm1", Address: addr("10.0.0.1"), Port: 8080, Tags: []string{"v1", "Blue"}, Weight: 10, Healthy: true},
				{ID: "orders-2", Node: "vm1", Address: addr("10.0.0.1"), Port: 8081, Tags: []string{"v2"}, Weight: 0, Healthy: true},
				{ID: "orders", Node: "vm2", Address: addr("10.0.0.2"), Port: 8080, Tags: []string{"v1"}, Weight: 1, Healthy: true},
				{ID: "orders", Node: "vm6", Address: addr("fd00::6"), Port: 8080, Weight: 1, Healthy: true},
				{ID: "other", Node: "vm2", Address: addr("192.168.7.9"), Port: 99, Weight: 70000, Healthy: true},
				{ID: "ill", Node: "vm2", Address: addr("10.0.0.2"), Port: 8082, Tags: []string{"canary"}, Healthy: false},
			}},
			{Name: "down", Virtual: addr("127.128.0.2"), Instances: []zone.Instance{{ID: "down", Node: "vm1", Address: addr("10.0.0.1"), Port: 1, Tags: []string{"x"}}}},
			{Name: "empty", Virtual: addr("127.129.0.3")},
			{Name: "bare"},
			{Name: "noport", Virtual: addr("127.128.0.4"), Instances: []zone.Instance{{ID: "noport", Node: "gone", Address: addr("10.0.0.1"), Healthy: true}}},
			{Name: "addr", Virtual: addr("127.128.0.5")},
		},
	}
}

func newServer(in zone.Input) *Server {
	s := New(Config{Logger: slog.New(slog.DiscardHandler)})
	s.Swap(zone.Build(in))
	return s
}

// manyInput has one service with n instances on hosts of their own.
func manyInput(n int) zone.Input {
	in := sampleInput()
	many := zone.Service{Name: "many", Virtual: addr("127.128.1.1")}
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		many.Instances = append(many.Instances, zone.Instance{ID: fmt.Sprint(i), Address: a, Port: 8080, Weight: 1, Healthy: true})
	}
	in.Services = append(in.Services, many)
	return in
}

func question(name string, qtype uint16) *mdns.Msg {
	m := new(mdns.Msg)
	m.SetQuestion(mdns.Fqdn(name), qtype)
	return m
}

func pack(t testing.TB, m *mdns.Msg) []byte {
	t.Helper()
	msg, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// ask sends a message past the network and reads the answer, which must be
// proper to the last byte.
func ask(t testing.TB, s *Server, m *mdns.Msg, tcp bool) *mdns.Msg {
	t.Helper()
	query := pack(t, m)
	out := s.Answer(query, tcp, nil)
	if len(out) == 0 {
		t.Fatalf("no answer to %v", m)
	}
	answer := proper(t, out)
	if answer.Id != m.Id || !answer.Response || answer.RecursionAvailable {
		t.Errorf("header is %v", answer.MsgHdr)
	}
	return answer
}

func proper(t testing.TB, out []byte) *mdns.Msg {
	t.Helper()
	answer := new(mdns.Msg)
	if err := answer.Unpack(out); err != nil {
		t.Fatalf("improper answer: %v\n%x", err, out)
	}
	if headerCount(out, 4) == 1 && recordsEnd(out) != len(out) {
		t.Fatalf("the answer has %d bytes, its records %d", len(out), recordsEnd(out))
	}
	return answer
}
