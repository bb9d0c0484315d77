// Package pool keeps connections to endpoints and applications, each for one
// calling identity.
package pool

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/proxy/mtls"
)

const (
	// Idle connections to applications are given up before applications do, so
	// that a call is seldom sent into a connection that is being closed. Other
	// agents keep theirs for LinkPatience.
	appIdle  = 3 * time.Second
	linkIdle = 60 * time.Second
	// LinkPatience is how long a listener keeps an idle link.
	LinkPatience = 90 * time.Second
	// maxAge is far below the life of a certificate, and spreads load again
	// after endpoints have come and gone.
	maxAge  = time.Hour
	maxIdle = 256 // per peer and identity
	sweep   = time.Second
)

// A Target is whom connections go to.
type Target struct {
	Key        string // of the endpoint
	Address    netip.AddrPort
	ServerName string
	// Identity is the SPIFFE ID that the peer must prove. Without one, the
	// target is an application on this host, which is spoken to in clear.
	Identity string
	Protocol string // ALPN
	// Multiplexed says that calls share connections by HTTP/2: always if the
	// target is an application, else if the other agent agrees.
	Multiplexed bool
}

// ErrClosed says that the pool was closed.
var ErrClosed = errors.New("the proxy is stopping")

// A Pool holds idle connections and opens new ones.
type Pool struct {
	network netx.Network
	source  mtls.Source
	ctx     context.Context
	cancel  context.CancelFunc
	swept   chan struct{}  // closed when the sweeper is done
	running sync.WaitGroup // links

	mu    sync.Mutex
	peers map[Target]*Peer
	open  map[*Conn]struct{}

	trust judge
}

// New makes a pool. Close must be called.
func New(network netx.Network, source mtls.Source) *Pool {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{
		network: network, source: source, ctx: ctx, cancel: cancel,
		swept: make(chan struct{}), peers: map[Target]*Peer{}, open: map[*Conn]struct{}{},
	}
	go p.sweep()
	return p
}

// Use gives the peers for the targets there are now. What is open to others is
// closed as soon as it is idle.
func (p *Pool) Use(targets []Target) map[Target]*Peer {
	used, left := p.use(targets)
	for _, peer := range left {
		peer.leave()
	}
	return used
}

func (p *Pool) use(targets []Target) (used map[Target]*Peer, left []*Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	used = make(map[Target]*Peer, len(targets))
	for _, t := range targets {
		peer := p.peers[t]
		if peer == nil {
			peer = &Peer{pool: p, target: t, idle: map[string][]*Conn{}, links: map[string][]*link{}, flights: map[string]*flight{}}
		}
		used[t] = peer
	}
	for t, peer := range p.peers {
		if used[t] == nil {
			left = append(left, peer)
		}
	}
	p.peers = used
	return used, left
}

// Close stops dialling and ends all connections, those in use as well.
func (p *Pool) Close() {
	p.cancel()
	p.Use(nil)
	<-p.swept
	p.mu.Lock()
	open := slices.Collect(maps.Keys(p.open))
	p.mu.Unlock()
	for _, c := range open {
		c.Abort()
	}
	p.running.Wait()
}

// register remembers an open connection, unless the pool was closed.
func (p *Pool) register(c *Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return ErrClosed
	}
	p.open[c] = struct{}{}
	return nil
}

func (p *Pool) unregister(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// sweep closes connections that have been idle for too long.
func (p *Pool) sweep() {
	defer close(p.swept)
	tick := time.NewTicker(sweep)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-tick.C:
			p.mu.Lock()
			peers := slices.Collect(maps.Values(p.peers))
			p.mu.Unlock()
			for _, peer := range peers {
				peer.sweep(now)
			}
		}
	}
}
