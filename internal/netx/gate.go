package netx

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Why a Gate cuts a connection off.
var (
	ErrSilent  = errors.New("the peer said nothing in time")
	ErrCrowded = errors.New("too many connections that have not authenticated, and its source held the most")
)

// GateLimits are what a Gate lets peers have before they have authenticated.
type GateLimits struct {
	Total     int           // connections at once, at least 1
	PerSource int           // of these, at most from one source, at least 1
	Hello     time.Duration // until the peer's first message is there
}

// A Gate bounds connections whose peers have not proved yet who they are, so
// that strangers cannot use up what others need. It turns nobody away: where
// there is no room, the oldest connection of the source that holds most is cut
// off, which hits whoever floods. A source is an IPv4 address or an IPv6 /64,
// the least that a network assigns.
type Gate struct {
	limits GateLimits

	mu      sync.Mutex
	sources map[netip.Prefix]*list.List // of *Pass, oldest first
	held    int
	entered uint64
}

// A Pass is the place of one connection in a Gate.
type Pass struct {
	gate   *Gate
	conn   net.Conn
	source netip.Prefix

	// Of gate.mu.
	number  uint64 // in the order of arrival
	silence *time.Timer
	heard   bool
	place   *list.Element // nil once it has left
	cut     error         // why the gate closed conn
}

// NewGate makes a gate without connections. It has no goroutines, and needs no
// closing once all connections have left.
func NewGate(limits GateLimits) *Gate {
	return &Gate{limits: limits, sources: map[netip.Prefix]*list.List{}}
}

// Enter takes a connection in, at once, and may close another one for it. Leave
// must be called.
func (g *Gate) Enter(c net.Conn) *Pass {
	p := &Pass{gate: g, conn: c, source: sourceOf(c.RemoteAddr())}
	g.mu.Lock()
	g.add(p)
	victim := g.surplus(p.source)
	if victim != nil {
		victim.remove(ErrCrowded)
	}
	g.mu.Unlock()
	if victim != nil {
		abort(victim.conn)
	}
	return p
}

func (g *Gate) add(p *Pass) {
	l := g.sources[p.source]
	if l == nil {
		l = list.New()
		g.sources[p.source] = l
	}
	g.entered++
	p.number = g.entered
	p.place = l.PushBack(p)
	p.silence = time.AfterFunc(g.limits.Hello, p.timeout)
	g.held++
}

// surplus is the connection that must make room now that there is one more from
// a source; nil if there is room. It is never the newest.
func (g *Gate) surplus(source netip.Prefix) *Pass {
	switch l := g.sources[source]; {
	case l.Len() > g.limits.PerSource && shares(source):
		return oldest(l)
	case g.held > g.limits.Total:
		return g.largest()
	}
	return nil
}

// shares reports whether a source is held to its share. Loopback is not: all
// programs of this host are one source there, which could harm the host in
// simpler ways, and whole meshes run on it in development. It gives way first
// when it holds most, as any other.
func shares(source netip.Prefix) bool {
	return source.IsValid() && !source.Addr().IsLoopback()
}

// largest is the oldest connection of the source that holds most; among equals,
// the oldest of all. It looks at every source, of which there are no more than
// connections.
func (g *Gate) largest() *Pass {
	var victim *Pass
	most := 0
	for _, l := range g.sources {
		p := oldest(l)
		if l.Len() > most || l.Len() == most && p.number < victim.number {
			victim, most = p, l.Len()
		}
	}
	return victim
}

func oldest(l *list.List) *Pass { return l.Front().Value.(*Pass) }

// Heard says that the peer's first message is there, so that it is no longer
// cut off for its silence.
func (p *Pass) Heard() {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.heard = true
	p.silence.Stop()
}

// Leave gives the place up, because the peer has authenticated or the
// connection has ended. It returns ErrSilent or ErrCrowded if the gate has
// closed the connection before.
func (p *Pass) Leave() error {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	p.remove(nil)
	return p.cut
}

func (p *Pass) timeout() {
	p.gate.mu.Lock()
	late := !p.heard && p.remove(ErrSilent)
	p.gate.mu.Unlock()
	if late {
		abort(p.conn)
	}
}

// remove reports whether the connection was still there.
func (p *Pass) remove(cut error) bool {
	if p.place == nil {
		return false
	}
	p.silence.Stop()
	l := p.gate.sources[p.source]
	l.Remove(p.place)
	if l.Len() == 0 {
		delete(p.gate.sources, p.source)
	}
	p.place, p.cut = nil, cut
	p.gate.held--
	return true
}

// sourceOf is the zero Prefix for what is no TCP connection.
func sourceOf(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap()
	bits := ip.BitLen()
	if ip.Is6() && !ip.IsLoopback() { // the whole /64 of ::1 is not loopback
		bits = 64
	}
	source, _ := ip.Prefix(bits)
	return source
}

// abort closes a connection with a reset, so that nothing of it lingers in the
// kernel either.
func abort(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	c.Close()
}
