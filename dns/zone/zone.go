// Package zone is the immutable table that DNS answers come from: records ready
// to be copied, found by name without a lock or an allocation.
package zone

import (
	"net/netip"
	"sync/atomic"
)

// Input is what a zone is built from. Names that cannot be DNS labels are left
// out, as are addresses that are none.
type Input struct {
	Domain   string // such as "mesh"; without a final dot
	Serial   uint32 // of the SOA
	Services []Service
	Nodes    []Node
	// Loopback is the range that services have their addresses in; the zone
	// knows which of it are in use, and answers for the rest as well. The zero
	// value means none.
	Loopback netip.Prefix
}

// A Service is known under its name as its virtual address, and under
// NAME.service as the addresses of its healthy instances.
type Service struct {
	Name      string
	Virtual   netip.Addr // on loopback; the zero value means none yet
	Instances []Instance
	// Unknown says that there may be instances that nobody here has heard of
	// yet; see Sections.Unknown.
	Unknown bool
	// Used, if not nil, is set when somebody asks for one of the service's names.
	Used *atomic.Bool
}

// An Instance is one running copy of a service.
type Instance struct {
	ID      string
	Node    string // name
	Address netip.Addr
	Port    uint16 // 0 keeps it out of SRV records
	Tags    []string
	Weight  uint32
	Healthy bool
}

// A Node is a host.
type Node struct {
	Name    string
	Address netip.Addr
}

// How long answers may be kept, in seconds. Nothing stays for longer than it
// takes to notice that a host is gone; resolvers on the same host make short
// times cheap.
const (
	ttlStable   = 5 // virtual addresses, nodes, names of addresses
	ttlInstance = 1
	ttlNegative = 1
)

// A Zone is never changed once it is built; a change is a new zone.
type Zone struct {
	domain   []byte // wire form, lower case
	names    map[string]*node
	soa      []byte // everything of the SOA record after its owner
	loopback netip.Prefix
}

// A node of the tree of names. One without sets exists all the same: what is
// below it does.
type node struct {
	sets []set
	// cut is the length of the wire form of the zone apex that the name is
	// below or equal to, the last part of the name.
	cut int
	// used is set when the name is asked for; it may be nil.
	used *atomic.Bool
	// unknown is the service that the name is about, when little is known of it;
	// nameless says that this is too little for an answer.
	unknown  string
	nameless bool
}

// touch notes that the name was asked for. It writes only once: many ask.
func (n *node) touch() {
	if n.used != nil && !n.used.Load() {
		n.used.Store(true)
	}
}

func (n *node) find(qtype uint16) *set {
	for i := range n.sets {
		if n.sets[i].qtype == qtype {
			return &n.sets[i]
		}
	}
	return nil
}

// Build makes a zone. It takes time in proportion to the input.
func Build(in Input) *Zone {
	b := newBuilder(in)
	b.apex()
	for _, n := range in.Nodes {
		b.node(n)
	}
	for _, s := range in.Services {
		b.service(s)
	}
	b.finish()
	return b.zone
}
