package grpcx

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestLater(t *testing.T) {
	f := func(err error, code codes.Code, text string, wait time.Duration, ok bool) {
		t.Helper()
		got, is := RetryAfter(err)
		if s := status.Convert(err); got != wait || is != ok || s.Code() != code || s.Message() != text {
			t.Errorf("%v: %v, %v", err, got, is)
		}
	}
	late := Later(1500*time.Millisecond, "%d calls", 7)
	f(late, codes.ResourceExhausted, "7 calls: try again in 1.5s", 1500*time.Millisecond, true)
	f(fmt.Errorf("calling: %w", late), codes.ResourceExhausted, "calling: rpc error: code = ResourceExhausted desc = 7 calls: try again in 1.5s", 1500*time.Millisecond, true)
	f(Later(0, "x"), codes.ResourceExhausted, "x: try again in 1ms", time.Millisecond, true)
	f(status.Error(codes.ResourceExhausted, "no"), codes.ResourceExhausted, "no", 0, false)
	f(errors.New("no"), codes.Unknown, "no", 0, false)
}
