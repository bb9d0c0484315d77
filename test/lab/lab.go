// Package lab boots whole systemd hosts on one machine, for tests that need
// real units, journals, resolvers and a network between hosts.
//
// A host is a systemd-nspawn container with its own cgroup v2 tree, network
// namespace and writable overlay on one shared Debian tree. All of a lab lives
// in namespaces that end with the process that started it, so its addresses
// collide with nothing and no way to die leaves anything behind.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"sync"
)

// The lab's network exists in its own namespace only; the gateway answers
// pings and leads nowhere.
var (
	network = netip.MustParsePrefix("10.77.0.0/24")
	gateway = netip.MustParseAddr("10.77.0.254")
)

// A host's name is part of its link's name, which is at most 15 bytes long.
var hostName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,11}$`)

// Options say what a lab consists of.
type Options struct {
	// Hosts names the hosts to boot; their addresses follow in order.
	Hosts []string
	// Units are the patterns of the units whose journal is shown when a test
	// fails; none means everything that was logged.
	Units []string
	// Logf takes what is worth knowing while a lab starts; nil drops it.
	Logf func(format string, args ...any)
}

// A Lab is a set of running hosts on one network.
type Lab struct {
	holder *holder
	base   *os.File
	hosts  []*Host
}

// Start boots a lab. Close must be called in the end.
func Start(ctx context.Context, o Options) (*Lab, error) {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	base, err := baseTree(ctx, o.Logf)
	if err != nil {
		return nil, err
	}
	h, err := startHolder(base.Name(), onNetwork(gateway))
	if err != nil {
		base.Close()
		return nil, err
	}
	l := &Lab{holder: h, base: base}
	if err := l.boot(ctx, o.Hosts); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) boot(ctx context.Context, names []string) error {
	address := network.Addr()
	for _, name := range names {
		address = address.Next()
		h, err := l.addHost(ctx, name, address)
		if err != nil {
			return fmt.Errorf("preparing host %s: %w", name, err)
		}
		l.hosts = append(l.hosts, h)
	}
	return l.each(func(h *Host) error { return h.bootFirst(ctx) })
}

// each does something on all hosts at once.
func (l *Lab) each(do func(*Host) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(l.hosts))
	for i, h := range l.hosts {
		wg.Go(func() { errs[i] = do(h) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Hosts gives all hosts in the order of Options.Hosts.
func (l *Lab) Hosts() []*Host { return l.hosts }

// Host gives the host of that name. It panics when the lab has no such host.
func (l *Lab) Host(name string) *Host {
	for _, h := range l.hosts {
		if h.Name == name {
			return h
		}
	}
	panic("lab: no host is called " + strconv.Quote(name))
}

// Close ends all hosts at once, without shutting them down, and removes all
// that the lab made but the cached base tree.
func (l *Lab) Close() error {
	l.each((*Host).end)
	err := l.holder.close()
	l.base.Close()
	return err
}

func onNetwork(a netip.Addr) string {
	return netip.PrefixFrom(a, network.Bits()).String()
}
