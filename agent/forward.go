package agent

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// adminAPI passes questions about the mesh on to the server that holds the
// stream, which answers them to this host. Changes are no host's business.
type adminAPI struct {
	apiv1.UnimplementedAdminServer
	agent *Agent
}

// forward asks the server what the agent was asked.
func forward[Q, A any](ctx context.Context, a *Agent, request *Q, call func(apiv1.AdminClient, context.Context, *Q, ...grpc.CallOption) (*A, error)) (*A, error) {
	conn := a.control.Conn()
	if conn == nil {
		return nil, status.Errorf(codes.Unavailable, "no server can be reached from this host, so that only what is of this host can be told (meshd service list --local): %v", orStarting(a.control.Status().Err))
	}
	return call(apiv1.NewAdminClient(conn), ctx, request)
}

func (s adminAPI) Status(ctx context.Context, r *apiv1.StatusRequest) (*apiv1.StatusReply, error) {
	return forward(ctx, s.agent, r, apiv1.AdminClient.Status)
}

func (s adminAPI) Members(ctx context.Context, r *apiv1.MembersRequest) (*apiv1.MembersReply, error) {
	return forward(ctx, s.agent, r, apiv1.AdminClient.Members)
}

func (s adminAPI) ListServices(ctx context.Context, r *apiv1.ListServicesRequest) (*apiv1.ListServicesReply, error) {
	return forward(ctx, s.agent, r, apiv1.AdminClient.ListServices)
}

func (s adminAPI) GetResources(ctx context.Context, r *apiv1.GetResourcesRequest) (*apiv1.GetResourcesReply, error) {
	return forward(ctx, s.agent, r, apiv1.AdminClient.GetResources)
}

// notHere says of a request about the mesh that no host may make where to make
// it: an agent has no method for it.
func notHere(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	reply, err := handle(ctx, request)
	return reply, explainUnknown(info.FullMethod, err)
}

func streamNotHere(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return explainUnknown(info.FullMethod, handle(service, stream))
}

func explainUnknown(method string, err error) error {
	name, ofMesh := strings.CutPrefix(method, "/"+apiv1.Admin_ServiceDesc.ServiceName+"/")
	if !ofMesh || status.Code(err) != codes.Unimplemented {
		return err
	}
	return status.Errorf(codes.PermissionDenied, "this host runs no server, and a host may not change the mesh or see what only operators may (%s): run the command as root on a server host (meshd members shows them)", name)
}
