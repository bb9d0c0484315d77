// Package proxy takes calls from applications of this host and from other
// agents, and swaps the plan by which they are led.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/observe"
	"github.com/meshd/meshd/proxy/plan"
	"github.com/meshd/meshd/proxy/pool"
)

// Config of a Proxy.
type Config struct {
	Network    netx.Network
	Identities mtls.Source
	// Caller tells the SPIFFE ID of whoever opened the other end of a
	// connection from this host. It is asked right after accept. Callers that
	// it gives no name are not served. If it is nil, all are the host.
	Caller func(net.Conn) string
	// HostIdentity is the SPIFFE ID of the host.
	HostIdentity string
	// Inbound is the address, HOST:PORT, on which other agents are served.
	Inbound string
	Logger  *slog.Logger
	Metrics prometheus.Registerer // no other proxy's
	// Await is called for a call to a service that is Unknown in the plan. It
	// sees to it that more is known, and returns when that is so or ctx ends. Nil
	// means not to wait.
	Await func(ctx context.Context, service string)
}

// A Proxy is the data path of one host. Without a plan it refuses all calls.
type Proxy struct {
	Config
	observer   *observe.Observer
	pool       *pool.Pool
	dispatcher *dispatch.Dispatcher
	gate       *netx.Gate // of other agents
	conns      group      // from all listeners

	mu       sync.Mutex
	stopped  bool
	outbound map[netip.AddrPort]*listener
	inbound  *listener
}

// New makes a proxy, which holds nothing open until Start or Apply. Stop must
// be called.
func New(c Config) *Proxy {
	p := &Proxy{Config: c, outbound: map[netip.AddrPort]*listener{}}
	p.gate = newGate()
	p.conns.max, p.conns.tooMany = maxServed, p.tooMany
	p.observer = observe.New(c.Metrics, c.Logger)
	p.pool = pool.New(c.Network, c.Identities)
	p.dispatcher = dispatch.New(p.pool, p.observer)
	observe.Endpoints(c.Metrics, p.dispatcher.EachService)
	return p
}

// Start opens the listener for other agents.
func (p *Proxy) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ln, err := p.Network.Listen(context.Background(), "tcp", p.Inbound)
	if err != nil {
		return fmt.Errorf("opening the listener for other agents: %w", err)
	}
	p.inbound = newListener(ln, p.takeLink)
	p.inbound.start()
	return nil
}

// Addr is where other agents are served, once Start has succeeded.
func (p *Proxy) Addr() net.Addr { return p.inbound.Addr() }

// Apply has all calls from now on follow a plan. Calls that have begun end as
// they began; streams that policy now refuses are cut. It returns a problem for
// each listener that could not be opened; the others work, and the next plan
// tries again.
func (p *Proxy) Apply(next *plan.Plan) []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return []error{errors.New("the proxy has stopped")}
	}
	opened, problems := p.open(next)
	// Listeners take calls only once there is a plan for these, and go on until
	// there is none.
	p.dispatcher.Swap(next)
	for _, l := range opened {
		l.start()
	}
	p.closeUnused(next)
	return problems
}

// Version is that of the plan in force, 0 without one.
func (p *Proxy) Version() uint64 { return p.dispatcher.Version() }

// open opens the listeners that a plan has and this proxy has not.
func (p *Proxy) open(next *plan.Plan) (opened []*listener, problems []error) {
	for i := range next.Outbound {
		o := &next.Outbound[i]
		if p.outbound[o.Address] != nil {
			continue
		}
		ln, err := p.Network.Listen(context.Background(), "tcp", o.Address.String())
		switch {
		case err == nil:
			address := o.Address
			l := newListener(ln, func(c net.Conn) { p.takeCall(c, address) })
			p.outbound[address] = l
			opened = append(opened, l)
		case o.Optional:
			p.observer.ListenerMissing(o.Address.String(), o.Service.Name, err)
		default:
			problems = append(problems, fmt.Errorf("opening %s for calls to service %s: %w", o.Address, o.Service.Name, err))
		}
	}
	return opened, problems
}

func (p *Proxy) closeUnused(next *plan.Plan) {
	used := map[netip.AddrPort]bool{}
	for i := range next.Outbound {
		used[next.Outbound[i].Address] = true
	}
	for address, l := range p.outbound {
		if !used[address] {
			l.close()
			p.conns.drain(address)
			delete(p.outbound, address)
		}
	}
}

// Stop takes no more calls and waits for those that have begun. When ctx ends
// first, they are cut, and its error is returned.
func (p *Proxy) Stop(ctx context.Context) error {
	if !p.closeListeners() {
		return nil
	}
	p.conns.drainAll()
	err := p.conns.wait(ctx)
	if err != nil {
		err = fmt.Errorf("waiting for calls to end: %w", err)
	}
	p.pool.Close()
	p.conns.abort()
	return err
}

// closeListeners reports whether this is the first time.
func (p *Proxy) closeListeners() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	p.stopped = true
	for _, l := range p.outbound {
		l.close()
	}
	if p.inbound != nil {
		p.inbound.close()
	}
	return true
}
