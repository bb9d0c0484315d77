package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/mesh"
	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/command"
	"github.com/meshd/meshd/store/state"
)

// lead has a command applied by this server, which leads, after it was checked
// for what the tables cannot check.
func (r *Replica) lead(ctx context.Context, msg proto.Message) (*command.Result, error) {
	if set, ok := msg.(*command.SetResources); ok {
		return r.setResources(ctx, set)
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

// setResources validates resources together with all others. Nobody else may
// write any until these are applied, and all that was written before must show,
// even if its writer was never told of it: hence the barrier.
func (r *Replica) setResources(ctx context.Context, set *command.SetResources) (*command.Result, error) {
	select {
	case r.resources <- struct{}{}:
		defer func() { <-r.resources }()
	case <-ctx.Done():
		return nil, again(fmt.Errorf("waiting for other changes of resources: %w", ctx.Err()))
	}
	if err := r.store.Barrier(ctx); err != nil {
		return nil, again(err)
	}
	if problems := validate(r.Local(), set); len(problems) > 0 {
		return &command.Result{Refusal: command.Refusal_REFUSAL_INVALID, Message: problems[0].Message, Problems: problems}, nil
	}
	return r.apply(ctx, set)
}

// validate reports what is wrong with the resources as they would be.
func validate(txn *state.Txn, set *command.SetResources) []*apiv1.Problem {
	after := resourcesAfter(txn.Resources(nil, ""), set)
	problems := mesh.ValidateSet(set.Put, after)
	for _, k := range set.Remove {
		problems = append(problems, mesh.ValidateDelete(mesh.ResourceKey{Kind: k.Kind, Name: k.Name}, after)...)
	}
	return problems
}

func resourcesAfter(before []*apiv1.Resource, set *command.SetResources) []*apiv1.Resource {
	changed := make(map[mesh.ResourceKey]bool, len(set.Put)+len(set.Remove))
	for _, r := range set.Put {
		changed[mesh.KeyOf(r)] = true
	}
	for _, k := range set.Remove {
		changed[mesh.ResourceKey{Kind: k.Kind, Name: k.Name}] = true
	}
	after := make([]*apiv1.Resource, 0, len(before)+len(set.Put))
	for _, r := range before {
		if !changed[mesh.KeyOf(r)] {
			after = append(after, r)
		}
	}
	return append(after, set.Put...)
}
