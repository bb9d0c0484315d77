package server_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/meshtest"
)

// route sends all of a service's calls to a destination.
func route(name, service, to string) *apiv1.Resource {
	return &apiv1.Resource{Name: name, Spec: &apiv1.Resource_Route{Route: &apiv1.Route{
		Service: service, Rules: []*apiv1.RouteRule{{Split: []*apiv1.Split{{To: to}}}},
	}}}
}

// withSubset is a service resource that defines one.
func withSubset(name, subset string) *apiv1.Resource {
	r := service(name)
	r.GetService().Subsets = map[string]*apiv1.Subset{subset: {Match: map[string]string{"meta.version": "2"}}}
	return r
}

// outcome tells in words what applying came to.
func outcome(reply *apiv1.ApplyReply) (lines []string) {
	for _, p := range reply.Problems {
		lines = append(lines, p.Message)
	}
	for _, c := range reply.Changes {
		lines = append(lines, c.Kind+" "+c.Name+" "+c.Action)
	}
	return lines
}

func TestApply(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		f := func(dryRun bool, want []string, resources ...*apiv1.Resource) {
			t.Helper()
			reply, err := m.Follower().Admin().Apply(t.Context(), &apiv1.ApplyRequest{DryRun: dryRun, Resources: resources})
			if err != nil {
				t.Errorf("applying: %v", err)
			}
			if diff := cmp.Diff(want, outcome(reply)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		}
		good := []*apiv1.Resource{withSubset("orders", "v2"), route("orders", "orders", "orders@v2")}
		lone := route("orders", "orders", "orders@v3")
		created := []string{"service orders created", "route orders created"}
		f(true, created, good...)
		f(true, created, good...) // a dry run left nothing behind
		f(false, created, good...)
		f(false, []string{"service orders unchanged", "route orders unchanged"}, good...)
		f(true, []string{"service orders unchanged", "route orders unchanged"}, good...)
		f(false, []string{`service "orders" has no subset "v3"`}, lone)
		f(true, []string{`service "orders" has no subset "v3"`}, lone)
		f(false, []string{"service orders updated", "route orders updated"}, withSubset("orders", "v3"), lone)
		// What was not changed counts as well.
		f(false, []string{`service "orders" has no subset "v3" any more, and route "orders" sends calls to it (rules[0].split[0].to)`}, withSubset("orders", "v4"))

		old := withSubset("orders", "v3")
		old.Version = 1
		for _, dryRun := range []bool{true, false} {
			reply, err := m.Leader().Admin().Apply(t.Context(), &apiv1.ApplyRequest{DryRun: dryRun, Resources: []*apiv1.Resource{old}})
			if err != nil || len(reply.Problems) != 1 || reply.Problems[0].Path != "version" || !strings.Contains(reply.Problems[0].Message, "read at version 1") {
				t.Errorf("writing over an unseen change gave %v, %v", reply, err)
			}
		}
		if _, err := m.Leader().Admin().Apply(t.Context(), &apiv1.ApplyRequest{}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("applying nothing gave %v", err)
		}
	})
}

func TestDelete(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		apply(t, m.Leader(), withSubset("orders", "v2"), route("orders", "orders", "orders@v2"))
		remove := func(kind, name string) (*apiv1.DeleteReply, error) {
			return m.Follower().Admin().Delete(t.Context(), &apiv1.DeleteRequest{Kind: kind, Name: name})
		}
		reply, err := remove("service", "orders")
		if err != nil || len(reply.Problems) != 1 || !strings.Contains(reply.Problems[0].Fix, `route "orders"`) {
			t.Errorf("deleting what a route needs gave %v, %v", reply, err)
		}
		for _, kind := range []string{"route", "service"} {
			reply, err := remove(kind, "orders")
			if err != nil || reply.Change.GetAction() != "deleted" {
				t.Errorf("deleting the %s gave %v, %v", kind, reply, err)
			}
		}
		if _, err := remove("service", "orders"); status.Code(err) != codes.NotFound {
			t.Errorf("deleting what is not there gave %v", err)
		}
	})
}

// Two changes that are each right, and wrong together, come at the same time.
func TestConcurrentChangesAreValidatedTogether(t *testing.T) {
	bubble(t, 3, func(t *testing.T, m *meshtest.Mesh) {
		apply(t, m.Leader(), withSubset("orders", "v2"))
		for range 10 {
			var running sync.WaitGroup
			errs := make([]error, 2)
			changes := []*apiv1.Resource{route("orders", "orders", "orders@v2"), service("orders")}
			for i, change := range changes {
				server := m.Servers[i]
				server.Admin() // connected by one goroutine at a time
				running.Go(func() { errs[i] = tryApply(server, change) })
			}
			running.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Fatalf("a route to a subset, and its removal, gave %v and %v", errs[0], errs[1])
			}
			if errs[0] == nil {
				if _, err := m.Leader().Admin().Delete(t.Context(), &apiv1.DeleteRequest{Kind: "route", Name: "orders"}); err != nil {
					t.Fatal(err)
				}
			}
			apply(t, m.Leader(), withSubset("orders", "v2"))
		}
	})
}

func TestTheMeshsDefaultsReachAgentsAndGo(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		stream := m.JoinFakeAgent("h1").Connect(m.Servers[0])
		deny := apiv1.PolicyAction_POLICY_ACTION_DENY
		apply(t, m.Servers[0], &apiv1.Resource{Name: "mesh", Spec: &apiv1.Resource_Mesh{Mesh: &apiv1.Mesh{Policy: &apiv1.MeshPolicy{Default: deny}}}})
		m.WaitFor("the default", func() bool { return stream.Slice().Mesh.GetPolicy().GetDefault() == deny })
		if _, err := m.Servers[0].Admin().Delete(t.Context(), &apiv1.DeleteRequest{Kind: "mesh", Name: "mesh"}); err != nil {
			t.Fatal(err)
		}
		m.WaitFor("the default to be gone", func() bool { return stream.Slice().Mesh.GetPolicy() == nil })
	})
}

func TestListServices(t *testing.T) {
	bubble(t, 1, func(t *testing.T, m *meshtest.Mesh) {
		mustRegister(t, m.JoinFakeAgent("h1").Connect(m.Servers[0]), 1, instance("orders", 80), instance("web", 81))
		f := func(name string, want ...string) {
			t.Helper()
			reply, err := m.Servers[0].Admin().ListServices(t.Context(), &apiv1.ListServicesRequest{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range reply.Services {
				got = append(got, s.Name+" on "+s.Endpoints[0].Node)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
		}
		f("", "orders on h1", "web on h1")
		f("web", "web on h1")
		f("none")
	})
}
