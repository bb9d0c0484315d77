package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/server/leader"
	"github.com/meshd/meshd/store/command"
)

// Autopilot says when servers get their vote and when dead ones are removed.
type Autopilot = leader.Autopilot

// Config of one server. Addresses may change from one start to the next; what a
// server is, its data directory says.
type Config struct {
	// Name of the server. After Init or Join it may be left out; if it is given,
	// it must be the same.
	Name string
	// DataDir holds the server's state and keys; only its owner may look in.
	DataDir string
	// Credentials is the folder of systemd's credentials, "" for none.
	Credentials string
	// Listen is the TLS port for servers, agents and operators, host:port.
	Listen string
	// Advertise is where others reach Listen, host:port.
	Advertise string
	// GossipListen is the tcp and udp port among servers, host:port.
	GossipListen string
	// GossipAdvertise is where others reach GossipListen: an IP address and port.
	GossipAdvertise string
	// HTTP is the loopback address of /metrics and /healthz, "" for none.
	HTTP string
	// Socket is the path of the unix socket for operators, "" for none.
	Socket string

	Backup Backup

	Network netx.Network
	Logger  *slog.Logger
	// Autopilot's zero fields stand for the defaults.
	Autopilot Autopilot
	// FeatureLevel is the highest that this server knows; 0 stands for
	// command.MaxLevel. For tests of meshes whose servers are not all of the same
	// version.
	FeatureLevel uint32
	// NoSync leaves out fsync of the Raft log. For tests.
	NoSync bool
}

func (c *Config) featureLevel() uint32 { return cmp.Or(c.FeatureLevel, command.MaxLevel) }

// Backup is how a server makes snapshots of the state while it leads.
type Backup struct {
	Dir   string // "" for none
	Every time.Duration
	Keep  int
}

func (c *Config) check() error {
	if c.DataDir == "" {
		return errors.New("no data directory is configured")
	}
	if c.Name != "" {
		if err := mesh.CheckName(c.Name); err != nil {
			return fmt.Errorf("server name: %w", err)
		}
	}
	if err := checkAddress(c.Advertise); err != nil {
		return fmt.Errorf("advertised address: %w", err)
	}
	if _, err := netip.ParseAddrPort(c.GossipAdvertise); err != nil {
		return fmt.Errorf("advertised gossip address %q is not an IP address and port", c.GossipAdvertise)
	}
	return nil
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not host:port", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port from 1 to 65535", address)
	}
	return nil
}

// checkNamed is check for those who make a server.
func (c *Config) checkNamed() error {
	if c.Name == "" {
		return errors.New("the server needs a name")
	}
	return c.check()
}
