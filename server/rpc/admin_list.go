package rpc

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/server/push"
	"github.com/meshd/meshd/store/state"
)

// Members lists the servers, on every page, and a page of the hosts by name.
func (s *admin) Members(ctx context.Context, r *apiv1.MembersRequest) (*apiv1.MembersReply, error) {
	txn, err := s.at(ctx, r.GetStale())
	if err != nil {
		return nil, err
	}
	show := proto.CloneOf[*apiv1.Node]
	if callerOf(ctx).role == host {
		show = push.PublicNode
	}
	nodes, next, err := page(r.GetPage(), byName(txn.Nodes(nil)), (*apiv1.Node).GetName, func(n *apiv1.Node) *apiv1.Node {
		state := r.GetState()
		if !strings.HasPrefix(n.Name, r.GetPrefix()) || state != apiv1.NodeState_NODE_STATE_UNSPECIFIED && state != n.State {
			return nil
		}
		return show(n)
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.MembersReply{Servers: s.servers(txn), Nodes: nodes, Next: next}, nil
}

// ListServices lists services by name, with their endpoints.
func (s *admin) ListServices(ctx context.Context, r *apiv1.ListServicesRequest) (*apiv1.ListServicesReply, error) {
	txn, err := s.at(ctx, r.GetStale())
	if err != nil {
		return nil, err
	}
	services, next, err := page(r.GetPage(), servicesNamed(txn, r.GetName()), (*apiv1.ServiceIndex).GetName, func(service *apiv1.ServiceIndex) *apiv1.ServiceSlice {
		if !strings.HasPrefix(service.Name, r.GetPrefix()) {
			return nil
		}
		return wanted(push.ServiceSlice(txn, service), r)
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.ListServicesReply{Services: services, Next: next}, nil
}

func servicesNamed(txn *state.Txn, name string) []*apiv1.ServiceIndex {
	if name == "" {
		return txn.Services(nil)
	}
	if service := txn.Service(nil, name); service != nil {
		return []*apiv1.ServiceIndex{service}
	}
	return nil
}

// wanted leaves of a service what the filters of a request let through; nil when
// they ask for endpoints and it has none such.
func wanted(slice *apiv1.ServiceSlice, r *apiv1.ListServicesRequest) *apiv1.ServiceSlice {
	if r.GetTag() == "" && r.GetNode() == "" && r.GetHealth() == apiv1.Health_HEALTH_UNSPECIFIED && len(r.GetMeta()) == 0 {
		return slice
	}
	slice.Endpoints = slices.DeleteFunc(slice.Endpoints, func(e *apiv1.Endpoint) bool { return !fits(e, r) })
	if len(slice.Endpoints) == 0 {
		return nil
	}
	return slice
}

func fits(e *apiv1.Endpoint, r *apiv1.ListServicesRequest) bool {
	for key, value := range r.GetMeta() {
		if got, ok := e.Meta[key]; !ok || got != value {
			return false
		}
	}
	return (r.GetTag() == "" || slices.Contains(e.Tags, r.Tag)) &&
		(r.GetNode() == "" || e.Node == r.Node) &&
		(r.GetHealth() == apiv1.Health_HEALTH_UNSPECIFIED || e.Health == r.Health)
}

// GetResources lists resources by kind and name.
func (s *admin) GetResources(ctx context.Context, r *apiv1.GetResourcesRequest) (*apiv1.GetResourcesReply, error) {
	if err := checkKind(r.GetKind()); err != nil {
		return nil, err
	}
	txn, err := s.at(ctx, r.GetStale())
	if err != nil {
		return nil, err
	}
	resources, next, err := page(r.GetPage(), txn.Resources(nil, r.GetKind()), resourceKey, func(resource *apiv1.Resource) *apiv1.Resource {
		name := resource.GetName()
		if r.GetName() != "" && r.Name != name || !strings.HasPrefix(name, r.GetPrefix()) || r.GetService() != "" && r.Service != mesh.ServiceOf(resource) {
			return nil
		}
		return resource
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.GetResourcesReply{Resources: resources, Next: next}, nil
}

func checkKind(kind string) error {
	switch kind {
	case "", mesh.ResourceService, mesh.ResourceRoute, mesh.ResourcePolicy, mesh.ResourceMesh:
		return nil
	}
	return status.Errorf(codes.InvalidArgument, "there is no kind of resource named %q: there are service, route, policy and mesh", printable(kind))
}

// resourceKey orders as the state does.
func resourceKey(r *apiv1.Resource) string { return mesh.ResourceKind(r) + "\x00" + r.GetName() }

// ListTokens shows join tokens, and nothing by which one could be used.
func (s *admin) ListTokens(ctx context.Context, r *apiv1.ListTokensRequest) (*apiv1.ListTokensReply, error) {
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	tokens, next, err := page(r.GetPage(), txn.Tokens(nil), (*apiv1.Token).GetId, func(t *apiv1.Token) *apiv1.Token {
		t = proto.CloneOf(t)
		t.SecretHash, t.UsedBy = nil, nil
		return t
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.ListTokensReply{Tokens: tokens, Next: next}, nil
}
