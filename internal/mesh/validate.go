package mesh

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// Kinds of resources.
const (
	ResourceService = "service"
	ResourceRoute   = "route"
	ResourcePolicy  = "policy"
	ResourceMesh    = "mesh"
)

// MeshName is the name of the one resource of kind mesh.
const MeshName = "mesh"

const (
	// maxResourceSize bounds one resource, encoded.
	maxResourceSize = 256 << 10
	// maxEntries bounds each list of rules, splits, subsets and patterns.
	maxEntries = 1000
)

// ResourceKind is the kind of a resource: the name of the spec that is set, or
// "" when none is.
func ResourceKind(r *apiv1.Resource) string {
	switch r.GetSpec().(type) {
	case *apiv1.Resource_Service:
		return ResourceService
	case *apiv1.Resource_Route:
		return ResourceRoute
	case *apiv1.Resource_Policy:
		return ResourcePolicy
	case *apiv1.Resource_Mesh:
		return ResourceMesh
	}
	return ""
}

// ServiceOf is the service that a resource is for, "" for one that is for all.
func ServiceOf(r *apiv1.Resource) string {
	switch spec := r.GetSpec().(type) {
	case *apiv1.Resource_Service:
		return r.Name
	case *apiv1.Resource_Route:
		return spec.Route.GetService()
	case *apiv1.Resource_Policy:
		return spec.Policy.GetService()
	}
	return ""
}

// A ResourceKey is what resources are told apart by.
type ResourceKey struct{ Kind, Name string }

// KeyOf gives a resource's key.
func KeyOf(r *apiv1.Resource) ResourceKey {
	return ResourceKey{ResourceKind(r), r.GetName()}
}

// String gives the key as messages name a resource: route "orders-canary".
func (k ResourceKey) String() string { return fmt.Sprintf("%s %q", k.Kind, k.Name) }

// ValidateSet reports what is wrong with changed resources, each for itself and
// together with all others. all is the whole set as it would be after the
// change, changed included. A problem's Resource is the index into changed,
// also when the mistake is that an unchanged resource no longer fits.
func ValidateSet(changed, all []*apiv1.Resource) []*apiv1.Problem {
	set := newResourceSet(all)
	keys := make(map[ResourceKey]int, len(changed))
	var problems []*apiv1.Problem
	for i, r := range changed {
		c := &checker{resource: int32(i)}
		if first, twice := keys[KeyOf(r)]; twice {
			c.add("name", "keep one of the two", "%s is given twice, as number %d and number %d", KeyOf(r), first+1, i+1)
		} else {
			keys[KeyOf(r)] = i
		}
		c.resourceItself(r)
		c.references(r, set)
		problems = append(problems, c.problems...)
	}
	return append(problems, validateBystanders(keys, changed, set)...)
}

// validateBystanders finds unchanged resources that the change breaks.
func validateBystanders(keys map[ResourceKey]int, changed []*apiv1.Resource, set *resourceSet) []*apiv1.Problem {
	var problems []*apiv1.Problem
	for _, r := range set.all {
		if _, ok := keys[KeyOf(r)]; ok {
			continue
		}
		for i, s := range changed {
			if ResourceKind(s) != ResourceService {
				continue
			}
			c := &checker{resource: int32(i)}
			c.bystander(r, s)
			problems = append(problems, c.problems...)
		}
	}
	return problems
}

// ValidateDelete reports which of the resources that would be left name the one
// that is to be removed in a way that needs it.
func ValidateDelete(removed ResourceKey, left []*apiv1.Resource) []*apiv1.Problem {
	if removed.Kind != ResourceService {
		return nil
	}
	c := &checker{}
	for _, r := range left {
		eachSplit(r, func(p path, to string) {
			service, subset, err := SplitTo(to)
			if err != nil || service != removed.Name || subset == "" {
				return
			}
			c.add("", fmt.Sprintf("change or delete %s first", KeyOf(r)),
				"%s defines the subset %q, which %s sends calls to (%s)", removed, subset, KeyOf(r), p)
		})
	}
	return c.problems
}

// A resourceSet answers what references between resources need.
type resourceSet struct {
	all      []*apiv1.Resource
	services map[string]*apiv1.Service
	routes   map[string]string // service to the first route by name
}

func newResourceSet(all []*apiv1.Resource) *resourceSet {
	s := &resourceSet{all: all, services: map[string]*apiv1.Service{}, routes: map[string]string{}}
	for _, r := range all {
		switch spec := r.GetSpec().(type) {
		case *apiv1.Resource_Service:
			s.services[r.Name] = spec.Service
		case *apiv1.Resource_Route:
			first, ok := s.routes[spec.Route.GetService()]
			if !ok || r.Name < first {
				s.routes[spec.Route.GetService()] = r.Name
			}
		}
	}
	return s
}

// resourceItself checks what can be seen from one resource alone.
func (c *checker) resourceItself(r *apiv1.Resource) {
	kind := ResourceKind(r)
	if kind == "" {
		c.add("kind", "write kind: service, route, policy or mesh", "the resource %q has no kind", r.GetName())
		return
	}
	if size := proto.Size(r); size > maxResourceSize {
		c.add("", "split it into several", "%s takes %d bytes, and %d is the most", KeyOf(r), size, maxResourceSize)
		return
	}
	c.unknownFields("", r.ProtoReflect())
	c.resourceName(kind, r.GetName())
	switch spec := r.GetSpec().(type) {
	case *apiv1.Resource_Service:
		c.service(spec.Service)
	case *apiv1.Resource_Route:
		c.route(spec.Route)
	case *apiv1.Resource_Policy:
		c.policy(spec.Policy)
	case *apiv1.Resource_Mesh:
		c.mesh(spec.Mesh)
	}
}

func (c *checker) resourceName(kind, name string) {
	if kind != ResourceMesh {
		c.name("name", name)
		return
	}
	if name != MeshName {
		c.add("name", "name it mesh, or leave the name out", "there is one resource of kind mesh, and it is named %q, not %q", MeshName, name)
	}
}

// unknownFields refuses what a newer version wrote: to drop a setting in
// silence would be to do other than was asked.
func (c *checker) unknownFields(p path, m protoreflect.Message) {
	if len(m.GetUnknown()) > 0 {
		c.add(p, "upgrade the servers first", "it holds a field that this version does not know")
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := p
		if f.Parent().FullName() != "meshd.v1.Resource" {
			at = p.field(string(f.Name()))
		}
		switch {
		case f.IsMap():
			c.unknownInMap(at, f, v.Map())
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				c.unknownFields(at.index(i), v.List().Get(i).Message())
			}
		default:
			c.unknownFields(at, v.Message())
		}
		return true
	})
}

func (c *checker) unknownInMap(p path, f protoreflect.FieldDescriptor, m protoreflect.Map) {
	if f.MapValue().Message() == nil {
		return
	}
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		c.unknownFields(p.key(k.String()), v.Message())
		return true
	})
}
