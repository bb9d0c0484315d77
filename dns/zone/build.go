package zone

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	mdns "github.com/miekg/dns"
)

// A builder collects what becomes a zone.
type builder struct {
	zone   *Zone
	server []byte                // the name of the name server, in wire form
	nodes  map[string]netip.Addr // by name
	// addresses are all that have a name below addr.
	addresses map[netip.Addr]bool
}

func newBuilder(in Input) *builder {
	domain, ok := wire(root, splitDomain(in.Domain)...)
	if !ok || len(domain) > maxDomain {
		domain, _ = wire(root, defaultDomain)
	}
	b := &builder{
		zone:      &Zone{domain: domain, names: make(map[string]*node, 8+4*len(in.Services)+2*len(in.Nodes))},
		nodes:     make(map[string]netip.Addr, len(in.Nodes)),
		addresses: map[netip.Addr]bool{},
	}
	if in.Loopback.IsValid() && in.Loopback.Addr().Is4() && in.Loopback.Bits() > 0 {
		b.zone.loopback = in.Loopback.Masked()
	}
	b.server, _ = wire(domain, hexLabel(agentAddress), "addr")
	mailbox, _ := wire(domain, "hostmaster")
	b.zone.soa = appendBody(nil, mdns.TypeSOA, ttlNegative, soaData(b.server, mailbox, in.Serial))
	return b
}

const (
	defaultDomain = "mesh"
	// maxDomain leaves room for the names below.
	maxDomain = 100
)

// agentAddress is what the name server's own name stands for: whoever asks is
// on the same host.
var agentAddress = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func splitDomain(domain string) []string {
	return strings.Split(strings.TrimSuffix(domain, "."), ".")
}

// at gives the node of a name, made if need be, along with all above it up to
// its apex.
func (b *builder) at(name []byte, cut int) *node {
	if n, ok := b.zone.names[string(name)]; ok {
		return n
	}
	n := &node{cut: cut}
	b.zone.names[string(name)] = n
	if len(name) > cut {
		b.at(parent(name), cut)
	}
	return n
}

// below gives the node of labels below the domain; it is nil when that is no
// name.
func (b *builder) below(labels ...string) *node {
	name, ok := wire(b.zone.domain, labels...)
	if !ok {
		return nil
	}
	return b.at(name, len(b.zone.domain))
}

// set gives the node's set of a type, made if need be.
func (n *node) set(qtype uint16) *set {
	if s := n.find(qtype); s != nil {
		return s
	}
	n.sets = append(n.sets, set{qtype: qtype})
	return &n.sets[len(n.sets)-1]
}

// apex makes the apexes of the zones there are: of the domain, and of the
// loopback range, which at worst begins half-way through 128 of them.
func (b *builder) apex() {
	b.authority(b.at(b.zone.domain, len(b.zone.domain)))
	b.addresses[agentAddress] = true
	if !b.zone.loopback.IsValid() {
		return
	}
	octets := (b.zone.loopback.Bits() + 7) / 8
	first := b.zone.loopback.Addr().As4()
	for i := range 1 << (8*octets - b.zone.loopback.Bits()) {
		a := first
		a[octets-1] += byte(i)
		name := reverseOctets(netip.AddrFrom4(a), octets)
		b.authority(b.at(name, len(name)))
	}
}

// authority gives a node what every apex has.
func (b *builder) authority(n *node) {
	soa := append(appendUint16(nil, toQuestion), b.zone.soa...)
	n.set(mdns.TypeSOA).add(soa, 1, nil, 0)
	glue := appendBody(nil, mdns.TypeA, ttlStable, agentAddress.AsSlice())
	n.set(mdns.TypeNS).add(appendRecord(nil, mdns.TypeNS, ttlStable, b.server), 1, glue, 2+10)
}

func (b *builder) node(in Node) {
	n := b.below(in.Name, "node")
	if _, twice := b.nodes[in.Name]; twice || n == nil || !in.Address.IsValid() {
		return
	}
	a := in.Address.Unmap()
	b.nodes[in.Name] = a
	b.addresses[a] = true
	n.addAddress(a, ttlStable)
	name, _ := wire(b.zone.domain, in.Name, "node")
	b.pointer(a, name)
}

func (n *node) addAddress(a netip.Addr, ttl uint32) {
	n.set(addressType(a)).add(appendRecord(nil, addressType(a), ttl, a.AsSlice()), 1, nil, 0)
}

// pointer makes the reverse name of an address lead to name.
func (b *builder) pointer(a netip.Addr, name []byte) {
	rev := reverse(a)
	cut := b.zone.reverseCut(rev)
	if cut == 0 {
		cut = len(rev) // a zone of its own: for the addresses around it others answer
	}
	n := b.at(rev, cut)
	n.set(mdns.TypePTR).add(appendRecord(nil, mdns.TypePTR, ttlStable, name), 1, nil, 0)
}

