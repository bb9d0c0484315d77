package agent

import (
	"context"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
)

// Leave is for root alone: who may declare services may not end all of them.
func (s localAPI) Leave(ctx context.Context, _ *apiv1.LeaveRequest) (*apiv1.LeaveReply, error) {
	uid, ok := grpcx.PeerUID(ctx)
	if !ok || uid != 0 && int(uid) != os.Getuid() {
		return nil, status.Error(codes.PermissionDenied, "only root on the host itself may take it out of the mesh")
	}
	if err := s.agent.Leave(ctx); err != nil {
		return nil, status.Error(codes.Unavailable, "the servers could not be told that this host leaves: "+err.Error())
	}
	return &apiv1.LeaveReply{}, nil
}
