package rpc

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/store/command"
)

// propose has a command applied and turns a refusal into an error.
func (s *Services) propose(ctx context.Context, msg proto.Message) (*command.Result, error) {
	result, err := s.replica.Propose(ctx, msg)
	if err != nil {
		return nil, err
	}
	return result, refusal(result) // both, when it was refused
}

func refusal(r *command.Result) error {
	if r.Refusal == command.Refusal_REFUSAL_NONE {
		return nil
	}
	return status.Error(codeOf(r.Refusal), r.Message)
}

func codeOf(r command.Refusal) codes.Code {
	switch r {
	case command.Refusal_REFUSAL_INVALID:
		return codes.InvalidArgument
	case command.Refusal_REFUSAL_NOT_FOUND:
		return codes.NotFound
	case command.Refusal_REFUSAL_EXISTS:
		return codes.AlreadyExists
	case command.Refusal_REFUSAL_CONFLICT, command.Refusal_REFUSAL_STALE_LEASE:
		return codes.Aborted
	case command.Refusal_REFUSAL_TOKEN:
		return codes.PermissionDenied
	case command.Refusal_REFUSAL_NOT_INITIALIZED:
		return codes.Unavailable
	case command.Refusal_REFUSAL_UNKNOWN_ENTRY:
		return codes.Unimplemented
	case command.Refusal_REFUSAL_FEATURE_LEVEL:
		return codes.FailedPrecondition
	}
	return codes.Internal
}
