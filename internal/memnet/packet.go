package memnet

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	maxDatagram = 65507
	// queued is how many datagrams wait to be read; what comes on top is lost.
	queued = 1024
)

// ListenPacket takes datagrams by "udp".
func (h *Host) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var c *packetConn
	err := ctx.Err()
	if err == nil && network != "udp" && network != "udp4" && network != "udp6" {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		var addr netip.AddrPort
		if addr, err = h.bindable(address); err == nil {
			c, err = h.listenUDP(addr)
		}
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: name(address), Err: err}
	}
	return c, nil
}

func (h *Host) listenUDP(want netip.AddrPort) (*packetConn, error) {
	return bind(h, h.udp, want, func(got netip.AddrPort) *packetConn {
		c := &packetConn{host: h, addr: got}
		c.cond.L = &c.mu
		return c
	})
}

type packetConn struct {
	host *Host
	addr netip.AddrPort

	mu           sync.Mutex
	cond         sync.Cond
	packets      []packet
	closed       bool
	readDeadline deadline
}

type packet struct {
	from  netip.AddrPort
	bytes []byte
}

func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, nil, c.fail("read", net.ErrClosed)
		case c.readDeadline.expired:
			return 0, nil, c.fail("read", os.ErrDeadlineExceeded)
		case len(c.packets) > 0:
			got := c.packets[0]
			c.packets = c.packets[1:]
			return copy(p, got.bytes), net.UDPAddrFromAddrPort(got.from), nil
		}
		c.cond.Wait()
	}
}

// WriteTo sends a datagram. That it does not arrive is no error.
func (c *packetConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	to, err := c.target(p, addr)
	if err != nil {
		return 0, c.fail("write", err)
	}
	host, latency, ok := c.host.net.toward(c.host, to.Addr())
	if !ok {
		return len(p), nil
	}
	got := packet{c.source(to.Addr()), bytes.Clone(p)}
	if latency == 0 {
		host.receive(to, got)
	} else {
		time.AfterFunc(latency, func() { c.host.land(host, to, got) })
	}
	return len(p), nil
}

func (c *packetConn) target(p []byte, addr net.Addr) (netip.AddrPort, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to, ok := addr.(*net.UDPAddr)
	switch {
	case c.closed:
		return netip.AddrPort{}, net.ErrClosed
	case !ok:
		return netip.AddrPort{}, &net.AddrError{Err: "not a UDP address", Addr: addr.String()}
	case len(p) > maxDatagram:
		return netip.AddrPort{}, os.NewSyscallError("sendto", syscall.EMSGSIZE)
	}
	ap := to.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

func (c *packetConn) source(to netip.Addr) netip.AddrPort {
	if !c.addr.Addr().IsUnspecified() {
		return c.addr
	}
	return netip.AddrPortFrom(c.host.source(to), c.addr.Port())
}

// toward is the one-way form of way: a datagram needs no way back.
func (n *Net) toward(h *Host, ip netip.Addr) (to *Host, latency time.Duration, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ip.IsLoopback() || ip == h.ip {
		return h, 0, true
	}
	to = n.byAddr[ip]
	if to == nil {
		return nil, 0, false
	}
	l := n.links[path{h.name, to.name}]
	return to, l.latency, !l.cut
}

// land receives a datagram at the end of its way, unless the link was cut
// meanwhile.
func (h *Host) land(at *Host, to netip.AddrPort, p packet) {
	if !h.net.link(h, at).cut {
		at.receive(to, p)
	}
}

func (h *Host) receive(to netip.AddrPort, p packet) {
	h.net.mu.Lock()
	c, ok := h.udp.find(to)
	h.net.mu.Unlock()
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.packets) < queued {
		c.packets = append(c.packets, p)
		c.cond.Broadcast()
	}
}

func (c *packetConn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.fail("close", net.ErrClosed)
	}
	c.closed = true
	c.packets = nil
	c.readDeadline.stop()
	c.cond.Broadcast()
	c.mu.Unlock()
	c.host.unbind(func() { c.host.udp.release(c.addr) })
	return nil
}

func (c *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

func (c *packetConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	c.readDeadline.set(&c.cond, t)
	return nil
}

// SetWriteDeadline changes nothing: a datagram never waits to be sent.
func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }

func (c *packetConn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Addr: c.LocalAddr(), Err: err}
}

// A connectedUDP exchanges datagrams with one address.
type connectedUDP struct {
	*packetConn
	to netip.AddrPort
}

func (c *connectedUDP) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.to) }

func (c *connectedUDP) Write(p []byte) (int, error) {
	return c.WriteTo(p, net.UDPAddrFromAddrPort(c.to))
}

func (c *connectedUDP) Read(p []byte) (int, error) {
	for {
		n, from, err := c.ReadFrom(p)
		if err != nil || from.(*net.UDPAddr).AddrPort() == c.to {
			return n, err
		}
	}
}
