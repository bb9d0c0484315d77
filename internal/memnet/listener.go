package memnet

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
)

// backlog is how many connections wait to be accepted; others keep dialling.
const backlog = 128

type listener struct {
	addr    net.Addr
	accepts chan waiting
	done    chan struct{}
	once    sync.Once
	release func()
}

// waiting is a connection as Accept returns it, with what it is made of.
type waiting struct {
	net.Conn
	conn *conn
}

// Listen takes connections by "tcp" on the host's own address, a loopback one
// or all, or by "unix" on a path.
func (h *Host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var l *listener
	err := ctx.Err()
	switch {
	case err != nil:
	case network == "tcp" || network == "tcp4" || network == "tcp6":
		l, err = h.listenTCP(address)
	case network == "unix":
		l, err = h.listenUnix(address)
	default:
		err = net.UnknownNetworkError(network)
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: name(address), Err: err}
	}
	return l, nil
}

func newListener(addr net.Addr, release func()) *listener {
	return &listener{
		addr: addr, accepts: make(chan waiting, backlog), done: make(chan struct{}), release: release,
	}
}

func (h *Host) listenTCP(address string) (*listener, error) {
	want, err := h.bindable(address)
	if err != nil {
		return nil, err
	}
	return bind(h, h.tcp, want, func(got netip.AddrPort) *listener {
		return newListener(net.TCPAddrFromAddrPort(got), func() { h.unbind(func() { h.tcp.release(got) }) })
	})
}

func (h *Host) listenUnix(path string) (*listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	switch {
	case h.down:
		return nil, os.NewSyscallError("bind", syscall.ENETDOWN)
	case h.unix[path] != nil:
		return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
	}
	release := func() { h.unbind(func() { delete(h.unix, path) }) }
	l := newListener(&net.UnixAddr{Name: path, Net: "unix"}, release)
	h.unix[path] = l
	return l, nil
}

// bindable reads HOST:PORT as somebody does who wants to listen on it.
func (h *Host) bindable(address string) (netip.AddrPort, error) {
	host, port, err := split(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), port), nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		named, err := h.resolve(address)
		if err != nil {
			return netip.AddrPort{}, err
		}
		ip = named.Addr()
	}
	if ip = ip.Unmap(); !ip.IsLoopback() && !ip.IsUnspecified() && ip != h.ip {
		return netip.AddrPort{}, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)
	}
	return netip.AddrPortFrom(ip, port), nil
}

// bind takes an address for what make makes of it.
func bind[T any](h *Host, p *ports[T], want netip.AddrPort, make func(netip.AddrPort) T) (v T, err error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.down {
		return v, os.NewSyscallError("bind", syscall.ENETDOWN)
	}
	got, err := p.choose(want)
	if err != nil {
		return v, os.NewSyscallError("bind", err)
	}
	v = make(got)
	p.used[got] = v
	return v, nil
}

func (h *Host) unbind(release func()) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	release()
}

// offer hands over a connection, or waits while too many others wait. On
// failure the connection is reset.
func (l *listener) offer(ctx context.Context, c *conn, as net.Conn) error {
	select {
	case <-l.done:
	case <-ctx.Done():
		c.abort()
		return ctx.Err()
	case l.accepts <- waiting{as, c}:
		select {
		case <-l.done:
			l.drain()
		default:
			return nil
		}
	}
	c.abort()
	return os.NewSyscallError("connect", syscall.ECONNREFUSED)
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
	case w := <-l.accepts:
		return w.Conn, nil
	}
	return nil, &net.OpError{Op: "accept", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed}
}

// Close resets the connections that nobody accepted.
func (l *listener) Close() error {
	err := error(&net.OpError{Op: "close", Net: l.addr.Network(), Addr: l.addr, Err: net.ErrClosed})
	l.once.Do(func() {
		l.release()
		close(l.done)
		l.drain()
		err = nil
	})
	return err
}

func (l *listener) drain() {
	for {
		select {
		case w := <-l.accepts:
			w.conn.abort()
		default:
			return
		}
	}
}

func (l *listener) Addr() net.Addr { return l.addr }
