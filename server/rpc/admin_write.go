package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// audit logs who changed what, or tried to.
func (s *admin) audit(ctx context.Context, what string, err error, attrs ...any) {
	attrs = append([]any{"by", callerOf(ctx).name}, attrs...)
	level := slog.LevelInfo
	if err != nil {
		what, level = what+" failed", slog.LevelWarn
		attrs = append(attrs, "reason", plain(err))
	}
	s.log.Log(ctx, level, what, attrs...)
}

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
	result, err := s.setResources(ctx, "apply", set)
	if err != nil || len(result.Problems) > 0 {
		return &apiv1.ApplyReply{Problems: result.GetProblems()}, err
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

// setResources turns a refusal into an error unless it names the problems.
func (s *admin) setResources(ctx context.Context, what string, set *command.SetResources) (*command.Result, error) {
	result, err := s.replica.Propose(ctx, set)
	if err == nil && len(result.Problems) == 0 {
		err = refusal(result)
	}
	reason := err
	if len(result.GetProblems()) > 0 {
		reason = errors.New(result.Problems[0].Message)
	}
	s.audit(ctx, what+" resources", reason, "resources", keys(set))
	return result, err
}

// Delete removes one resource.
func (s *admin) Delete(ctx context.Context, r *apiv1.DeleteRequest) (*apiv1.DeleteReply, error) {
	set := &command.SetResources{Remove: []*command.ResourceKey{{Kind: r.GetKind(), Name: r.GetName()}}}
	result, err := s.setResources(ctx, "delete", set)
	if err != nil {
		return nil, err
	}
	reply := &apiv1.DeleteReply{Problems: result.Problems}
	if len(result.Changes) > 0 {
		reply.Change = result.Changes[0]
	}
	return reply, nil
}

func keys(set *command.SetResources) (list []string) {
	for _, r := range set.Put {
		list = append(list, mesh.KeyOf(r).String())
	}
	for _, k := range set.Remove {
		list = append(list, mesh.ResourceKey{Kind: k.Kind, Name: k.Name}.String())
	}
	return list
}
