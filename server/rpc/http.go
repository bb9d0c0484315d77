package rpc

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// Call makes one call of a method of Admin that did not come by gRPC. ctx knows
// the peer as grpcx.WithPeer has it, and what it shows as incoming metadata. decode
// fills in the request, and is called only for who may make the call.
func (s *Services) Call(ctx context.Context, method string, decode func(proto.Message) error) (proto.Message, error) {
	full := adminMethod(method)
	for _, m := range apiv1.Admin_ServiceDesc.Methods {
		if m.MethodName != method {
			continue
		}
		ctx, err := s.admit(ctx, full)
		if err != nil {
			s.metrics.called(full, err)
			return nil, err
		}
		reply, err := m.Handler(&admin{Services: s}, ctx, func(request any) error { return decode(request.(proto.Message)) }, s.answer)
		if err != nil {
			return nil, err
		}
		return reply.(proto.Message), nil
	}
	panic("BUG: Admin has no method " + method)
}

// Stream is Call for a method with a stream.
func (s *Services) Stream(method string, stream grpc.ServerStream) error {
	for _, d := range apiv1.Admin_ServiceDesc.Streams {
		if d.StreamName == method {
			return s.stream(&admin{Services: s}, stream, &grpc.StreamServerInfo{FullMethod: adminMethod(method)}, d.Handler)
		}
	}
	panic("BUG: Admin has no stream " + method)
}

func adminMethod(name string) string {
	return fmt.Sprintf("/%s/%s", apiv1.Admin_ServiceDesc.ServiceName, name)
}
