package config

import (
	"encoding"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A setting is one line of a daemon's file.
type setting struct {
	key string // with a group's name and a dot before it when it is in one
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

// durationSetting is a setting such as 24h, from least to most.
func durationSetting(key string, to *time.Duration, least, most time.Duration, fix string) setting {
	return setting{
		key: key,
		set: func(s string) (err error) {
			if *to, err = time.ParseDuration(s); err != nil {
				return fmt.Errorf("%q is no duration", s)
			}
			if *to < least || *to > most {
				return fmt.Errorf("%s is not from %v to %v", s, least, most)
			}
			return nil
		},
		get: func() string { return to.String() },
		fix: fix,
	}
}

// numberSetting is a setting that is a number from least to most.
func numberSetting(key string, to *int, least, most int, fix string) setting {
	return setting{
		key: key,
		set: func(s string) (err error) {
			if *to, err = strconv.Atoi(s); err != nil {
				return fmt.Errorf("%q is no number", s)
			}
			if *to < least || *to > most {
				return fmt.Errorf("%s is not from %d to %d", s, least, most)
			}
			return nil
		},
		get: func() string { return strconv.Itoa(*to) },
		fix: fix,
	}
}

// grouped gives the settings of a group, by their names within it.
func grouped(settings []setting, group string) (within []setting) {
	for _, s := range settings {
		if key, ok := strings.CutPrefix(s.key, group+"."); ok {
			s.key = key
			within = append(within, s)
		}
	}
	return within
}

func (d *decoder) settings(entries []entry, settings []setting) {
	keys := make([]string, len(settings))
	byKey := make(map[string]setting, len(settings))
	for i, s := range settings {
		name, _, _ := strings.Cut(s.key, ".")
		keys[i], byKey[s.key] = name, s
	}
	for _, e := range entries {
		if group := grouped(settings, e.key); len(group) > 0 {
			d.settings(d.entries(e.value, strconv.Quote(e.key)), group)
			continue
		}
		s, ok := byKey[e.key]
		if !ok || strings.Contains(e.key, ".") {
			d.add(e.name, suggest(e.key, slices.Compact(keys)), "there is no setting %q", e.key)
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
