package rpc

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store/command"
)

// peerService is what other servers ask of the leader. FailedPrecondition means
// that this server is not the leader and did nothing.
type peerService struct {
	apiv1.UnimplementedPeerServer
	replica  *Replica
	streams  Streams
	standing func() ca.Standing
	keys     GossipKeys
	backup   func() *apiv1.BackupStatus
}

func (s *peerService) Propose(ctx context.Context, r *apiv1.ProposeRequest) (*apiv1.ProposeReply, error) {
	msg, err := command.Decode(r.GetEntry())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "decoding the proposed entry: %v", err)
	}
	result, err := s.replica.lead(ctx, msg)
	if err != nil {
		return nil, asPeer(err)
	}
	encoded, err := proto.Marshal(result)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "encoding the result: %v", err)
	}
	return &apiv1.ProposeReply{Index: result.Index, Result: encoded}, nil
}

func (s *peerService) ReadIndex(ctx context.Context, _ *apiv1.ReadIndexRequest) (*apiv1.ReadIndexReply, error) {
	index, err := s.replica.store.ReadIndex(ctx)
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "reading at the leader: %v", err)
	}
	return &apiv1.ReadIndexReply{Index: index}, nil
}

// Progress is answered by any server, of itself.
func (s *peerService) Progress(context.Context, *apiv1.ProgressRequest) (*apiv1.ProgressReply, error) {
	authority := s.standing()
	reply := s.replica.progress(s.keys)
	reply.AuthorityGeneration, reply.AuthorityIndex = authority.Generation, authority.Index
	return reply, nil
}

func asPeer(err error) error {
	var retry *retryError
	if errors.As(err, &retry) {
		return status.Error(codes.FailedPrecondition, plain(retry.error))
	}
	var outcome *OutcomeError
	if errors.As(err, &outcome) {
		err = outcome.err
	}
	return status.Error(status.Code(err), plain(err))
}
