package rpc

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// maxResources is how many resources one change may write.
const maxResources = 10_000

// Apply writes resources, all or none.
func (s *admin) Apply(ctx context.Context, r *apiv1.ApplyRequest) (*apiv1.ApplyReply, error) {
	set := &command.SetResources{Put: r.GetResources()}
	if len(set.Put) == 0 {
		return nil, status.Error(codes.InvalidArgument, "there is nothing to apply")
	}
	if r.GetDryRun() {
		txn, err := s.replica.Fresh(ctx)
		if err != nil {
			return nil, err
		}
		return preview(txn, set), nil
	}
	if len(set.Put) > maxResources {
		return nil, status.Errorf(codes.InvalidArgument, "%d resources are too many for one change, and %d is the most: apply them in several", len(set.Put), maxResources)
	}
	result, err := s.change(ctx, "apply", keys(set), set)
	if len(result.GetProblems()) > 0 {
		return &apiv1.ApplyReply{Problems: result.Problems}, nil
	}
	if err != nil {
		return nil, err
	}
	return &apiv1.ApplyReply{Changes: result.Changes, Version: result.Index}, nil
}

// preview says what applying would do at this moment.
func preview(txn *state.Txn, set *command.SetResources) *apiv1.ApplyReply {
	reply := &apiv1.ApplyReply{Problems: validate(txn, set)}
	for i, r := range set.Put {
		key := mesh.KeyOf(r)
		stored := txn.Resource(nil, key.Kind, key.Name)
		if r.Version != 0 && r.Version != stored.GetVersion() {
			reply.Problems = append(reply.Problems, &apiv1.Problem{
				Resource: int32(i), Path: "version", Fix: "read it again and make the change there",
				Message: fmt.Sprintf("%s was read at version %d and is at version %d now", key, r.Version, stored.GetVersion()),
			})
		}
		reply.Changes = append(reply.Changes, &apiv1.Change{Kind: key.Kind, Name: key.Name, Action: action(stored, r)})
	}
	if len(reply.Problems) > 0 {
		reply.Changes = nil
	}
	return reply
}

func action(stored, r *apiv1.Resource) string {
	if stored == nil {
		return "created"
	}
	r = proto.CloneOf(r)
	r.Version = stored.Version
	if proto.Equal(stored, r) {
		return "unchanged"
	}
	return "updated"
}

// Delete removes one resource.
func (s *admin) Delete(ctx context.Context, r *apiv1.DeleteRequest) (*apiv1.DeleteReply, error) {
	if r.GetVersion() != 0 && s.replica.Local().FeatureLevel(nil) < auditLevel {
		return nil, status.Error(codes.FailedPrecondition, "not all servers know yet how to delete only a certain version: update them, or leave the version out")
	}
	set := &command.SetResources{Remove: []*command.ResourceKey{{Kind: r.GetKind(), Name: r.GetName(), Version: r.GetVersion()}}}
	result, err := s.change(ctx, "delete", keys(set), set)
	if len(result.GetProblems()) > 0 {
		return &apiv1.DeleteReply{Problems: result.Problems}, nil
	}
	if err != nil {
		return nil, err
	}
	reply := &apiv1.DeleteReply{}
	if len(result.Changes) > 0 {
		reply.Change = result.Changes[0]
	}
	return reply, nil
}

// keys are the objects of a change of resources.
func keys(set *command.SetResources) (list []string) {
	for _, r := range set.Put {
		list = append(list, object(mesh.ResourceKind(r), r.GetName()))
	}
	for _, k := range set.Remove {
		list = append(list, object(k.Kind, k.Name))
	}
	return list
}

// object names what a change is about, as records have it.
func object(kind, name string) string {
	return strings.ToValidUTF8(printable(kind)+"/"+printable(name), "?")
}
