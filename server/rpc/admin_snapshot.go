package rpc

import (
	"bufio"
	"bytes"
	"context"
	"io"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// chunkSize is how much of a snapshot a message carries.
const chunkSize = 256 << 10

// Save writes the state with every change that was acknowledged before the call,
// or, when stale, what this server has. Changes go on meanwhile.
func (r *Replica) Save(ctx context.Context, w io.Writer, stale bool) error {
	if !stale {
		if _, err := r.Fresh(ctx); err != nil {
			return err
		}
	}
	_, err := r.store.SaveSnapshot(ctx, w)
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
