// Package memnet is a network in memory, with faults on demand, on which tests
// run a whole mesh in one process and inside a testing/synctest bubble.
//
// Every [Host] has one address, a loopback range of its own and its own unix
// sockets, and is a netx.Network. Streams behave as TCP does where a program
// can tell: bounded buffers, half close, resets, deadlines. Cut links lose
// datagrams and hold streams up until they are healed. There are no keepalive
// probes: a stream over a link that is never healed hangs for good unless the
// program itself gives up.
//
// Nothing here blocks on anything but channels, sync.Cond and timers, so that
// goroutines which wait for the network count as durably blocked. A Net that is
// used in a bubble must be made in it.
package memnet

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// A Net is a set of hosts and the links between them. All links are up and
// without delay until told otherwise.
type Net struct {
	// mu may be taken with a conn's lock held, never the other way round.
	mu      sync.Mutex
	byName  map[string]*Host
	byAddr  map[netip.Addr]*Host
	links   map[path]link
	pairs   map[*pair]struct{}
	changed chan struct{} // closed at the next change of hosts or links
}

// A path is one direction between two hosts, by their names: what is wrong
// with a link outlives a host's restart.
type path struct{ from, to string }

type link struct {
	cut     bool
	latency time.Duration
}

// New makes a network without hosts.
func New() *Net {
	return &Net{
		byName:  map[string]*Host{},
		byAddr:  map[netip.Addr]*Host{},
		links:   map[path]link{},
		pairs:   map[*pair]struct{}{},
		changed: make(chan struct{}),
	}
}

// Host attaches a host. Others reach it by its address or its name. It panics
// when a running host has either; one that crashed is started anew by attaching
// it once more.
func (n *Net) Host(name string, ip netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.byName[name]; h != nil && !h.down {
		panic(fmt.Sprintf("memnet: host %q exists", name))
	}
	if h := n.byAddr[ip]; h != nil && (h.name != name || !h.down) {
		panic(fmt.Sprintf("memnet: host %q has address %v", h.name, ip))
	}
	h := &Host{
		net: n, name: name, ip: ip, uid: uint32(os.Getuid()),
		tcp: newPorts[*listener](), udp: newPorts[*packetConn](), unix: map[string]*listener{},
	}
	n.byName[name], n.byAddr[ip] = h, h
	n.notify()
	return h
}

// Partition cuts every link between a host of a and a host of b, in both
// directions.
func (n *Net) Partition(a, b []*Host) {
	n.PartitionOneWay(a, b)
	n.PartitionOneWay(b, a)
}

// PartitionOneWay cuts the links from hosts of one set to hosts of another;
// what the latter send still arrives.
func (n *Net) PartitionOneWay(from, to []*Host) {
	for _, f := range from {
		for _, t := range to {
			n.change(f, t, func(l *link) { l.cut = true })
		}
	}
}

// Isolate cuts all links of a host with those there are.
func (n *Net) Isolate(h *Host) {
	n.Partition([]*Host{h}, n.hosts())
}

// Heal mends the cut links of the given hosts, or all if none is given. What
// was sent on streams meanwhile arrives.
func (n *Net) Heal(hosts ...*Host) {
	all := n.hosts()
	if len(hosts) == 0 {
		hosts = all
	}
	mend := func(l *link) { l.cut = false }
	for _, a := range hosts {
		for _, b := range all {
			n.change(a, b, mend)
			n.change(b, a, mend)
		}
	}
	n.deliver()
}

// SetLatency delays all that is sent between two hosts by d in each direction.
func (n *Net) SetLatency(a, b *Host, d time.Duration) {
	set := func(l *link) { l.latency = d }
	n.change(a, b, set)
	n.change(b, a, set)
}

// Crash ends the program on a host: its listeners and connections die, peers
// see resets as far as they can be reached, and h is of no use any more. The
// host's kernel lives on and refuses connections; for a loss of power, isolate
// it first.
func (n *Net) Crash(h *Host) {
	for _, end := range n.crash(h) {
		end()
	}
}

func (n *Net) crash(h *Host) (ends []func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h.down = true
	for p := range n.pairs {
		for _, c := range p.ends {
			if c.host == h {
				ends = append(ends, c.abort)
			}
		}
	}
	for _, l := range h.listeners() {
		ends = append(ends, func() { l.Close() })
	}
	for _, c := range h.udp.used {
		ends = append(ends, func() { c.Close() })
	}
	n.notify()
	return ends
}

func (n *Net) change(from, to *Host, f func(*link)) {
	if from.name == to.name {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p := path{from.name, to.name}
	l := n.links[p]
	f(&l)
	n.links[p] = l
	n.notify()
}

// notify wakes those who wait for a way to a host. n.mu is held.
func (n *Net) notify() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// deliver lets held up bytes arrive where links are up.
func (n *Net) deliver() {
	n.mu.Lock()
	pairs := slices.Collect(maps.Keys(n.pairs))
	n.mu.Unlock()
	for _, p := range pairs {
		p.deliver()
	}
}

func (n *Net) hosts() []*Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.byName))
}

func (n *Net) link(from, to *Host) link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[path{from.name, to.name}]
}

// way finds the host that has an address, as seen from h, with the round-trip
// time to it. It is nil while there is none or no packet comes back; changed
// is closed when that may be different.
func (n *Net) way(h *Host, ip netip.Addr) (to *Host, rtt time.Duration, changed <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ip.IsLoopback() || ip == h.ip {
		return h, 0, n.changed
	}
	to = n.byAddr[ip]
	if to == nil {
		return nil, 0, n.changed
	}
	there, back := n.links[path{h.name, to.name}], n.links[path{to.name, h.name}]
	if there.cut || back.cut {
		return nil, 0, n.changed
	}
	return to, there.latency + back.latency, n.changed
}
