package memnet

import (
	"net/netip"
	"syscall"
)

// firstEphemeral begins the range of ports given to those who ask for none.
const firstEphemeral = 32768

// ports are the addresses of one protocol that a host has in use.
type ports[T any] struct {
	used map[netip.AddrPort]T
	last uint16
}

func newPorts[T any]() *ports[T] {
	return &ports[T]{used: map[netip.AddrPort]T{}}
}

// choose gives the address to use for one asked for. It is a wildcard if its IP
// is unspecified; port 0 means any that is free.
func (p *ports[T]) choose(addr netip.AddrPort) (netip.AddrPort, error) {
	if addr.Port() == 0 {
		return netip.AddrPortFrom(addr.Addr(), p.ephemeral()), nil
	}
	if p.taken(addr) {
		return addr, syscall.EADDRINUSE
	}
	return addr, nil
}

func (p *ports[T]) taken(addr netip.AddrPort) bool {
	for a := range p.used {
		overlap := a.Addr() == addr.Addr() || a.Addr().IsUnspecified() || addr.Addr().IsUnspecified()
		if a.Port() == addr.Port() && overlap {
			return true
		}
	}
	return false
}

// ephemeral gives a port that is free on every address. Ports come round again
// late, so that each connection of a test has one of its own.
func (p *ports[T]) ephemeral() uint16 {
	for {
		p.last++
		if p.last < firstEphemeral {
			p.last = firstEphemeral
		}
		if !p.taken(netip.AddrPortFrom(netip.IPv6Unspecified(), p.last)) {
			return p.last
		}
	}
}

// find gives what takes that which is sent to an address.
func (p *ports[T]) find(addr netip.AddrPort) (v T, ok bool) {
	for _, ip := range []netip.Addr{addr.Addr(), netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if v, ok = p.used[netip.AddrPortFrom(ip, addr.Port())]; ok {
			return v, true
		}
	}
	return v, false
}

func (p *ports[T]) release(addr netip.AddrPort) { delete(p.used, addr) }
