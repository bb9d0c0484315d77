package proxy

import (
	"context"
	"crypto/x509"
	"errors"
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

// maxServed bounds links, and likewise connections from this host's
// applications, far above what one host's calls need: a caller that leaks
// connections must not take the memory and descriptors of all others.
const maxServed = 20_000

var errTooMany = errors.New("the proxy serves as many connections as it can; see which callers hold them with the metric meshd_connections")

// A group is open connections and the goroutines that serve them.
type group struct {
	max     int           // served links, and served others
	tooMany func(*member) // told of each connection beyond
	running sync.WaitGroup

	mu       sync.Mutex
	draining bool
	members  map[*member]struct{}
	links    int // of members, those served
	calls    int // likewise, from this host
}

// A member is one connection of a group.
type member struct {
	conn    net.Conn
	address netip.AddrPort      // that it came to; zero for links
	server  server              // nil until it is known who serves it
	chain   []*x509.Certificate // that the other agent showed on a link
}

func (m *member) link() bool { return !m.address.IsValid() }

// serve runs a connection in a goroutine of its own. prepare finds out who
// serves it; without anybody, the connection is closed.
func (g *group) serve(conn net.Conn, address netip.AddrPort, prepare func(*member) server) {
	m := &member{conn: conn, address: address}
	if !g.add(m) {
		conn.Close()
		return
	}
	go func() {
		defer g.remove(m)
		if s := prepare(m); s != nil && g.assign(m, s) {
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
	if m.server != nil {
		*g.served(m)--
	}
	g.running.Done()
}

// assign reports whether a connection may be served.
func (g *group) assign(m *member, s server) bool {
	g.mu.Lock()
	full := *g.served(m) >= g.max
	draining := g.draining
	if !full {
		m.server = s
		*g.served(m)++
	}
	g.mu.Unlock()
	if full {
		g.tooMany(m)
	}
	return !full && !draining
}

// served counts the members of m's kind that are served.
func (g *group) served(m *member) *int {
	if m.link() {
		return &g.links
	}
	return &g.calls
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
