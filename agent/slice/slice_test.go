package slice

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	apiv1 "github.com/meshd/meshd/api/v1"
)

func service(name string, vip uint32) *apiv1.ServiceSlice {
	return &apiv1.ServiceSlice{Name: name, Vip: vip}
}

func node(name, address string) *apiv1.Node { return &apiv1.Node{Name: name, Address: address} }

func meshDefault(a apiv1.PolicyAction) *apiv1.Mesh {
	return &apiv1.Mesh{Policy: &apiv1.MeshPolicy{Default: a}}
}

func TestMerge(t *testing.T) {
	allow, deny := meshDefault(apiv1.PolicyAction_POLICY_ACTION_ALLOW), meshDefault(apiv1.PolicyAction_POLICY_ACTION_DENY)
	first := &apiv1.SliceUpdate{
		Version: 10, Snapshot: true, Mesh: allow, Roots: [][]byte{{1}},
		Services: []*apiv1.ServiceSlice{service("a", 1), service("b", 2)},
		Nodes:    []*apiv1.Node{node("h1", "10.0.0.1"), node("h2", "10.0.0.2")},
	}
	f := func(name string, u, want *apiv1.SliceUpdate) {
		t.Helper()
		old, err := Empty().Merge(first)
		if err != nil {
			t.Fatal(err)
		}
		got, err := old.Merge(u)
		if (err != nil) != (want == nil) {
			t.Fatalf("%s: error %v", name, err)
		}
		if err == nil {
			if diff := cmp.Diff(want, got.Snapshot(), protocmp.Transform()); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", name, diff)
			}
		}
		if diff := cmp.Diff(first, old.Snapshot(), protocmp.Transform()); diff != "" {
			t.Errorf("%s: the old slice changed:\n%s", name, diff)
		}
	}
	f("delta", &apiv1.SliceUpdate{
		Version:         12,
		Services:        []*apiv1.ServiceSlice{service("a", 7), service("c", 3)},
		RemovedServices: []string{"b", "unknown"},
		Nodes:           []*apiv1.Node{node("h2", "10.0.0.9")},
		RemovedNodes:    []string{"h1"},
		Mesh:            deny,
	}, &apiv1.SliceUpdate{
		Version: 12, Snapshot: true, Mesh: deny, Roots: [][]byte{{1}},
		Services: []*apiv1.ServiceSlice{service("a", 7), service("c", 3)},
		Nodes:    []*apiv1.Node{node("h2", "10.0.0.9")},
	})
	f("removed and made again", &apiv1.SliceUpdate{
		Version: 11, RemovedServices: []string{"a"}, Services: []*apiv1.ServiceSlice{service("a", 1)},
	}, &apiv1.SliceUpdate{
		Version: 11, Snapshot: true, Mesh: allow, Roots: [][]byte{{1}},
		Services: first.Services, Nodes: first.Nodes,
	})
	f("new roots", &apiv1.SliceUpdate{Version: 11, Roots: [][]byte{{1}, {2}}}, &apiv1.SliceUpdate{
		Version: 11, Snapshot: true, Mesh: allow, Roots: [][]byte{{1}, {2}}, Services: first.Services, Nodes: first.Nodes,
	})
	f("snapshot", &apiv1.SliceUpdate{Version: 3, Snapshot: true, Services: []*apiv1.ServiceSlice{service("z", 1)}},
		&apiv1.SliceUpdate{Version: 3, Snapshot: true, Services: []*apiv1.ServiceSlice{service("z", 1)}})
	f("back in time", &apiv1.SliceUpdate{Version: 9}, nil)
}

func TestSameRules(t *testing.T) {
	policy := func(mode apiv1.PolicyMode) *apiv1.Resource {
		return &apiv1.Resource{Name: "p", Spec: &apiv1.Resource_Policy{Policy: &apiv1.Policy{Service: "a", Mode: mode}}}
	}
	base := &apiv1.SliceUpdate{Version: 1, Snapshot: true, Services: []*apiv1.ServiceSlice{
		{Name: "a", Policies: []*apiv1.Resource{policy(apiv1.PolicyMode_POLICY_MODE_ENFORCE)}}, {Name: "b"},
	}}
	s, err := Empty().Merge(base)
	if err != nil {
		t.Fatal(err)
	}
	f := func(what string, want bool, u *apiv1.SliceUpdate) {
		t.Helper()
		u.Version = 2
		next, err := s.Merge(u)
		if err != nil {
			t.Fatal(err)
		}
		if got := next.SameRules(s); got != want {
			t.Errorf("%s: same rules: %v", what, got)
		}
	}
	f("nothing", true, &apiv1.SliceUpdate{})
	f("endpoints", true, &apiv1.SliceUpdate{Services: []*apiv1.ServiceSlice{{Name: "b", Endpoints: []*apiv1.Endpoint{{Id: "x"}}}}})
	f("a policy", false, &apiv1.SliceUpdate{Services: []*apiv1.ServiceSlice{{Name: "a", Policies: []*apiv1.Resource{policy(apiv1.PolicyMode_POLICY_MODE_AUDIT)}}}})
	f("a policy gone", false, &apiv1.SliceUpdate{Services: []*apiv1.ServiceSlice{{Name: "a"}}})
	f("the mesh", false, &apiv1.SliceUpdate{Mesh: &apiv1.Mesh{Policy: &apiv1.MeshPolicy{Default: apiv1.PolicyAction_POLICY_ACTION_DENY}}})
	f("roots", false, &apiv1.SliceUpdate{Roots: [][]byte{{1}}})
}
