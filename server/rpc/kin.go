package rpc

import (
	"context"
	"errors"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Kin are the servers that belong together: of one mesh, with as many recoveries
// from a lost majority behind them. Servers tell theirs with every call among
// themselves.
type Kin struct {
	ClusterID string
	Recovery  uint32
}

const (
	clusterHeader  = "meshd-cluster"
	recoveryHeader = "meshd-recovery"
	// verdictTrailer says to a server that it can never take part again; see
	// Verdict.
	verdictTrailer = "meshd-verdict"
)

// Verdicts on servers that can never take part again.
const (
	Removed    = "removed"     // taken out of the mesh
	LeftBehind = "left-behind" // the mesh went on without it, after a recovery
)

// A VerdictError is another server's word that this one can never take part
// again.
type VerdictError struct {
	Verdict string // Removed or LeftBehind
	Reason  string
}

func (e *VerdictError) Error() string { return e.Reason }

// Dial makes the calls of a connection to another server tell these kin.
func (k Kin) Dial() grpc.DialOption {
	return grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx = metadata.AppendToOutgoingContext(ctx, clusterHeader, k.ClusterID, recoveryHeader, strconv.FormatUint(uint64(k.Recovery), 10))
		return call(ctx, method, request, reply, conn, opts...)
	})
}

// check refuses a server that is no kin. One that tells nothing is older than
// the question.
func (k Kin) check(ctx context.Context, name string) error {
	told := metadata.ValueFromIncomingContext(ctx, clusterHeader)
	if len(told) == 0 {
		return nil
	}
	if told[0] != k.ClusterID {
		return status.Errorf(codes.PermissionDenied, "%s is of mesh %s, and this one is %s: correct the addresses", name, printable(told[0]), k.ClusterID)
	}
	recovery, err := strconv.ParseUint(first(metadata.ValueFromIncomingContext(ctx, recoveryHeader)), 10, 32)
	switch {
	case err != nil:
		return status.Errorf(codes.InvalidArgument, "%s does not tell how often its mesh was recovered", name)
	case uint32(recovery) < k.Recovery:
		pronounce(ctx, LeftBehind)
		return status.Errorf(codes.PermissionDenied, "%s was left behind by a recovery of the mesh (it knows of %d, and this was number %d): move its data away and join again with a new token", name, recovery, k.Recovery)
	case uint32(recovery) > k.Recovery:
		return status.Errorf(codes.FailedPrecondition, "this server was left behind by a recovery of the mesh: move its data away and join it again with a new token")
	}
	return nil
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// pronounce sends a verdict along with the refusal of a call.
func pronounce(ctx context.Context, verdict string) {
	// It fails only when the call is over, and then nobody listens.
	_ = grpc.SetTrailer(ctx, metadata.Pairs(verdictTrailer, verdict))
}

// verdict gives the error of a call as a VerdictError if it came with one.
func verdict(trailer metadata.MD, err error) error {
	if v := first(trailer.Get(verdictTrailer)); v != "" {
		return &VerdictError{v, plain(err)}
	}
	return errors.New(plain(err))
}
