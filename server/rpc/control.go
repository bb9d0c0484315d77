package rpc

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store/state"
)

// maxRequests is how many certificates may be asked for in one call: more than
// a host can run services.
const maxRequests = 1001

// control serves agents.
type control struct {
	apiv1.UnimplementedControlServer
	*Services
}

func (s *control) Connect(stream apiv1.Control_ConnectServer) error {
	return s.cfg.Streams.Connect(stream)
}

// Sign issues certificates by what is registered, as of now: a host that was
// removed, or a service that it gave up, gets no more.
func (s *control) Sign(ctx context.Context, r *apiv1.SignRequest) (*apiv1.SignReply, error) {
	if len(r.GetRequests()) > maxRequests {
		return nil, status.Errorf(codes.InvalidArgument, "%d certificates are asked for at once, and %d is the most", len(r.Requests), maxRequests)
	}
	txn, err := s.replica.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	authority, err := s.cfg.Authority()
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "signing: %v", err)
	}
	node := txn.Node(nil, callerOf(ctx).node.Id)
	if node == nil {
		return nil, status.Error(codes.PermissionDenied, "the host was removed from the mesh: join it again with a new token")
	}
	reply := &apiv1.SignReply{}
	for _, request := range r.GetRequests() {
		c := &apiv1.Certificate{}
		if signed, err := sign(txn, authority, node, request); err != nil {
			s.log.Warn("certificate refused", "node", node.Name, "service", printable(request.GetService()), "reason", err)
			c.Error = err.Error()
		} else {
			c.Chain = signed.Chain
		}
		reply.Certificates = append(reply.Certificates, c)
	}
	return reply, nil
}

func sign(txn *state.Txn, authority *ca.Authority, node *apiv1.Node, r *apiv1.CertificateRequest) (*ca.Signed, error) {
	trustDomain, service := txn.Cluster(nil).TrustDomain, r.GetService()
	id := mesh.HostIdentity(trustDomain, node.Name)
	if service != "" {
		id = mesh.ServiceIdentity(trustDomain, service)
		if !hosts(txn, node, service) {
			return nil, fmt.Errorf("host %s has no instance of service %q registered: add it there first, with meshd service add", node.Name, service)
		}
	}
	config, _ := txn.MeshConfig(nil)
	signed, err := authority.Sign(r.GetCsr(), id, mesh.EffectiveCertificateTTL(config))
	if err != nil {
		return nil, err
	}
	if service == "" && !bytes.Equal(signed.KeyHash, node.KeyHash) {
		return nil, fmt.Errorf("host %s is known by another key: its own certificate is renewed with the key it joined with", node.Name)
	}
	return signed, nil
}

func hosts(txn *state.Txn, node *apiv1.Node, service string) bool {
	return slices.ContainsFunc(txn.NodeInstances(nil, node.Id), func(i *apiv1.Instance) bool { return i.Service == service })
}
