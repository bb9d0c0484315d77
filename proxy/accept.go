package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/forward"
	"github.com/meshd/meshd/proxy/http1"
	"github.com/meshd/meshd/proxy/http2"
	"github.com/meshd/meshd/proxy/l4"
	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/observe"
	"github.com/meshd/meshd/proxy/plan"
	"github.com/meshd/meshd/proxy/pool"
	"github.com/meshd/meshd/proxy/relay"
)

const (
	// handshakeTimeout is how long another agent may take to prove its identity,
	// helloTimeout until it begins to; one lost packet may be sent again.
	handshakeTimeout = 10 * time.Second
	helloTimeout     = 3 * time.Second

	// maxStrangers bounds handshakes under way; at 12 KiB each, they take less
	// than 50 MiB.
	maxStrangers = 4096
	// maxPerSource lets a busy host open as many links at once as calls make it,
	// and leaves three quarters to others.
	maxPerSource = 1024
)

func newGate() *netx.Gate {
	return netx.NewGate(netx.GateLimits{Total: maxStrangers, PerSource: maxPerSource, Hello: helloTimeout})
}

// takeCall serves an application of this host that has connected to a service.
func (p *Proxy) takeCall(c net.Conn, address netip.AddrPort) {
	p.conns.serve(c, address, func(*member) server {
		caller := p.identify(c)
		if caller == "" {
			p.observer.ConnectionRefused(observe.Outbound, "unknown", c.RemoteAddr().String(), errUnknownCaller)
			relay.Abort(c)
			return nil
		}
		service := p.await(address)
		if service == nil {
			return nil
		}
		origin := p.dispatcher.Outbound(address, caller)
		if service.Protocol.Requests() {
			return p.serveHTTP(c, origin, func() dispatch.Origin { return p.dispatcher.Outbound(address, caller) })
		}
		return l4.New(l4.Config{Caller: c, Origin: origin})
	})
}

// serveHTTP serves an application in the version of HTTP that it begins with.
func (p *Proxy) serveHTTP(c net.Conn, origin *dispatch.Outbound, another func() dispatch.Origin) server {
	return http1.New(http1.Config{
		Caller: c, Origin: origin, Connect: connect, Patience: origin.Idle(),
		HTTP2: func(early []byte) http1.Server {
			return http2.New(http2.Config{Caller: c, Early: early, Origin: another, Connect: connect, Patience: origin.Idle()})
		},
	})
}

// connect makes a try of a request, in the protocol that its peer takes.
func connect(c *dispatch.Call, fresh bool) (forward.Callee, *observe.Problem) {
	way, problem := c.Reach(fresh)
	switch {
	case problem != nil:
		return nil, problem
	case way.Stream != nil:
		return http2.Call(way.Stream, way.Reused), nil
	}
	return http1.Call(way.Conn), nil
}

// patience is how long a call waits for its service to be known.
const patience = time.Second

// await gives the service on an address, as well known as it gets in time.
func (p *Proxy) await(address netip.AddrPort) *plan.Service {
	service := p.dispatcher.Service(address)
	if service == nil || !service.Unknown || p.Await == nil {
		return service
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p.Await(ctx, service.Name)
	return p.dispatcher.Service(address)
}

// Used names the services that were called, or that connections of this host are
// open to, since it was asked last.
func (p *Proxy) Used() map[string]bool {
	addresses := map[netip.AddrPort]bool{}
	p.conns.each(func(m *member) { addresses[m.address] = true })
	p.mu.Lock()
	for address, l := range p.outbound {
		if l.used.Swap(false) {
			addresses[address] = true
		}
	}
	p.mu.Unlock()
	used := map[string]bool{}
	for address := range addresses {
		if s := p.dispatcher.Service(address); s != nil {
			used[s.Name] = true
		}
	}
	return used
}

// errUnknownCaller is the fate of calls that nobody answers for: one that bore
// the host's identity would pass rules that are about the service that made it.
var errUnknownCaller = errors.New("the caller was gone before the kernel could say who it is")

func (p *Proxy) identify(c net.Conn) string {
	if p.Caller == nil {
		return p.HostIdentity
	}
	return p.Caller(c)
}

// takeLink serves another agent once it has proved on whose behalf it calls.
func (p *Proxy) takeLink(c net.Conn) {
	var pass *netx.Pass
	link := tls.Server(c, mtls.Server(p.Identities, func(serverName string) (mtls.Host, bool) {
		pass.Heard()
		return p.dispatcher.Host(serverName)
	}))
	p.conns.serve(link, netip.AddrPort{}, func(m *member) server {
		pass = p.gate.Enter(c)
		trusted := p.Identities.Roots()
		err := authenticate(link, pass)
		if err == nil {
			err = p.prove(m, link, trusted)
		}
		if err != nil {
			p.observer.ConnectionRefused(observe.Inbound, whyRefused(err), c.RemoteAddr().String(), err)
			return nil
		}
		state := link.ConnectionState()
		origin := p.dispatcher.Inbound(state.ServerName, mtls.Peer(state))
		switch state.NegotiatedProtocol {
		case mtls.HTTP2:
			return http2.New(http2.Config{
				Caller: link, Origin: func() dispatch.Origin { return origin }, Connect: connect, Link: true,
				Patience: pool.LinkPatience, Until: mtls.Expires(state),
			})
		case dispatch.LinkHTTP:
			return http1.New(http1.Config{
				Caller: link, Origin: origin, Connect: connect, Link: true, Patience: pool.LinkPatience, Until: mtls.Expires(state),
			})
		}
		return l4.New(l4.Config{Caller: link, Origin: origin, Link: true})
	})
}

// authenticate has a link leave the gate, one way or the other.
func authenticate(link *tls.Conn, pass *netx.Pass) error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	err := link.HandshakeContext(ctx)
	if cut := pass.Leave(); cut != nil {
		return cut
	}
	return err
}

func whyRefused(err error) string {
	switch {
	case errors.Is(err, netx.ErrSilent):
		return "silent"
	case errors.Is(err, netx.ErrCrowded):
		return "crowded"
	}
	return "handshake"
}

// tooMany tells of a connection that was one more than the proxy serves.
func (p *Proxy) tooMany(m *member) {
	direction := observe.Outbound
	if m.link() {
		direction = observe.Inbound
	}
	p.observer.ConnectionRefused(direction, "full", m.conn.RemoteAddr().String(), errTooMany)
}
