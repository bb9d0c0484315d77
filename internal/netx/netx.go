// Package netx is what meshd needs of a network, so that a whole mesh can run
// on the machine's network or on one in memory.
package netx

import (
	"context"
	"net"
	"time"

	"golang.org/x/sys/unix"
	"syscall"
)

// A Network makes and takes connections.
type Network interface {
	// Listen takes stream connections; network is "tcp" or "unix".
	Listen(ctx context.Context, network, address string) (net.Listener, error)
	// ListenPacket takes datagrams; network is "udp".
	ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error)
	// DialContext opens a stream connection.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// System is the network of the machine.
type System struct{}

var _ Network = System{}

// Hosts vanish without a word, so every TCP connection notices within half a
// minute that the other end is gone.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

const userTimeout = 30 * time.Second

func control(network, _ string, c syscall.RawConn) error {
	if len(network) < 3 || network[:3] != "tcp" {
		return nil
	}
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}

func (System) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive, Control: control}
	// Multipath TCP, Go's default for listeners, buys nothing on a host's own
	// addresses and rules out sockmaps and splice.
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, network, address)
}

func (System) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, address)
}

func (System) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive, Control: control}
	return d.DialContext(ctx, network, address)
}
