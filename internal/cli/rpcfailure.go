package cli

import (
	"errors"

	"github.com/urfave/cli/v2"
	"google.golang.org/grpc/codes"

	"github.com/meshd/meshd/api/client"
)

const unchanged = "nothing was changed"

// rpcFailure adds to what a server or an agent answered what it means, for a
// call that was to change something, and what to do next. Errors of our own
// pass as they are.
func rpcFailure(doing string, change bool, err error) error {
	var answer *client.Error
	if !errors.As(err, &answer) {
		return err
	}
	f := &failure{what: "cannot " + doing, cause: answer, next: remedy(answer.Code), code: answer.Code}
	switch answer.Code {
	case codes.DeadlineExceeded:
		f.cause = errors.New("no answer within " + callTimeout.String())
		f.effect = "the change may yet be made"
	case codes.Canceled:
		f.cause = errors.New("interrupted")
		f.effect = "the change may yet be made"
	case codes.Unknown: // what servers answer when they cannot tell
		f.effect = "the change may have been made or not"
	case codes.Unavailable:
		f.effect = "most likely nothing was changed"
	default:
		f.effect = unchanged
	}
	if !change {
		f.effect = ""
	}
	return f
}

// hintStale names the way to ask that needs no leader, where there is one.
func hintStale(c *cli.Context, err error) error {
	var f *failure
	if findFlag(c.Command.Flags, "stale") == nil || !errors.As(err, &f) {
		return err
	}
	if f.code == codes.DeadlineExceeded || f.code == codes.Unavailable {
		f.next += "\nto see what the nearest server has: " + c.Command.HelpName + " --stale"
	}
	return f
}

// remedy is what to do when an answer does not say so itself.
func remedy(code codes.Code) string {
	switch code {
	case codes.Unavailable:
		return "see how the servers are: meshd status\nsee the log of this host: journalctl -u meshd-agent -u meshd-server -n 50"
	case codes.DeadlineExceeded:
		return "see whether the servers have a leader: meshd status"
	case codes.Unknown:
		return "look whether it was made before you try again"
	case codes.PermissionDenied, codes.Unauthenticated:
		return "run it as root on a host that runs a server; meshd members shows which do"
	case codes.Aborted:
		return "read the present state, then try again"
	}
	return ""
}
