package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/meshd/meshd/internal/netx"
)

// A Host is one machine of a network, seen by the program that runs on it.
type Host struct {
	net  *Net
	name string
	ip   netip.Addr
	uid  uint32

	// Of net.mu.
	down bool
	tcp  *ports[*listener]
	udp  *ports[*packetConn]
	unix map[string]*listener
}

var _ netx.Network = (*Host)(nil)

// Name is the host's name.
func (h *Host) Name() string { return h.name }

// IP is the host's address.
func (h *Host) IP() netip.Addr { return h.ip }

// As is the host as a process of another user has it: servers of unix sockets
// see that user's id.
func (h *Host) As(uid uint32) netx.Network { return user{h, uid} }

type user struct {
	*Host
	uid uint32
}

func (u user) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return u.dial(ctx, network, address, u.uid)
}

// DialContext connects by "tcp", "unix" or "udp". While there is no way to the
// host it waits, as TCP does: for two minutes or until ctx ends.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return h.dial(ctx, network, address, h.uid)
}

func (h *Host) dial(ctx context.Context, network, address string, uid uint32) (net.Conn, error) {
	c, err := h.connect(ctx, network, address, uid)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: name(address), Err: err}
	}
	return c, nil
}

func (h *Host) connect(ctx context.Context, network, address string, uid uint32) (net.Conn, error) {
	if err := h.alive(); err != nil {
		return nil, err
	}
	switch network {
	case "tcp", "tcp4", "tcp6":
		return h.dialTCP(ctx, address)
	case "unix":
		return h.dialUnix(ctx, address, uid)
	case "udp", "udp4", "udp6":
		return h.dialUDP(ctx, address)
	}
	return nil, net.UnknownNetworkError(network)
}

func (h *Host) alive() error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.down {
		return os.NewSyscallError("connect", syscall.ENETDOWN)
	}
	return nil
}

func (h *Host) dialTCP(ctx context.Context, address string) (net.Conn, error) {
	to, err := h.resolve(address)
	if err != nil {
		return nil, err
	}
	target, err := h.reach(ctx, to.Addr())
	if err != nil {
		return nil, err
	}
	l := target.tcpListener(to)
	if l == nil {
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	from := netip.AddrPortFrom(h.source(to.Addr()), h.ephemeral())
	client, server := newPair(h, target, net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(to))
	return client, l.offer(ctx, server, server)
}

func (h *Host) dialUnix(ctx context.Context, path string, uid uint32) (net.Conn, error) {
	h.net.mu.Lock()
	l := h.unix[path]
	h.net.mu.Unlock()
	if l == nil {
		return nil, os.NewSyscallError("connect", syscall.ENOENT)
	}
	client, server := newPair(h, h, &net.UnixAddr{Net: "unix"}, &net.UnixAddr{Name: path, Net: "unix"})
	return unixConn{client, h.uid}, l.offer(ctx, server, unixConn{server, uid})
}

func (h *Host) dialUDP(ctx context.Context, address string) (net.Conn, error) {
	to, err := h.resolve(address)
	if err != nil {
		return nil, err
	}
	c, err := h.listenUDP(netip.AddrPortFrom(h.source(to.Addr()), 0))
	if err != nil {
		return nil, err
	}
	return &connectedUDP{c, to}, ctx.Err()
}

// synTimeout is how long Linux tries to open a connection.
const synTimeout = 127 * time.Second

var errNoAnswer = errors.New("no answer")

// reach waits until packets go to an address and back, and one round trip.
func (h *Host) reach(ctx context.Context, ip netip.Addr) (*Host, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, synTimeout, errNoAnswer)
	defer cancel()
	for ctx.Err() == nil {
		to, rtt, changed := h.net.way(h, ip)
		switch {
		case to == nil:
			wait(ctx, changed)
			continue
		case rtt == 0:
			return to, nil
		}
		wait(ctx, time.After(rtt))
		if again, _, _ := h.net.way(h, ip); again != nil && ctx.Err() == nil {
			return again, nil
		}
	}
	if errors.Is(context.Cause(ctx), errNoAnswer) {
		return nil, os.NewSyscallError("connect", syscall.ETIMEDOUT)
	}
	return nil, ctx.Err()
}

func wait[T any](ctx context.Context, c <-chan T) {
	select {
	case <-ctx.Done():
	case <-c:
	}
}

// source is the address from which this host sends to another.
func (h *Host) source(to netip.Addr) netip.Addr {
	switch {
	case to.IsLoopback() && to.Is6():
		return to
	case to.IsLoopback():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return h.ip
}

func (h *Host) ephemeral() uint16 {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.tcp.ephemeral()
}

func (h *Host) tcpListener(addr netip.AddrPort) *listener {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	l, _ := h.tcp.find(addr)
	return l
}

// listeners are all that the host has. h.net.mu is held.
func (h *Host) listeners() (all []*listener) {
	for _, l := range h.tcp.used {
		all = append(all, l)
	}
	for _, l := range h.unix {
		all = append(all, l)
	}
	return all
}

// resolve reads HOST:PORT as somebody does who wants to connect to it.
func (h *Host) resolve(address string) (netip.AddrPort, error) {
	host, port, err := split(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || host == "localhost" || err == nil && ip.IsUnspecified():
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case err != nil:
		if ip, err = h.net.lookup(host); err != nil {
			return netip.AddrPort{}, err
		}
	}
	return netip.AddrPortFrom(ip.Unmap(), port), nil
}

func (n *Net) lookup(host string) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.byName[host]; h != nil {
		return h.ip, nil
	}
	return netip.Addr{}, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func split(address string) (host string, port uint16, err error) {
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, &net.AddrError{Err: fmt.Sprintf("invalid port %q", p), Addr: address}
	}
	return host, uint16(n), nil
}

// A name is an address as it was written.
type name string

func (name) Network() string  { return "" }
func (n name) String() string { return string(n) }
