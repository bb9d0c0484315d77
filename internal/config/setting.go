package config

import (
	"encoding"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// A setting is one line of a daemon's file.
type setting struct {
	key string
	set func(string) error
	get func() string
	fix string
}

// plainSetting is a setting that is kept as it is written.
func plainSetting(key string, to *string, check func(string) error, fix string) setting {
	return setting{
		key: key,
		set: func(s string) error {
			*to = s
			return check(s)
		},
		get: func() string { return *to },
		fix: fix,
	}
}

// typedSetting is a setting of a type that reads and writes itself as text.
func typedSetting[T any, P interface {
	*T
	encoding.TextUnmarshaler
	fmt.Stringer
}](key string, to P, check func(T) error, fix string) setting {
	return setting{
		key: key,
		set: func(s string) error {
			if err := to.UnmarshalText([]byte(s)); err != nil {
				return fmt.Errorf("%q is no %s", s, key)
			}
			if check == nil {
				return nil
			}
			return check(*to)
		},
		get: func() string { return strings.ToLower(to.String()) },
		fix: fix,
	}
}

func (d *decoder) settings(entries []entry, settings []setting) {
	keys := make([]string, len(settings))
	byKey := make(map[string]setting, len(settings))
	for i, s := range settings {
		keys[i], byKey[s.key] = s.key, s
	}
	for _, e := range entries {
		s, ok := byKey[e.key]
		if !ok {
			d.add(e.name, suggest(e.key, keys), "there is no setting %q", e.key)
			continue
		}
		if d.isNothing(e) {
			continue
		}
		if v, ok := d.text(e.value, strconv.Quote(e.key)); ok {
			if err := s.set(v); err != nil {
				d.add(e.value, s.fix, "%q: %v", e.key, err)
			}
		}
	}
}

// checkListen takes an address to listen on: an IP address or none, and a port.
func checkListen(s string) error {
	host, err := splitPort(s)
	if err != nil || host == "" {
		return err
	}
	return checkAddress(host)
}

func checkHostPort(s string) error {
	host, err := splitPort(s)
	if err == nil && host == "" {
		return fmt.Errorf("%q does not say which host", s)
	}
	return err
}

func checkLoopback(s string) error {
	host, err := splitPort(s)
	if err != nil {
		return err
	}
	if addr, err := netip.ParseAddr(host); err != nil || !addr.IsLoopback() {
		return fmt.Errorf("%q is not on the loopback interface, and so open to other hosts", s)
	}
	return nil
}

func splitPort(s string) (host string, err error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is not HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has no port from 1 to 65535", s)
	}
	return host, nil
}

func checkAddress(s string) error {
	if addr, err := netip.ParseAddr(s); err != nil || addr.Zone() != "" {
		return fmt.Errorf("%q is not an IP address", s)
	}
	return nil
}

var loopbackNet = netip.MustParsePrefix("127.0.0.0/8")

func checkLoopbackRange(p netip.Prefix) error {
	switch {
	case !p.Addr().Is4() || !loopbackNet.Contains(p.Addr()) || p.Bits() < loopbackNet.Bits():
		return fmt.Errorf("%s is not a part of %s", p, loopbackNet)
	case p != p.Masked():
		return fmt.Errorf("%s is not the first address of its range, %s", p.Addr(), p.Masked())
	case p.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1})):
		return fmt.Errorf("%s contains 127.0.0.1, where the host's own programs listen", p)
	case p.Bits() > 24:
		return fmt.Errorf("%s has room for no more than %d services", p, 1<<(32-p.Bits())-1)
	}
	return nil
}
