package cli

import (
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/meshd/meshd/api/client"
)

// rpcFailure adds to what a server or an agent answered what it means and what
// to do next. Errors of our own pass as they are.
func rpcFailure(doing string, err error) error {
	var answer *client.Error
	if !errors.As(err, &answer) {
		return err
	}
	f := &failure{what: "cannot " + doing, cause: answer}
	switch answer.Code {
	case codes.Unavailable:
		f.next = "see how the servers are: meshd status\nsee the log of this host: journalctl -u meshd-agent -u meshd-server -n 50"
	case codes.DeadlineExceeded:
		f.effect = "if it was a change, it may yet be made"
		f.next = "see whether the servers have a leader: meshd status"
	case codes.PermissionDenied, codes.Unauthenticated:
		f.effect = unchanged
		f.next = "run it as root on a host that runs a server; meshd members shows which do"
	case codes.Canceled:
		f.cause = errors.New("interrupted")
	case codes.Aborted, codes.FailedPrecondition:
		f.effect = unchanged
		f.next = "read the present state, then try again"
	case codes.NotFound, codes.InvalidArgument, codes.AlreadyExists, codes.Unimplemented:
		f.effect = unchanged
	}
	return f
}

const unchanged = "nothing was changed"
