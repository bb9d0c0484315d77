package dns

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/meshd/meshd/dns/zone"
	"github.com/meshd/meshd/internal/memnet"
	"github.com/meshd/meshd/internal/netx"
)

func askOver(t *testing.T, network netx.Network, kind, address, name string, qtype uint16) (answer *mdns.Msg, took time.Duration) {
	t.Helper()
	began := time.Now()
	conn, err := network.DialContext(t.Context(), kind, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &mdns.Conn{Conn: conn, UDPSize: 4096}
	if err := c.WriteMsg(new(mdns.Msg).SetQuestion(name, qtype)); err != nil {
		t.Fatal(err)
	}
	if answer, err = c.ReadMsg(); err != nil {
		t.Fatal(err)
	}
	return answer, time.Since(began)
}

// What is known by name only is looked for, and the query waits for it a little.
func TestAQueryWaitsForItsService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		virtual, instance := netip.MustParseAddr("127.128.0.1"), netip.MustParseAddr("10.0.0.2")
		used := &atomic.Bool{}
		unknown := zone.Service{Name: "orders", Virtual: virtual, Unknown: true, Used: used}
		known := zone.Service{Name: "orders", Virtual: virtual, Instances: []zone.Instance{{ID: "1", Address: instance, Port: 80, Weight: 1, Healthy: true, Tags: []string{"v2"}}}}
		var s *Server
		comes := true
		config := Config{Network: memnet.New().Host("vm1", netip.MustParseAddr("10.0.0.1")), Listen: "127.0.0.1:53", Logger: slog.New(slog.DiscardHandler)}
		config.Await = func(ctx context.Context, service string) {
			if service != "orders" {
				t.Errorf("service %s is wanted", service)
			}
			if !comes {
				<-ctx.Done()
				return
			}
			time.Sleep(100 * time.Millisecond)
			s.Swap(zone.Build(zone.Input{Domain: "mesh", Services: []zone.Service{known}}))
		}
		s = New(config)
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		f := func(name string, qtype uint16, want string, wait time.Duration) {
			t.Helper()
			for _, kind := range []string{"udp", "tcp"} {
				s.Swap(zone.Build(zone.Input{Domain: "mesh", Services: []zone.Service{unknown}}))
				answer, took := askOver(t, config.Network, kind, "127.0.0.1:53", name, qtype)
				got := mdns.RcodeToString[answer.Rcode]
				for _, r := range answer.Answer {
					got += " " + strings.TrimPrefix(r.String(), r.Header().String())
				}
				if got != want || took != wait {
					t.Errorf("%s over %s: %q after %v, want %q after %v", name, kind, got, took, want, wait)
				}
			}
		}
		f("orders.mesh.", mdns.TypeA, "NOERROR 127.128.0.1", 100*time.Millisecond)
		f("orders.service.mesh.", mdns.TypeA, "NOERROR 10.0.0.2", 100*time.Millisecond)
		f("v2.orders.service.mesh.", mdns.TypeA, "NOERROR 10.0.0.2", 100*time.Millisecond)
		f("v3.orders.service.mesh.", mdns.TypeA, "NXDOMAIN", 100*time.Millisecond)
		f("_orders._tcp.service.mesh.", mdns.TypeSRV, "NOERROR 1 1 80 0a000002.addr.mesh.", 100*time.Millisecond)
		f("bills.service.mesh.", mdns.TypeA, "NXDOMAIN", 0)
		if !used.Load() {
			t.Error("that somebody asked is not noted")
		}
		comes = false
		f("orders.mesh.", mdns.TypeA, "NOERROR 127.128.0.1", patience)
		f("orders.service.mesh.", mdns.TypeA, "SERVFAIL", patience)
		f("v2.orders.service.mesh.", mdns.TypeA, "SERVFAIL", patience)
	})
}

// Queries that wait do not pile up, and do not hold up others.
func TestFewQueriesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := Config{Network: memnet.New().Host("vm1", netip.MustParseAddr("10.0.0.1")), Listen: "127.0.0.1:53", Logger: slog.New(slog.DiscardHandler)}
		config.Await = func(ctx context.Context, _ string) { <-ctx.Done() }
		s := New(config)
		s.Swap(zone.Build(zone.Input{Domain: "mesh", Services: []zone.Service{
			{Name: "orders", Unknown: true}, {Name: "bills", Virtual: netip.MustParseAddr("127.128.0.2")},
		}}))
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		conn, err := config.Network.DialContext(t.Context(), "udp", "127.0.0.1:53")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range maxWaiting {
			if err := (&mdns.Conn{Conn: conn}).WriteMsg(new(mdns.Msg).SetQuestion("orders.service.mesh.", mdns.TypeA)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if a, took := askOver(t, config.Network, "udp", "127.0.0.1:53", "bills.mesh.", mdns.TypeA); took != 0 || len(a.Answer) != 1 {
			t.Errorf("a query that need not wait took %v: %v", took, a)
		}
		if a, took := askOver(t, config.Network, "udp", "127.0.0.1:53", "orders.service.mesh.", mdns.TypeA); took != 0 || a.Rcode != mdns.RcodeServerFailure {
			t.Errorf("one more that would wait took %v: %v", took, a)
		}
	})
}
