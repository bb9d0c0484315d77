package push

import (
	"cmp"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/state"
)

// A builder encodes what agents are told of services, once for all agents. What
// did not change since it was built last is not encoded again, and what did is
// told to whoever has the rest.
type builder struct {
	mu       sync.Mutex
	restored uint64 // what is kept is from after that
	services map[string]*built
}

func newBuilder() *builder { return &builder{services: map[string]*built{}} }

// service gives a service as it is in a state. The result is shared.
func (b *builder) service(txn *state.Txn, s *apiv1.ServiceIndex) *built {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.follow(txn.RestoredIndex(nil))
	before := b.services[s.Name]
	if before != nil && before.version == s.ModifyIndex {
		return before
	}
	if before != nil && before.version > s.ModifyIndex {
		return build(txn, s, nil) // a reader of an older state must not make the others build again
	}
	now := build(txn, s, before)
	b.services[s.Name] = now
	return now
}

// follow forgets what was when an operator put another state in place of it.
func (b *builder) follow(restored uint64) {
	if restored > b.restored {
		b.restored = restored
		clear(b.services)
	}
}

// maxGraves is how many removed endpoints of one service are remembered.
const maxGraves = 1024

// A built is a service at one version, ready to be sent whole or as what changed
// since an earlier one. Nothing but its caches changes once it was made.
type built struct {
	index     *apiv1.ServiceIndex
	version   uint64
	since     uint64 // from here on it knows what changed
	base      []byte // everything but the endpoints
	endpoints []endpointBytes
	graves    []grave  // oldest first
	targets   []string // other services that its routes send calls to

	mu    sync.Mutex
	whole [][]byte
	parts map[uint64][][]byte // by the version that the agent has
}

// An endpointBytes is an endpoint as a field of its service.
type endpointBytes struct {
	nodeID, id     string
	instance, node uint64 // versions of what it was made from
	changed        uint64 // the version of the service by which it had
	bytes          []byte
}

func (e *endpointBytes) compare(o *endpointBytes) int {
	return cmp.Or(cmp.Compare(e.nodeID, o.nodeID), cmp.Compare(e.id, o.id))
}

// A grave remembers an endpoint that was removed.
type grave struct {
	key     *apiv1.EndpointKey
	version uint64
}

func build(txn *state.Txn, s *apiv1.ServiceIndex, before *built) *built {
	head := serviceHead(txn, s)
	b := &built{index: s, version: s.ModifyIndex, since: s.ModifyIndex, base: encoded(head), targets: targets(head), parts: map[uint64][][]byte{}}
	var old []endpointBytes
	if before != nil {
		b.since, old = before.since, before.endpoints
		b.graves = slices.Clone(before.graves)
	}
	for _, i := range txn.Instances(nil, s.Name) {
		node := txn.Node(nil, i.NodeId)
		if node == nil {
			continue
		}
		e := endpointBytes{nodeID: i.NodeId, id: i.Id, instance: i.ModifyIndex, node: node.ModifyIndex}
		for len(old) > 0 && old[0].compare(&e) < 0 {
			b.bury(&old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0].compare(&e) == 0 {
			e.changed, e.bytes = old[0].unchanged(&e)
			old = old[1:]
		}
		if e.bytes == nil {
			e.changed, e.bytes = b.version, field(serviceEndpoints, endpoint(i, node))
		}
		b.endpoints = append(b.endpoints, e)
	}
	for i := range old {
		b.bury(&old[i])
	}
	b.forget()
	return b
}

// unchanged gives the bytes of an endpoint if they are still good for now.
func (e *endpointBytes) unchanged(now *endpointBytes) (changed uint64, bytes []byte) {
	if e.instance != now.instance || e.node != now.node {
		return 0, nil
	}
	return e.changed, e.bytes
}

func (b *built) bury(e *endpointBytes) {
	b.graves = append(b.graves, grave{&apiv1.EndpointKey{NodeId: e.nodeID, Id: e.id}, b.version})
}

func (b *built) forget() {
	if surplus := len(b.graves) - maxGraves; surplus > 0 {
		b.since = b.graves[surplus-1].version
		b.graves = b.graves[surplus:]
	}
}

// targets are the services, other than this one, that its routes name.
func targets(s *apiv1.ServiceSlice) (names []string) {
	for _, r := range s.Routes {
		for _, rule := range r.GetRoute().GetRules() {
			for _, split := range rule.GetSplit() {
				if name, _, err := mesh.SplitTo(split.GetTo()); err == nil && name != s.Name && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// all gives the service as fields of an update that need nothing before.
func (b *built) all() [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.whole == nil {
		b.whole = b.encode(false, nil, b.endpoints)
	}
	return b.whole
}

// maxParts bounds what is kept for agents that have different versions.
const maxParts = 16

// after gives the service as fields of an update for agents that have it as it
// was at a version.
func (b *built) after(version uint64) [][]byte {
	if version < b.since {
		return b.all()
	}
	b.mu.Lock()
	parts, ok := b.parts[version]
	b.mu.Unlock()
	if ok {
		return parts
	}
	parts = b.part(version)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.parts) >= maxParts {
		clear(b.parts)
	}
	b.parts[version] = parts
	return parts
}

func (b *built) part(version uint64) [][]byte {
	var changed []endpointBytes
	for i := range b.endpoints {
		if b.endpoints[i].changed > version {
			changed = append(changed, b.endpoints[i])
		}
	}
	first, _ := slices.BinarySearchFunc(b.graves, version+1, func(g grave, v uint64) int { return cmp.Compare(g.version, v) })
	gone := make([]*apiv1.EndpointKey, 0, len(b.graves)-first)
	for _, g := range b.graves[first:] {
		if !b.has(g.key) {
			gone = append(gone, g.key)
		}
	}
	return b.encode(true, gone, changed)
}

// has reports whether an endpoint is there, such as one that was removed and is
// back.
func (b *built) has(key *apiv1.EndpointKey) bool {
	e := &endpointBytes{nodeID: key.NodeId, id: key.Id}
	_, found := slices.BinarySearchFunc(b.endpoints, e, func(x endpointBytes, y *endpointBytes) int { return x.compare(y) })
	return found
}

// encode gives the service with some endpoints as fields of an update. One with
// many endpoints is several fields, of which each but the first adds to those
// before.
func (b *built) encode(partial bool, gone []*apiv1.EndpointKey, endpoints []endpointBytes) (fields [][]byte) {
	rest := encoded(&apiv1.ServiceSlice{Partial: partial, RemovedEndpoints: gone})
	for {
		n, size := 0, 0
		for n < len(endpoints) && (n == 0 || size+len(endpoints[n].bytes) <= chunkSize) {
			size += len(endpoints[n].bytes)
			n++
		}
		f := protowire.AppendTag(make([]byte, 0, len(b.base)+len(rest)+size+8), updateServices, protowire.BytesType)
		f = protowire.AppendVarint(f, uint64(len(b.base)+len(rest)+size))
		f = append(append(f, b.base...), rest...)
		for _, e := range endpoints[:n] {
			f = append(f, e.bytes...)
		}
		fields, endpoints = append(fields, f), endpoints[n:]
		if len(endpoints) == 0 {
			return fields
		}
		rest = encoded(&apiv1.ServiceSlice{Partial: true})
	}
}

// nameField tells of a service by its name and place only.
func nameField(s *apiv1.ServiceIndex) []byte {
	return field(updateIndex, &apiv1.ServiceName{Name: s.Name, Vip: s.Vip})
}
