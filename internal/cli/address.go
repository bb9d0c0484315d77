package cli

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/meshd/meshd/internal/host"
)

// ownAddress reads --advertise, or finds the address of this host.
func ownAddress(advertise string) (netip.Addr, error) {
	if advertise == "" {
		return host.Address()
	}
	addr, err := netip.ParseAddr(advertise)
	if err != nil {
		return addr, fmt.Errorf("%q is no IP address", advertise)
	}
	if addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() {
		return addr, fmt.Errorf("%s is no address at which other hosts reach this one", addr)
	}
	return addr, nil
}

// advertised is an address of this host with the port that it listens on.
func advertised(address netip.Addr, listen string) (string, error) {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("the address %q to listen on: %w", listen, err)
	}
	return net.JoinHostPort(address.String(), port), nil
}
