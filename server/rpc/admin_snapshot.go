package rpc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/store"
	"github.com/meshd/meshd/store/command"
)

// chunkSize is how much of a snapshot a message carries.
const chunkSize = 256 << 10

// Save writes the state with every change that was acknowledged before the call,
// or, when stale, what this server has. Changes go on meanwhile.
func (r *Replica) Save(ctx context.Context, w io.Writer, stale bool) error {
	if !stale {
		if err := r.catchUp(ctx); err != nil {
			return err
		}
	}
	_, err := r.store.SaveSnapshot(ctx, w)
	return err
}

// catchUp waits as long as a call may take, though a snapshot may take longer.
func (r *Replica) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := r.Fresh(ctx)
	return err
}

// SaveSnapshot streams the state. What is in it is the mesh: hashes of tokens,
// and the authority's keys, sealed.
func (s *admin) SaveSnapshot(r *apiv1.SaveSnapshotRequest, stream apiv1.Admin_SaveSnapshotServer) error {
	ctx := stream.Context()
	out := bufio.NewWriterSize(chunkWriter(func(b []byte) error { return stream.Send(&apiv1.SnapshotChunk{Data: bytes.Clone(b)}) }), chunkSize)
	err := s.replica.Save(ctx, out, r.GetStale())
	if err == nil {
		err = out.Flush()
	}
	s.logChange(ctx, "snapshot save", nil, err)
	return err
}

// A chunkWriter sends what is written to it in messages.
type chunkWriter func([]byte) error

func (send chunkWriter) Write(b []byte) (n int, err error) {
	for n < len(b) {
		end := min(len(b), n+chunkSize)
		if err := send(b[n:end]); err != nil {
			return n, err
		}
		n = end
	}
	return n, nil
}

// RestoreSnapshot brings back a saved state. The record of it names the snapshot
// by its hash, as meshd snapshot inspect shows it.
func (s *admin) RestoreSnapshot(stream apiv1.Admin_RestoreSnapshotServer) error {
	ctx := stream.Context()
	first, err := stream.Recv()
	if err == io.EOF {
		return status.Error(codes.InvalidArgument, "there is no snapshot in the request")
	}
	if err != nil {
		return err
	}
	in := &chunkReader{stream: stream, left: first.GetData()}
	read := false
	result, err := store.RestoreSnapshot(ctx, in, first.GetOtherMesh(), func(ctx context.Context, msg proto.Message) (*command.Result, error) {
		read = true
		return s.proposePart(ctx, msg, in.hash())
	})
	if err != nil && !read && status.Code(err) == codes.Unknown {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if err == nil {
		err = refusal(result)
	}
	if err != nil {
		return err
	}
	return stream.SendAndClose(&apiv1.RestoreSnapshotReply{Index: result.Index})
}

// proposePart proposes one part of a saved state. The last one, which takes it
// over, is what is recorded.
func (s *admin) proposePart(ctx context.Context, msg proto.Message, hash string) (*command.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if part, ok := msg.(*command.RestoreState); !ok || !part.Last {
		return s.replica.Propose(ctx, msg)
	}
	result, err := s.change(ctx, "snapshot restore", []string{"snapshot/" + hash}, msg)
	if result != nil {
		return result, nil // a refusal is in it
	}
	return nil, err
}

// A chunkReader reads the snapshot that comes in messages. It keeps the end of
// it, which is its hash.
type chunkReader struct {
	stream apiv1.Admin_RestoreSnapshotServer
	left   []byte
	tail   []byte
}

func (r *chunkReader) Read(b []byte) (int, error) {
	for len(r.left) == 0 {
		m, err := r.stream.Recv()
		if err != nil {
			return 0, err // io.EOF at the end
		}
		r.left = m.GetData()
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	r.tail = append(r.tail, b[:n]...)
	r.tail = append(r.tail[:0], r.tail[max(0, len(r.tail)-sha256.Size):]...)
	return n, nil
}

func (r *chunkReader) hash() string { return hex.EncodeToString(r.tail) }
