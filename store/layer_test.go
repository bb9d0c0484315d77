package store

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/meshd/meshd/internal/memnet"
)

// layer connects servers in the clear.
type layer struct {
	net.Listener
	host *memnet.Host
	gate *gate
}

func (l *layer) Dial(address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := l.host.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return gatedConn{c, l.gate, l.host.Name() + " asks"}, nil
}

func (l *layer) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return gatedConn{c, l.gate, l.host.Name() + " is asked"}, nil
}

// A gate keeps a server from noticing what has arrived, as if its process were
// stopped for a while: answers to what it asks, and what it is asked.
type gate struct {
	mu     sync.Mutex
	cond   *sync.Cond
	closed map[string]bool
}

func newGate() *gate {
	g := &gate{closed: map[string]bool{}}
	g.cond = sync.NewCond(&g.mu)
	return g
}

func (g *gate) close(what ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range what {
		g.closed[w] = true
	}
}

func (g *gate) open(what ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range what {
		delete(g.closed, w)
	}
	g.cond.Broadcast()
}

func (g *gate) pass(what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.closed[what] {
		g.cond.Wait()
	}
}

type gatedConn struct {
	net.Conn
	gate *gate
	what string
}

func (c gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.gate.pass(c.what)
	return n, err
}
