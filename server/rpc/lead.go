package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// lead has a command applied by this server, which leads, after it was checked
// for what the tables cannot check.
func (r *Replica) lead(ctx context.Context, msg proto.Message) (*command.Result, error) {
	inner, err := unwrap(msg)
	if err != nil {
		return nil, err
	}
	refused, err := r.tooNew(ctx, msg, inner)
	if refused != nil || err != nil {
		return refused, err
	}
	if set, ok := inner.(*command.SetResources); ok {
		return r.setResources(ctx, set, msg)
	}
	return r.apply(ctx, msg)
}

// unwrap gives what a command does, beside being recorded.
func unwrap(msg proto.Message) (proto.Message, error) {
	audited, ok := msg.(*command.Audited)
	if !ok || len(audited.Entry) == 0 { // the record is all there is to it
		return msg, nil
	}
	inner, err := command.Decode(audited.Entry)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "decoding the audited entry: %v", err)
	}
	return inner, nil
}

// tooNew refuses commands that some server would not know. What this server has
// may lag behind for a moment after it was elected.
func (r *Replica) tooNew(ctx context.Context, msg, inner proto.Message) (*command.Result, error) {
	level := max(command.LevelOf(command.TypeOf(msg)), command.LevelOf(command.TypeOf(inner)))
	if level <= r.Local().FeatureLevel(nil) {
		return nil, nil
	}
	if err := r.store.Barrier(ctx); err != nil {
		return nil, again(err)
	}
	txn := r.Local()
	if level <= txn.FeatureLevel(nil) {
		return nil, nil
	}
	return &command.Result{Refusal: command.Refusal_REFUSAL_FEATURE_LEVEL, Message: whyTooNew(txn, command.Name(inner), level)}, nil
}

// whyTooNew names a server that has to be updated first.
func whyTooNew(txn *state.Txn, what string, level uint32) string {
	for _, server := range txn.Servers(nil) {
		if max(server.FeatureLevel, 1) < level {
			return fmt.Sprintf("server %s runs %s, which does not know yet how to do that (%s): update it first", server.Name, versionOr(server.Version), what)
		}
	}
	return fmt.Sprintf("the servers have not agreed yet that all of them know how to do that (%s): try again in a minute", what)
}

func versionOr(version string) string {
	if version == "" {
		return "an old version"
	}
	return "version " + version
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
