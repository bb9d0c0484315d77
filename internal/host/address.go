package host

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Address finds the address under which others most likely reach this host:
// that of the default route's interface, else the first IPv4 address that is
// not a loopback one.
func Address() (netip.Addr, error) {
	// Not /proc/net: the units see the parts of /proc that are of processes only.
	routes, _ := os.ReadFile("/proc/self/net/route")
	if name := defaultInterface(routes); name != "" {
		if iface, err := net.InterfaceByName(name); err == nil {
			if addr, ok := firstIPv4(*iface); ok {
				return addr, nil
			}
		}
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return netip.Addr{}, &Error{"list the network interfaces", err, "name the address: --advertise IP"}
	}
	for _, iface := range interfaces {
		if addr, ok := firstIPv4(iface); ok {
			return addr, nil
		}
	}
	return netip.Addr{}, &Error{"find this host's address", errors.New("no interface that is up has an IPv4 address"),
		"bring the network up, or name the address: --advertise IP"}
}

func firstIPv4(iface net.Interface) (netip.Addr, bool) {
	if iface.Flags&net.FlagUp == 0 || iface.Flags&net.FlagLoopback != 0 {
		return netip.Addr{}, false
	}
	addrs, err := iface.Addrs()
	if err != nil {
		return netip.Addr{}, false
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().Is4() && !prefix.Addr().IsLinkLocalUnicast() {
			return prefix.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// defaultInterface reads the kernel's IPv4 routes, as /proc/self/net/route gives
// them, for the interface of the default route with the lowest metric.
func defaultInterface(routes []byte) string {
	const up = 0x1
	best, bestMetric := "", ^uint64(0)
	lines := bufio.NewScanner(bytes.NewReader(routes))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		metric, err2 := strconv.ParseUint(f[6], 10, 32)
		if err == nil && err2 == nil && flags&up != 0 && metric < bestMetric {
			best, bestMetric = f[0], metric
		}
	}
	return best
}
