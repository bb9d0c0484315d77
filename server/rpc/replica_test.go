package rpc

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshd/meshd/store/command"
)

func TestOutcomeOfAFailedProposal(t *testing.T) {
	f := func(code codes.Code, reached bool, want string) {
		t.Helper()
		err := outcome(status.Error(code, "why"), reached)
		var retry *retryError
		var unknown *OutcomeError
		got := "final"
		switch {
		case errors.As(err, &retry):
			got = "again"
		case errors.As(err, &unknown):
			got = "unknown"
		}
		if got != want {
			t.Errorf("%v, reached %v: %s, want %s", code, reached, got, want)
		}
	}
	f(codes.FailedPrecondition, true, "again")
	f(codes.Unavailable, false, "again")
	f(codes.DeadlineExceeded, false, "again")
	f(codes.Unavailable, true, "unknown")
	f(codes.DeadlineExceeded, true, "unknown")
	f(codes.Canceled, true, "unknown")
	f(codes.Unknown, true, "unknown")
	f(codes.InvalidArgument, true, "final")
	f(codes.PermissionDenied, true, "final")
}

func TestErrorsKeepTheirCodeAndText(t *testing.T) {
	f := func(err error, code codes.Code, want string) {
		t.Helper()
		s := status.Convert(fmt.Errorf("writing X: %w", err))
		if s.Code() != code || !strings.Contains(s.Message(), want) || strings.Contains(s.Message(), "rpc error") {
			t.Errorf("%v: %v %q", err, s.Code(), s.Message())
		}
	}
	remote := status.Error(codes.Unavailable, "connection lost")
	f(&NoLeaderError{remote}, codes.Unavailable, "nothing was changed: connection lost")
	f(&OutcomeError{remote}, codes.Unknown, "may or may not have been applied; look before you repeat it: connection lost")

	// Over two servers, the text is said once.
	s := status.Convert(&OutcomeError{asPeer(&OutcomeError{errors.New("lost")})})
	if strings.Count(s.Message(), "outcome is unknown") != 1 {
		t.Errorf("got %q", s.Message())
	}
	if c := status.Code(asPeer(again(errors.New("not the leader")))); c != codes.FailedPrecondition {
		t.Errorf("what was not done has code %v", c)
	}
}

func TestEveryRefusalHasACode(t *testing.T) {
	for number, name := range command.Refusal_name {
		code := codeOf(command.Refusal(number))
		if (code == codes.Internal) != (number == 0) {
			t.Errorf("%s has code %v", name, code)
		}
	}
}
