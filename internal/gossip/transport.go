package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/meshd/meshd/internal/netx"
)

// maxPacket is the largest datagram there is.
const maxPacket = 65535

// A transport carries memberlist's packets and streams over a netx.Network, on
// one port for both.
type transport struct {
	network   netx.Network
	advertise netip.AddrPort
	logger    *slog.Logger

	stream  net.Listener
	packet  net.PacketConn
	packets chan *memberlist.Packet
	arrived chan net.Conn

	open    *streams
	ctx     context.Context // ends with the transport
	cancel  context.CancelFunc
	readers sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func listen(ctx context.Context, network netx.Network, bind string, advertise netip.AddrPort, logger *slog.Logger) (*transport, error) {
	stream, err := network.Listen(ctx, "tcp", bind)
	if err != nil {
		return nil, err
	}
	// With port 0 the datagrams go to the port that the streams were given.
	host, _, err := net.SplitHostPort(bind)
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	port := stream.Addr().(*net.TCPAddr).Port
	packet, err := network.ListenPacket(ctx, "udp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	if advertise.Port() == 0 {
		advertise = netip.AddrPortFrom(advertise.Addr(), uint16(port))
	}
	t := &transport{
		network: network, advertise: advertise, logger: logger,
		stream: stream, packet: packet,
		packets: make(chan *memberlist.Packet), arrived: make(chan net.Conn),
		open: newStreams(),
	}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	t.readers.Go(t.readPackets)
	t.readers.Go(t.acceptStreams)
	return t, nil
}

func (t *transport) readPackets() {
	buffer := make([]byte, maxPacket)
	for {
		n, from, err := t.packet.ReadFrom(buffer)
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			t.logger.Warn("reading a gossip packet", "error", err)
			if !t.pause() {
				return
			}
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buffer[:n]...), From: from, Timestamp: time.Now()}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *transport) acceptStreams() {
	for t.open.admit(t.ctx) {
		c, err := t.stream.Accept()
		if err != nil {
			t.open.release()
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			t.logger.Warn("accepting a gossip connection", "error", err)
			if !t.pause() {
				return
			}
			continue
		}
		s := t.open.add(c, t.open.release)
		select {
		case t.arrived <- s:
		case <-t.ctx.Done():
			s.Close()
			return
		}
	}
}

// pause keeps a listener that fails at once, for want of descriptors perhaps,
// from spinning. It reports false when the transport ended.
func (t *transport) pause() bool {
	select {
	case <-time.After(100 * time.Millisecond):
		return true
	case <-t.ctx.Done():
		return false
	}
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	if !t.advertise.Addr().IsValid() || t.advertise.Addr().IsUnspecified() {
		return nil, 0, fmt.Errorf("gossip cannot advertise %s: give the address where other servers reach this one", t.advertise)
	}
	return t.advertise.Addr().AsSlice(), int(t.advertise.Port()), nil
}

func (t *transport) WriteTo(b []byte, address string) (time.Time, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return time.Time{}, fmt.Errorf("gossip address: %w", err)
	}
	_, err = t.packet.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	c, err := t.network.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return t.open.add(c, func() {}), nil
}

func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.arrived }

// Shutdown closes both listeners and all streams, and waits for their readers.
func (t *transport) Shutdown() error {
	t.cancel()
	err := errors.Join(t.stream.Close(), t.packet.Close())
	t.open.close()
	t.readers.Wait()
	return err
}
