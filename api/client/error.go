package client

import (
	"context"
	"errors"
	"io"
	"regexp"
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

// An explainer turns the errors of calls into what people can read.
type explainer struct {
	server string // host:port of one elsewhere, "" on this host
}

func (e explainer) explain(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return e.words(ctx, invoke(ctx, method, request, reply, conn, opts...))
}

// explainStream does the same for a call of many messages.
func (e explainer) explainStream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		return nil, e.words(ctx, err)
	}
	return explainedStream{stream, e}, nil
}

type explainedStream struct {
	grpc.ClientStream
	explainer explainer
}

func (s explainedStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err == io.EOF {
		return err
	}
	return s.explainer.words(s.Context(), err)
}

func (e explainer) words(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	code, message := s.Code(), s.Message()
	switch {
	case late(ctx, s):
		code = codes.DeadlineExceeded
		message = "there was no answer in time: look at how the mesh is doing with meshd status, and try again"
	case code == codes.Unimplemented && e.server != "":
		message = "the server at " + e.server + " does not know that request: update it to the version of this command (" + message + ")"
	case code == codes.Unimplemented:
		message = "the meshd that runs on this host does not know that request: restart it with the version of this command (" + message + ")"
	case code == codes.Unavailable && e.server != "":
		message = unreachable(e.server, message)
	}
	return &Error{code, message}
}

var transport = regexp.MustCompile(`^connection error: desc = "(?:transport: )?(?:Error while dialing: |authentication handshake failed: )?(.*)"$`)

// unreachable takes from the error of a connection what gRPC says around it. What
// a server answered stays as it is.
func unreachable(server, message string) string {
	m := transport.FindStringSubmatch(message)
	if m == nil {
		return message
	}
	return "the server at " + server + " cannot be reached: " + m[1]
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
