package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/meshd/meshd/internal/config"
	"github.com/meshd/meshd/internal/host"
	"github.com/meshd/meshd/internal/netx"
)

// Config of an Agent. Several agents may run on one machine when each has a
// data folder, socket, addresses and loopback range of its own.
type Config struct {
	config.Agent
	Network netx.Network // nil means the machine's
	// Caller gives the SPIFFE ID of whoever opened a local connection; nil means
	// to ask the kernel.
	Caller func(net.Conn) string
	Logger *slog.Logger
}

func (c Config) complete() Config {
	if c.Network == nil {
		c.Network = netx.System{}
	}
	return c
}

// inboundPort is where other agents reach this one.
func (c Config) inboundPort() uint16 {
	_, port, _ := net.SplitHostPort(c.Inbound)
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint16(n)
}

// address is where others reach this host: as configured, else the address that
// it has towards the servers, else that of its default route.
func (c Config) address(ctx context.Context, servers []string) (netip.Addr, error) {
	if c.Advertise != "" {
		addr, err := netip.ParseAddr(c.Advertise)
		if err != nil {
			return addr, fmt.Errorf("the address to advertise: %w", err)
		}
		return addr, nil
	}
	for _, server := range servers {
		if addr, ok := c.towards(ctx, server); ok {
			return addr, nil
		}
	}
	return host.Address()
}

// towards asks the network for the way to a server; nothing is sent.
func (c Config) towards(ctx context.Context, server string) (addr netip.Addr, ok bool) {
	conn, err := c.Network.DialContext(ctx, "udp", server)
	if err != nil {
		return addr, false
	}
	defer conn.Close()
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil || local.Addr().IsLoopback() || local.Addr().IsUnspecified() {
		return addr, false
	}
	return local.Addr().Unmap().WithZone(""), true
}
