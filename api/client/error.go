package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// An Error is what a server or agent answered instead of doing what was asked.
type Error struct {
	Code    codes.Code
	Message string // in a sentence, with the remedy where there is one
}

func (e *Error) Error() string { return e.Message }

// GRPCStatus lets status.Code and status.Convert work on it.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// explain turns the errors of calls into what people can read.
func explain(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, conn, opts...)
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	code, message := s.Code(), s.Message()
	switch {
	case late(ctx, s):
		code = codes.DeadlineExceeded
		message = "there was no answer in time: look at how the mesh is doing with meshd status, and try again"
	case code == codes.Unimplemented:
		message = "the meshd that runs on this host does not know that request: restart it with the version of this command (" + message + ")"
	}
	return &Error{code, message}
}

// late reports whether a call ended because its time was up. The deadline
// travels with the call, and the other side may be the first to see it pass: it
// then says so itself or resets the stream, which nobody here has cancelled.
func late(ctx context.Context, s *status.Status) bool {
	deadline, ok := ctx.Deadline()
	switch s.Code() {
	case codes.DeadlineExceeded:
		return s.Message() == context.DeadlineExceeded.Error() || ok && !time.Now().Before(deadline)
	case codes.Canceled:
		return !errors.Is(ctx.Err(), context.Canceled)
	}
	return false
}
