// Package netx is what meshd needs of a network, so that a whole mesh can run
// on the machine's network or on one in memory.
package netx

import (
	"context"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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

// userTimeout is how long sent bytes, and probes once the first was lost, may
// stay unanswered.
const userTimeout = 30 * time.Second

// Hosts vanish without a word, so every TCP connection notices within 40 s that
// the other end is gone, idle or not.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}
}

// control bounds the wait for acknowledgements of data, which keepalive does
// not: its probes are sent on idle connections only.
func control(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var err error
	set := func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	}
	if e := c.Control(set); e != nil {
		return e
	}
	return err
}

// Listen takes stream connections; those of TCP have keepalive and a bound on
// unacknowledged bytes.
func (System) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive(), Control: control}
	// Multipath TCP, Go's default for listeners, buys nothing on a host's own
	// addresses and rules out sockmaps and splice.
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, network, address)
}

// ListenPacket takes datagrams.
func (System) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var lc net.ListenConfig
	return lc.ListenPacket(ctx, network, address)
}

// DialContext opens a connection with the same options as Listen's.
func (System) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive(), Control: control}
	return d.DialContext(ctx, network, address)
}
