package rpc

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/command"
)

// lead has a command applied by this server, which leads, after it was checked
// for what the tables cannot check.
func (r *Replica) lead(ctx context.Context, msg proto.Message) (*command.Result, error) {
	if set, ok := msg.(*command.SetResources); ok {
		return r.setResources(ctx, set, msg)
	}
	return r.apply(ctx, msg)
}

func (r *Replica) apply(ctx context.Context, msg proto.Message) (*command.Result, error) {
	result, err := r.store.Apply(ctx, msg)
	switch {
	case err == nil:
		return result, nil
	case errors.Is(err, store.ErrOutcomeUnknown):
		return nil, &OutcomeError{err}
	case errors.Is(err, store.ErrNotLeader), errors.Is(err, store.ErrBusy), errors.Is(err, store.ErrClosed):
		return nil, again(err)
	}
	return nil, status.Error(codes.InvalidArgument, err.Error())
}
