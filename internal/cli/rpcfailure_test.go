package cli

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/meshd/meshd/api/client"
)

// What is said of the effect must not be more than the answer tells.
func TestEffectOfFailedChanges(t *testing.T) {
	f := func(code codes.Code, change bool, want string) {
		t.Helper()
		var got *failure
		if !errors.As(rpcFailure("do it", change, &client.Error{Code: code, Message: "no"}), &got) || got.effect != want {
			t.Errorf("%v, change %v: %+v, want %q", code, change, got, want)
		}
	}
	f(codes.FailedPrecondition, true, "nothing was changed")
	f(codes.Unknown, true, "the change may have been made or not")
	f(codes.DeadlineExceeded, true, "the change may yet be made")
	f(codes.Unavailable, true, "most likely nothing was changed")
	f(codes.Unknown, false, "")
	if err := errors.New("ours"); rpcFailure("do it", true, err) != err {
		t.Error("an error of our own was changed")
	}
}
