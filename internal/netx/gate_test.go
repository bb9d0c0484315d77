package netx

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stranger is a connection of which only the source matters.
type stranger struct {
	net.Conn
	from   net.Addr
	closed atomic.Bool
	reset  atomic.Bool
}

func from(ip string) *stranger {
	return &stranger{from: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), 4000))}
}

func (s *stranger) RemoteAddr() net.Addr        { return s.from }
func (s *stranger) Close() error                { s.closed.Store(true); return nil }
func (s *stranger) SetLinger(seconds int) error { s.reset.Store(seconds == 0); return nil }

func TestGateCutsTheOldestOfTheLargestSource(t *testing.T) {
	f := func(name string, total, perSource int, arrivals []string, cut ...int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			g := NewGate(GateLimits{total, perSource, time.Minute})
			var conns []*stranger
			var passes []*Pass
			var order []int // in which they are cut off
			for _, ip := range arrivals {
				conns = append(conns, from(ip))
				passes = append(passes, g.Enter(conns[len(conns)-1]))
				for i, c := range conns {
					if c.closed.Swap(false) {
						order = append(order, i)
					}
				}
			}
			if fmt.Sprint(order) != fmt.Sprint(cut) {
				t.Errorf("%s: cut off %v, want %v", name, order, cut)
			}
			for _, i := range order {
				if err := passes[i].Leave(); !errors.Is(err, ErrCrowded) || !conns[i].reset.Load() {
					t.Errorf("%s: connection %d ended with %v, reset %v", name, i, err, conns[i].reset.Load())
				}
			}
			empty(t, g, passes)
		})
	}
	const a, b, c, d = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
	f("room for all", 4, 2, []string{a, b, a, b})
	f("one source", 4, 2, []string{a, b, a, a, a}, 0, 2)
	f("all in all", 3, 3, []string{b, a, a, c}, 1)
	f("who floods pays", 3, 3, []string{b, a, a, a, a}, 1, 2)
	f("equals", 3, 3, []string{b, a, c, d}, 0)
	f("equals that hold more", 4, 3, []string{c, b, a, b, a}, 1)
	f("no room at all", 1, 1, []string{a, b, c}, 0, 1)
	f("IPv4 by IPv6", 4, 2, []string{a, "::ffff:10.0.0.1", a}, 0)
	f("one /64", 4, 2, []string{"2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1", "2001:db8::3"}, 0)
	f("a zone", 4, 1, []string{"fe80::1%eth0", "fe80::2%eth0"}, 0)
	f("loopback has no share", 3, 1, []string{"127.0.0.1", "127.0.0.1", "::1", "127.0.0.1"}, 0)
}

// empty has all leave and checks that nothing is kept.
func empty(t *testing.T, g *Gate, passes []*Pass) {
	t.Helper()
	for _, p := range passes {
		p.Leave()
	}
	if g.held != 0 || len(g.sources) != 0 {
		t.Errorf("the gate holds %d connections of %d sources", g.held, len(g.sources))
	}
}

func TestGateCutsSilentOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateLimits{10, 10, time.Second})
		silent, speaks, left := from("10.0.0.1"), from("10.0.0.1"), from("10.0.0.1")
		p, q, r := g.Enter(silent), g.Enter(speaks), g.Enter(left)
		time.Sleep(time.Second - 1)
		q.Heard()
		if err := r.Leave(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		if err := p.Leave(); !errors.Is(err, ErrSilent) || !silent.closed.Load() {
			t.Errorf("the silent one: %v", err)
		}
		time.Sleep(time.Hour)
		if err := q.Leave(); err != nil || speaks.closed.Load() || left.closed.Load() {
			t.Errorf("the others are cut off: %v", err)
		}
		empty(t, g, []*Pass{p, q, r})
	})
}

// What is no TCP connection has a source too, without a share.
func TestGateTakesOtherNetworks(t *testing.T) {
	g := NewGate(GateLimits{2, 1, time.Minute})
	var passes []*Pass
	conns := []*stranger{{from: &net.UnixAddr{}}, {from: &net.UnixAddr{}}, {from: &net.UnixAddr{}}}
	for _, c := range conns {
		passes = append(passes, g.Enter(c))
	}
	if !conns[0].closed.Load() || conns[1].closed.Load() {
		t.Error("the wrong one was cut off")
	}
	empty(t, g, passes)
}

// Whatever happens at once, bounds hold, and what was cut off is closed and
// nothing else is.
func TestGateUnderRace(t *testing.T) {
	g := NewGate(GateLimits{20, 5, time.Millisecond})
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 2000 {
				c := from(fmt.Sprintf("10.0.0.%d", r.IntN(6)))
				p := g.Enter(c)
				if r.IntN(2) == 0 {
					p.Heard()
				}
				g.mu.Lock()
				if g.held > 20 {
					t.Errorf("%d connections are held", g.held)
				}
				g.mu.Unlock()
				if r.IntN(10) > 0 {
					if err := p.Leave(); err == nil && c.closed.Load() {
						t.Error("a connection that left was cut off")
					}
				}
			}
		})
	}
	running.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	for source, l := range g.sources {
		if l.Len() > 5 {
			t.Errorf("%v holds %d", source, l.Len())
		}
	}
}
