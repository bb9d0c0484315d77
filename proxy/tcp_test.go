package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshd/meshd/proxy/plan"
)

func TestTCP(t *testing.T) {
	for _, local := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			m := newMesh(t, 2)
			h := m.far()
			if local {
				m.local()
				h = m.near()
				h.inbound.Protocol = plan.TCP
			}
			m.tcp()
			m.serve(h, func(c net.Conn) {
				// The server speaks first, and last.
				io.WriteString(c, "hello")
				n, _ := io.Copy(io.Discard, c)
				if n == 3<<20 {
					io.WriteString(c, "bye")
				}
			})
			c := m.dial()
			c.expect("hello")
			c.Conn.Write(bytes.Repeat([]byte("x"), 3<<20))
			c.Conn.(interface{ CloseWrite() error }).CloseWrite()
			c.expect("bye")
			if _, err := c.ReadByte(); err != io.EOF {
				t.Errorf("at the end: %v", err)
			}
			synctest.Wait()
			if n := m.near().value(t, "meshd_bytes_total", "direction", "outbound", "flow", "sent"); n != 3<<20 {
				t.Errorf("%v bytes counted", n)
			}
			if n := m.near().value(t, "meshd_streams_total", "error", ""); n != 1 {
				t.Errorf("%v streams counted", n)
			}
			if n := m.near().value(t, "meshd_connections"); n != 0 {
				t.Errorf("%v connections are open", n)
			}
		})
	}
}

func TestTCPFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.tcp()
		c := m.dial()
		if _, err := c.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("without an application: %v", err)
		}
		m.serve(m.far(), echoUpper)
		m.far().inbound.Policies = only(billing)
		m.apply()
		c = m.dial()
		if _, err := c.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("without permission: %v", err)
		}
		synctest.Wait()
		for code, want := range map[string]float64{"app-connect-failed": 1, "denied": 1} {
			if n := m.near().value(t, "meshd_streams_total", "error", code, "src", "web"); n != want {
				t.Errorf("%s: %v counted", code, n)
			}
		}
	})
}

func TestTCPGoesToAnotherEndpoint(t *testing.T) {
	f := func(what string, broken func(m *mesh)) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newMesh(t, 3)
				m.tcp()
				m.serve(m.hosts[2], echoUpper)
				broken(m)
				for range 20 {
					c := m.dial()
					c.send("hello").expect("HELLO")
					c.Close()
				}
			})
		})
	}
	f("no application", func(*mesh) {})
	f("no agent", func(m *mesh) {
		m.cluster.Endpoints[0].Address = netip.MustParseAddrPort("10.0.0.2:1")
		m.apply()
	})
	f("unreachable host", func(m *mesh) {
		m.service.Default.Timeouts.Connect = time.Second
		m.cluster.Endpoints[0].Address = netip.MustParseAddrPort("10.9.9.9:1")
		m.apply()
	})
	f("application accepts but the agent is silent", func(m *mesh) {
		l, err := m.hosts[1].Listen(m.t.Context(), "tcp", "10.0.0.2:99")
		if err != nil {
			m.t.Fatal(err)
		}
		m.t.Cleanup(func() { l.Close() })
		m.cluster.Endpoints[0].Address = netip.MustParseAddrPort("10.0.0.2:99")
		m.apply()
	})
}

func TestTCPConnectionsAreSpread(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 4)
		m.tcp()
		for _, h := range m.hosts[1:] {
			m.serve(h, echoUpper)
		}
		for range 60 {
			m.dial().send("x").expect("X")
		}
		for _, h := range m.hosts[1:] {
			if n := h.value(t, "meshd_connections", "direction", "inbound"); n < 15 || n > 25 {
				t.Errorf("%v connections of 60 at one of three", n)
			}
		}
	})
}

func TestIdleTCPEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 2)
		m.tcp()
		m.serve(m.far(), echoUpper)
		c := m.dial()
		for range 5 {
			c.send("x").expect("X")
			time.Sleep(4 * time.Minute)
		}
		began := time.Now()
		if _, err := c.ReadByte(); err == nil || time.Since(began) > 10*time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestTCPSurvivesPlans(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMesh(t, 3)
		m.tcp()
		m.serve(m.hosts[1], echoUpper)
		m.serve(m.hosts[2], echoUpper)
		c := m.dial()
		c.send("one").expect("ONE")
		gone := m.cluster.Endpoints
		m.cluster.Endpoints = nil
		m.apply()
		c.send("two").expect("TWO")
		// Not even an instance that its host no longer offers loses its streams.
		m.hosts[1].inbound, m.hosts[2].inbound = nil, nil
		m.apply()
		c.send("three").expect("THREE")
		_ = gone
	})
}
