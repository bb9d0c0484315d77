package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/meshd/meshd/proxy/dispatch"
	"github.com/meshd/meshd/proxy/http1"
	"github.com/meshd/meshd/proxy/l4"
	"github.com/meshd/meshd/proxy/mtls"
	"github.com/meshd/meshd/proxy/plan"
	"github.com/meshd/meshd/proxy/pool"
)

// handshakeTimeout is how long another agent may take to prove its identity.
const handshakeTimeout = 10 * time.Second

// takeCall serves an application of this host that has connected to a service.
func (p *Proxy) takeCall(c net.Conn, address netip.AddrPort) {
	p.conns.serve(c, address, func() server {
		caller := p.identify(c)
		service := p.dispatcher.Service(address)
		if service == nil {
			return nil
		}
		origin := p.dispatcher.Outbound(address, caller)
		if service.Protocol == plan.HTTP {
			return http1.New(http1.Config{Caller: c, Origin: origin, Patience: origin.Idle()})
		}
		return l4.New(l4.Config{Caller: c, Origin: origin})
	})
}

func (p *Proxy) identify(c net.Conn) string {
	if p.Caller != nil {
		if id := p.Caller(c); id != "" {
			return id
		}
	}
	return p.HostIdentity
}

// takeLink serves another agent once it has proved on whose behalf it calls.
func (p *Proxy) takeLink(c net.Conn) {
	link := tls.Server(c, mtls.Server(p.Identities, p.dispatcher.Host))
	p.conns.serve(link, netip.AddrPort{}, func() server {
		ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
		defer cancel()
		if err := link.HandshakeContext(ctx); err != nil {
			p.observer.HandshakeFailed(c.RemoteAddr().String(), err)
			return nil
		}
		state := link.ConnectionState()
		origin := p.dispatcher.Inbound(state.ServerName, mtls.Peer(state))
		if state.NegotiatedProtocol == dispatch.LinkHTTP {
			return http1.New(http1.Config{
				Caller: link, Origin: origin, Link: true, Patience: pool.LinkPatience, Until: mtls.Expires(state),
			})
		}
		return l4.New(l4.Config{Caller: link, Origin: origin, Link: true})
	})
}
