package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/meshd/meshd/proxy/relay"
)

// A server serves one connection.
type server interface {
	Serve()
	// Drain has the connection end as soon as that cuts no call.
	Drain()
}

// A group is open connections and the goroutines that serve them.
type group struct {
	running sync.WaitGroup

	mu       sync.Mutex
	draining bool
	members  map[*member]struct{}
}

// A member is one connection of a group.
type member struct {
	conn    net.Conn
	address netip.AddrPort // that it came to; zero for links
	server  server         // nil until it is known who serves it
}

// serve runs a connection in a goroutine of its own. prepare finds out who
// serves it; without anybody, the connection is closed.
func (g *group) serve(conn net.Conn, address netip.AddrPort, prepare func() server) {
	m := &member{conn: conn, address: address}
	if !g.add(m) {
		conn.Close()
		return
	}
	go func() {
		defer g.remove(m)
		if s := prepare(); s != nil && g.assign(m, s) {
			s.Serve()
		}
		conn.Close()
	}()
}

func (g *group) add(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining {
		return false
	}
	if g.members == nil {
		g.members = map[*member]struct{}{}
	}
	g.members[m] = struct{}{}
	g.running.Add(1)
	return true
}

func (g *group) remove(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.members, m)
	g.running.Done()
}

func (g *group) assign(m *member, s server) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.server = s
	return !g.draining
}

// drain drains the connections that came to an address.
func (g *group) drain(address netip.AddrPort) {
	g.each(func(m *member) {
		if m.server != nil && m.address == address {
			m.server.Drain()
		}
	})
}

// drainAll takes no more connections, and drains those there are.
func (g *group) drainAll() {
	g.mu.Lock()
	g.draining = true
	g.mu.Unlock()
	g.each(func(m *member) {
		if m.server != nil {
			m.server.Drain()
		}
	})
}

// wait waits until there are no connections, or ctx ends.
func (g *group) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		g.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// abort ends all connections and waits for their goroutines.
func (g *group) abort() {
	g.each(func(m *member) { relay.Abort(m.conn) })
	g.running.Wait()
}

func (g *group) each(f func(*member)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for m := range g.members {
		f(m)
	}
}
