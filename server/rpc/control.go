package rpc

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store/command"
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
	hosted := hostedBy(txn, node)
	if wait := s.orders.take(node.Id, len(r.GetRequests()), len(hosted)+1, time.Now()); wait > 0 {
		s.refusals.Warn("too many certificates were asked for", "node", node.Name, "certificates", len(r.GetRequests()))
		return nil, status.Errorf(codes.ResourceExhausted, "too many certificates are asked for, by this host or by all: ask again in %v", wait.Round(time.Millisecond))
	}
	reply := &apiv1.SignReply{AuthorityGeneration: authority.Generation()}
	for _, request := range r.GetRequests() {
		c := &apiv1.Certificate{}
		if c.Chain, err = sign(txn, authority, node, hosted, request); err != nil {
			s.refuse(ctx, node, request.GetService(), err)
			c.Error = err.Error()
		}
		reply.Certificates = append(reply.Certificates, c)
	}
	return reply, nil
}

// sign takes nothing of a request but the key: what is certified is what the mesh
// knows of the host.
func sign(txn *state.Txn, authority *ca.Authority, node *apiv1.Node, hosted map[string]bool, r *apiv1.CertificateRequest) ([][]byte, error) {
	trustDomain, service := txn.Cluster(nil).TrustDomain, r.GetService()
	id := mesh.HostIdentity(trustDomain, node.Name)
	if service != "" {
		id = mesh.ServiceIdentity(trustDomain, service)
		if err := mayBe(node, hosted, service); err != nil {
			return nil, err
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
	return signed.Chain, nil
}

// mayBe says why a host may not speak as a service: it must be registered there,
// and have been allowed by the host's join token.
func mayBe(node *apiv1.Node, hosted map[string]bool, service string) error {
	switch {
	case !hosted[service]:
		return fmt.Errorf("host %s has no instance of service %q registered: add it there first, with meshd service add", node.Name, service)
	case !state.MayRun(node, service):
		return fmt.Errorf("host %s may not run the service %q, only %q, as its join token said", node.Name, service, node.AllowedServices)
	}
	return nil
}

// hostedBy are the services that a host has registered.
func hostedBy(txn *state.Txn, node *apiv1.Node) map[string]bool {
	services := map[string]bool{}
	for _, i := range txn.NodeInstances(nil, node.Id) {
		services[i.Service] = true
	}
	return services
}

// short bounds the reason in a record.
func short(reason string) string { return strings.ToValidUTF8(reason[:min(len(reason), 512)], "?") }

// refuse logs and records that a host asked for what it may not have. It may do
// so all day: both are bounded.
func (s *control) refuse(ctx context.Context, node *apiv1.Node, service string, why error) {
	s.refusals.Warn("certificate refused", "node", node.Name, "service", printable(service), "reason", why)
	if s.orders.told.take(node.Id, time.Now()) > 0 || s.replica.Local().FeatureLevel(nil) < auditLevel {
		return
	}
	identity := "host/" + node.Name
	if service != "" {
		identity = "svc/" + strings.ToValidUTF8(printable(service), "?")
	}
	c := callerOf(ctx)
	result, err := s.replica.Propose(ctx, &command.Audited{Record: &apiv1.AuditRecord{
		TimeUnixNano: time.Now().UnixNano(), Actor: c.name, Source: c.source, Server: s.cfg.Self,
		Action: "certificate sign", Objects: []string{identity}, Refusal: short(why.Error()),
	}})
	if err == nil {
		err = refusal(result)
	}
	if err != nil {
		s.log.Warn("a refused certificate was not recorded", "node", node.Name, "error", err)
	}
}
