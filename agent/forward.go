package agent

import (
	"context"

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

func (adminAPI) Apply(context.Context, *apiv1.ApplyRequest) (*apiv1.ApplyReply, error) {
	return nil, notHere("meshd apply")
}

func (adminAPI) Delete(context.Context, *apiv1.DeleteRequest) (*apiv1.DeleteReply, error) {
	return nil, notHere("meshd delete")
}

func (adminAPI) CreateToken(context.Context, *apiv1.CreateTokenRequest) (*apiv1.CreateTokenReply, error) {
	return nil, notHere("meshd token create")
}

func (adminAPI) ListTokens(context.Context, *apiv1.ListTokensRequest) (*apiv1.ListTokensReply, error) {
	return nil, notHere("meshd token list")
}

func (adminAPI) RevokeToken(context.Context, *apiv1.RevokeTokenRequest) (*apiv1.RevokeTokenReply, error) {
	return nil, notHere("meshd token revoke")
}

func notHere(command string) error {
	return status.Errorf(codes.PermissionDenied, "this host runs no server, and a host may not change the mesh or see its tokens: run %s as root on a server host (meshd members shows them)", command)
}