func (b *builder) service(s Service) {
	name, ok := wire(b.zone.domain, s.Name)
	if !ok {
		return
	}
	virtual := b.at(name, len(b.zone.domain))
	if a := s.Virtual.Unmap(); a.IsValid() {
		virtual.addAddress(a, ttlStable)
		b.pointer(a, name)
	}
	plain, rfc2782 := b.below(s.Name, "service"), b.below("_"+s.Name, "_tcp", "service")
	if s.Unknown {
		virtual.unknown = s.Name
	}
	for _, n := range []*node{plain, rfc2782} {
		if n != nil && s.Unknown {
			n.unknown, n.nameless = s.Name, true
		}
	}
	b.instances(s.Instances, plain, rfc2782)
	b.use(s.Used, virtual, plain, rfc2782)
	for tag, tagged := range byTag(s.Instances) {
		n := b.below(tag, s.Name, "service")
		b.instances(tagged, n, nil)
		b.use(s.Used, n)
	}
}

func (b *builder) use(used *atomic.Bool, nodes ...*node) {
	for _, n := range nodes {
		if n != nil {
			n.used = used
		}
	}
}

// byTag sorts instances by their tags. Of a tag that no healthy instance has,
// the name exists all the same.
func byTag(instances []Instance) map[string][]Instance {
	tags := map[string][]Instance{}
	for _, in := range instances {
		seen := make(map[string]bool, len(in.Tags))
		for _, tag := range in.Tags {
			if tag = lower(tag); !seen[tag] {
				seen[tag] = true
				tags[tag] = append(tags[tag], in)
			}
		}
	}
	return tags
}

// instances gives the addresses of healthy instances to name, and their SRV
// records to it and to rfc2782. Either may be nil.
func (b *builder) instances(instances []Instance, name, rfc2782 *node) {
	var last netip.Addr
	for _, group := range b.byTarget(instances) {
		a := group[0].Address
		b.addresses[a] = true
		if name != nil && a != last {
			name.addAddress(a, ttlInstance)
		}
		last = a
		for _, n := range []*node{name, rfc2782} {
			if n != nil {
				n.addSRV(group)
			}
		}
	}
}

// An endpoint is a healthy instance with the name that its SRV record leads to.
type endpoint struct {
	Instance
	target []byte
}

// byTarget groups healthy instances by address and target, in a fixed order and
// without doubles.
func (b *builder) byTarget(instances []Instance) [][]endpoint {
	var healthy []endpoint
	for _, in := range instances {
		if in.Healthy && in.Address.IsValid() {
			in.Address = in.Address.Unmap()
			healthy = append(healthy, endpoint{in, b.target(in)})
		}
	}
	slices.SortFunc(healthy, func(x, y endpoint) int {
		return cmp.Or(x.Address.Compare(y.Address), bytes.Compare(x.target, y.target), cmp.Compare(x.Port, y.Port), cmp.Compare(x.ID, y.ID))
	})
	var groups [][]endpoint
	for len(healthy) > 0 {
		n := 1
		for n < len(healthy) && healthy[n].sameHost(healthy[0]) {
			n++
		}
		groups = append(groups, slices.CompactFunc(healthy[:n:n], func(x, y endpoint) bool { return x.Port == y.Port }))
		healthy = healthy[n:]
	}
	return groups
}

func (e endpoint) sameHost(f endpoint) bool {
	return e.Address == f.Address && bytes.Equal(e.target, f.target)
}

// target is the name that an instance's SRV record leads to: that of its node
// when it has the node's address.
func (b *builder) target(in Instance) []byte {
	if a, ok := b.nodes[in.Node]; ok && a == in.Address {
		name, _ := wire(b.zone.domain, in.Node, "node")
		return name
	}
	name, _ := wire(b.zone.domain, hexLabel(in.Address), "addr")
	return name
}

// addSRV adds the records of instances that share a target, as one unit.
func (n *node) addSRV(group []endpoint) {
	var records []byte
	count := 0
	for _, e := range group {
		if e.Port != 0 {
			records = appendRecord(records, mdns.TypeSRV, ttlInstance, srvData(e.Weight, e.Port, e.target))
			count++
		}
	}
	if count > 0 {
		a := group[0].Address
		n.set(mdns.TypeSRV).add(records, count, appendBody(nil, addressType(a), ttlInstance, a.AsSlice()), srvTarget)
	}
}

// finish adds what follows from everything else.
func (b *builder) finish() {
	for a := range b.addresses {
		if n := b.below(hexLabel(a), "addr"); n != nil {
			n.addAddress(a, ttlStable)
		}
	}
	for _, parent := range []string{"service", "node", "addr"} {
		b.below(parent)
	}
	b.below("_tcp", "service")
	for _, n := range b.zone.names {
		for i := range n.sets {
			n.sets[i].rotate = len(n.sets[i].units) > 1
		}
	}
}
