package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshd/meshd/agent/control"
	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
)

// group is the one whose members may declare services, besides root and the
// user that the agent runs as.
const group = "meshd"

// localAPI is what the agent serves on its socket about its own host.
type localAPI struct {
	apiv1.UnimplementedLocalServer
	agent *Agent
}

func (s localAPI) AddService(ctx context.Context, r *apiv1.AddServiceRequest) (*apiv1.AddServiceReply, error) {
	if err := mayDeclare(ctx); err != nil {
		return nil, err
	}
	if r.GetDeclaration() == nil {
		return nil, status.Error(codes.InvalidArgument, "the request declares no service")
	}
	reply, err := s.agent.AddService(ctx, r.GetDeclaration())
	return reply, asStatus(err)
}

func (s localAPI) RemoveService(ctx context.Context, r *apiv1.RemoveServiceRequest) (*apiv1.RemoveServiceReply, error) {
	if err := mayDeclare(ctx); err != nil {
		return nil, err
	}
	return &apiv1.RemoveServiceReply{}, asStatus(s.agent.RemoveService(ctx, r.GetId()))
}

func (s localAPI) LocalStatus(context.Context, *apiv1.LocalStatusRequest) (*apiv1.LocalStatusReply, error) {
	return s.agent.Status(), nil
}

func asStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case isUnknown(err):
		return status.Error(codes.NotFound, err.Error())
	case errors.As(err, new(*control.RefusedError)):
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return status.Error(codes.InvalidArgument, err.Error())
}

// mayDeclare reports why a caller may not change what this host runs: with the
// declaration of a service goes the right to speak as it.
func mayDeclare(ctx context.Context) error {
	uid, ok := grpcx.PeerUID(ctx)
	switch {
	case !ok:
		return status.Error(codes.PermissionDenied, "services are declared through the agent's socket on the host itself")
	case uid == 0, int(uid) == os.Getuid(), isMember(uid):
		return nil
	}
	return status.Error(codes.PermissionDenied, fmt.Sprintf("user %d may not change the services of this host: run it as root, or as a member of group %s", uid, group))
}

func isMember(uid uint32) bool {
	g, err := user.LookupGroup(group)
	if err != nil {
		return false
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return false
	}
	ids, err := u.GroupIds()
	return err == nil && slices.Contains(ids, g.Gid)
}
