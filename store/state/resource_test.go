package state

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store/command"
)

func serviceResource(name string) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Service{Service: &apiv1.Service{Protocol: apiv1.Protocol_PROTOCOL_HTTP}}}
}

func route(name, service string) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Route{Route: &apiv1.Route{Service: service}}}
}

func policy(name, service string) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Policy{Policy: &apiv1.Policy{Service: service}}}
}

func meshResource(ttl int64) *apiv1.Resource {
	return &apiv1.Resource{Name: "mesh", Spec: &apiv1.Resource_Mesh{Mesh: &apiv1.Mesh{
		Certificates: &apiv1.MeshCertificates{Ttl: &durationpb.Duration{Seconds: ttl}},
	}}}
}

func set(put ...*apiv1.Resource) *command.SetResources { return &command.SetResources{Put: put} }

func unset(kind, name string) *command.SetResources {
	return &command.SetResources{Remove: []*command.ResourceKey{{Kind: kind, Name: name}}}
}

func changes(r *command.Result) string {
	var all []string
	for _, c := range r.Changes {
		all = append(all, c.Kind+" "+c.Name+" "+c.Action)
	}
	return strings.Join(all, ", ")
}

func TestSetResources(t *testing.T) {
	m := newMesh(t)
	f := func(r *command.Result, want string, touched ...string) {
		t.Helper()
		if got := changes(r); got != want {
			t.Fatalf("changes: %s, want %s", got, want)
		}
		m.touched(touched...)
	}
	f(m.ok(set(serviceResource("orders"), route("canary", "orders"), policy("orders", "web"))),
		"service orders created, route canary created, policy orders created", "orders", "web")
	created := m.index
	f(m.unchanged(set(serviceResource("orders"))), "service orders unchanged")
	f(m.ok(set(serviceResource("orders"), route("canary", "web"))),
		"service orders unchanged, route canary updated", "orders", "web")

	txn := m.db.Read()
	if txn.Resource(nil, "route", "canary").Version != m.index || txn.Resource(nil, "service", "orders").Version != created {
		t.Errorf("%v", txn.Resources(nil, ""))
	}
	if len(txn.Routes(nil, "orders")) != 0 || len(txn.Routes(nil, "web")) != 1 || len(txn.Policies(nil, "web")) != 1 || len(txn.Policies(nil, "orders")) != 0 {
		t.Errorf("%v", txn.Resources(nil, ""))
	}
	if len(txn.Resources(nil, "service")) != 1 || len(txn.Resources(nil, "")) != 3 {
		t.Errorf("%v", txn.Resources(nil, ""))
	}

	c := set(policy("second", "web"))
	c.Remove = unset("route", "canary").Remove
	f(m.ok(c), "policy second created, route canary deleted", "web")
	f(m.ok(unset("service", "orders")), "service orders deleted", "orders")
	if m.db.Read().Service(nil, "orders").Vip != 1 {
		t.Error("the service lost its place with its configuration")
	}
}

func TestSetResourcesRefuses(t *testing.T) {
	m := newMesh(t)
	f := func(kind command.Refusal, want string, c *command.SetResources) {
		t.Helper()
		c.Put = append(c.Put, serviceResource("good"))
		m.refused(c, kind, want)
	}
	f(isInvalid, "no kind", set(&apiv1.Resource{Name: "x"}))
	f(isInvalid, "name", set(serviceResource("X")))
	f(isInvalid, "name", set(route("x", "")))
	f(isInvalid, "name", set(&apiv1.Resource{Name: "x", Spec: &apiv1.Resource_Policy{}}))
	f(isInvalid, `"mesh"`, set(&apiv1.Resource{Name: "other", Spec: &apiv1.Resource_Mesh{Mesh: &apiv1.Mesh{}}}))
	f(isInvalid, "twice", set(route("x", "a"), route("x", "b")))
	f(isNotFound, `route "none"`, unset("route", "none"))
	f(isNotFound, `cake "none"`, unset("cake", "none"))
	both := unset("route", "x")
	both.Put = set(route("x", "a")).Put
	f(isInvalid, "both put and removed", both)
}

func TestVersions(t *testing.T) {
	m := newMesh(t)
	m.ok(set(serviceResource("a"), serviceResource("b")))
	at := func(r *apiv1.Resource, version uint64) *apiv1.Resource {
		r.Version = version
		return r
	}
	changed := serviceResource("a")
	changed.GetService().Protocol = apiv1.Protocol_PROTOCOL_TCP
	seen := m.index
	m.ok(set(at(proto.CloneOf(changed), seen)))
	r := m.refused(set(serviceResource("b"), at(serviceResource("a"), seen), at(serviceResource("c"), 3)), isConflict, "was read at version")
	if len(r.Problems) != 2 || r.Problems[0].Resource != 1 || r.Problems[1].Resource != 2 || r.Problems[0].Path != "version" {
		t.Fatalf("%v", r.Problems)
	}
	for _, want := range []string{"version 13", "version 14"} {
		if !strings.Contains(r.Problems[0].Message, want) {
			t.Errorf("%q does not name %s", r.Problems[0].Message, want)
		}
	}
	if !strings.Contains(r.Problems[1].Message, "not there any more") {
		t.Errorf("%q", r.Problems[1].Message)
	}
	m.ok(set(serviceResource("a"))) // version 0 writes over what is there
}

func TestMeshConfig(t *testing.T) {
	m := newMesh(t)
	f := func(ttl int64, version uint64) {
		t.Helper()
		config, got := m.db.Read().MeshConfig(nil)
		if config.GetCertificates().GetTtl().GetSeconds() != ttl || got != version {
			t.Fatalf("%v at %d, want %d s at %d", config, got, ttl, version)
		}
	}
	f(0, 0)
	m.ok(set(meshResource(60)))
	f(60, m.index)
	last := m.index
	m.ok(set(meshResource(60), serviceResource("web")))
	f(60, last)
	m.ok(unset("mesh", "mesh"))
	f(0, m.index)
}

func TestVersionsOfWhatIsRemoved(t *testing.T) {
	m := newMesh(t)
	m.ok(set(serviceResource("a"), serviceResource("b")))
	remove := func(name string, version uint64) *command.ResourceKey {
		return &command.ResourceKey{Kind: "service", Name: name, Version: version}
	}
	stale := set(route("r", "c"))
	stale.Remove = []*command.ResourceKey{remove("b", 0), remove("a", 5)}
	r := m.refused(stale, isConflict, `service "a" was read at version 5 and is at version 13 now`)
	if len(r.Problems) != 1 || r.Problems[0].Resource != 2 {
		t.Errorf("%v", r.Problems)
	}
	m.refused(&command.SetResources{Remove: []*command.ResourceKey{remove("none", 5)}}, isNotFound, "none")
	m.ok(&command.SetResources{Remove: []*command.ResourceKey{remove("a", 13), remove("b", 0)}})
}
