// Package slice is the part of the mesh that one agent knows, in memory and on
// disk.
package slice

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// A Slice is what an agent knows of its mesh at one version. Nothing in it
// changes once it was made; an update makes a new one, which shares what stayed.
type Slice struct {
	Version  uint64
	Services map[string]*apiv1.ServiceSlice // by name
	// Index has the places of the services of which the agent knows no more, by
	// name. Scoped says that there may be such: who wants more must say so.
	Index  map[string]uint32
	Scoped bool
	Nodes  map[string]*apiv1.Node // by name
	Mesh   *apiv1.Mesh            // nil means all defaults
	Roots  [][]byte               // trust anchors, DER
	// Generation is the authority's: certificates of an older one are to be
	// renewed.
	Generation uint64
}

// Empty is the slice of an agent that was told nothing yet.
func Empty() *Slice {
	return &Slice{Services: map[string]*apiv1.ServiceSlice{}, Index: map[string]uint32{}, Nodes: map[string]*apiv1.Node{}}
}

// Merge gives the slice that an update leads to. One that cannot be about this
// slice is refused: it leads back in time, or changes what is not there.
func (s *Slice) Merge(u *apiv1.SliceUpdate) (*Slice, error) {
	if u.GetSnapshot() {
		s = Empty()
	} else if u.GetVersion() < s.Version {
		return nil, fmt.Errorf("update to version %d does not follow version %d", u.GetVersion(), s.Version)
	}
	next := *s
	next.Version, next.Scoped = u.GetVersion(), u.GetScoped()
	if err := next.mergeServices(s, u); err != nil {
		return nil, err
	}
	next.mergeNodes(s, u)
	if u.GetMesh() != nil {
		next.Mesh = u.GetMesh()
	}
	if len(u.GetRoots()) > 0 {
		next.Roots, next.Generation = u.GetRoots(), u.GetAuthorityGeneration()
	}
	return &next, nil
}

func (s *Slice) mergeServices(before *Slice, u *apiv1.SliceUpdate) error {
	s.Services, s.Index = maps.Clone(before.Services), maps.Clone(before.Index)
	for _, name := range u.GetRemovedServices() {
		delete(s.Services, name)
		delete(s.Index, name)
	}
	for _, service := range u.GetIndex() {
		delete(s.Services, service.GetName())
		s.Index[service.GetName()] = service.GetVip()
	}
	for _, service := range u.GetServices() {
		if service.GetPartial() {
			known := s.Services[service.GetName()]
			if known == nil {
				return fmt.Errorf("update to version %d changes service %q, which is not known here", u.GetVersion(), service.GetName())
			}
			service = mergeEndpoints(known, service)
		}
		s.Services[service.GetName()] = service
		delete(s.Index, service.GetName())
	}
	return nil
}

func (s *Slice) mergeNodes(before *Slice, u *apiv1.SliceUpdate) {
	if len(u.GetNodes())+len(u.GetRemovedNodes()) == 0 {
		return
	}
	s.Nodes = maps.Clone(before.Nodes)
	for _, name := range u.GetRemovedNodes() {
		delete(s.Nodes, name)
	}
	for _, node := range u.GetNodes() {
		s.Nodes[node.GetName()] = node
	}
}

// Address is a service's place in the loopback range, 0 when there is no such
// service.
func (s *Slice) Address(service string) uint32 {
	if known := s.Services[service]; known != nil {
		return known.GetVip()
	}
	return s.Index[service]
}

// Snapshot gives all of the slice as one update, in a stable order.
func (s *Slice) Snapshot() *apiv1.SliceUpdate {
	u := &apiv1.SliceUpdate{
		Version: s.Version, Snapshot: true, Scoped: s.Scoped, Mesh: s.Mesh, Roots: s.Roots, AuthorityGeneration: s.Generation,
	}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		u.Services = append(u.Services, s.Services[name])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Index)) {
		u.Index = append(u.Index, &apiv1.ServiceName{Name: name, Vip: s.Index[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(s.Nodes)) {
		u.Nodes = append(u.Nodes, s.Nodes[name])
	}
	return u
}

// SameRoots reports whether both slices have the same trust anchors.
func (s *Slice) SameRoots(other *Slice) bool {
	return slices.EqualFunc(s.Roots, other.Roots, bytes.Equal)
}

// SameRules reports whether both slices allow and refuse the same: their
// policies, the mesh's defaults and the trust anchors are equal.
func (s *Slice) SameRules(other *Slice) bool {
	if !s.SameRoots(other) || !proto.Equal(s.Mesh, other.Mesh) || len(s.Services) != len(other.Services) {
		return false
	}
	for name, service := range s.Services {
		was := other.Services[name] // the same one where nothing changed
		if service != was && !slices.EqualFunc(service.GetPolicies(), was.GetPolicies(), samePolicy) {
			return false
		}
	}
	return true
}

func samePolicy(a, b *apiv1.Resource) bool { return proto.Equal(a, b) }
