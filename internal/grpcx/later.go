package grpcx

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Later is the error of a call of which there are too many: ResourceExhausted,
// with the time after which it may be made again, in words and for programs.
func Later(wait time.Duration, format string, args ...any) error {
	wait = max(wait.Round(time.Millisecond), time.Millisecond)
	s := status.New(codes.ResourceExhausted, fmt.Sprintf("%s: try again in %v", fmt.Sprintf(format, args...), wait))
	detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	if err != nil {
		return s.Err() // the words alone
	}
	return detailed.Err()
}

// RetryAfter gives the time that Later has put into an error; ok is false when
// it is another error.
func RetryAfter(err error) (wait time.Duration, ok bool) {
	for _, detail := range status.Convert(err).Details() {
		if info, isRetry := detail.(*errdetails.RetryInfo); isRetry {
			return info.GetRetryDelay().AsDuration(), true
		}
	}
	return 0, false
}
