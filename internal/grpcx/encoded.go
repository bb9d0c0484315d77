package grpcx

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers what codec builds upon
	"google.golang.org/grpc/mem"
)

// Encoded is a message that is encoded already, in pieces that follow each
// other. What goes to many peers is encoded once: the pieces may be shared, and
// must not change any more. Streams of servers made by NewServer take it in
// SendMsg.
type Encoded [][]byte

// codec is that of protobuf, and passes on what is encoded.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

func (c codec) Marshal(message any) (mem.BufferSlice, error) {
	pieces, ok := message.(Encoded)
	if !ok {
		return c.CodecV2.Marshal(message)
	}
	data := make(mem.BufferSlice, len(pieces))
	for i, piece := range pieces {
		data[i] = mem.SliceBuffer(piece)
	}
	return data, nil
}
