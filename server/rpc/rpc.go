// Package rpc serves the gRPC services of one server: it knows who calls,
// decides who may, and turns requests into reads and commands.
package rpc

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/tap"

	apiv1 "github.com/meshd/meshd/api/v1"
	"github.com/meshd/meshd/internal/grpcx"
	"github.com/meshd/meshd/internal/telemetry"
	"github.com/meshd/meshd/server/ca"
	"github.com/meshd/meshd/store"
)

// callTimeout bounds a call. Callers wait a little longer, to hear what it was
// that took so long.
const callTimeout = 10 * time.Second

// MaxRequest is the largest message in bytes that is taken from who asks for
// something as an operator: a set of resources as large as one change may be.
const MaxRequest = 4<<20 + 64<<10

// Config of the services.
type Config struct {
	Replica *Replica
	// Authority is the mesh's certificate authority as it is now.
	Authority func() (*ca.Authority, error)
	// Standing is how far this server has taken over the authority.
	Standing func() ca.Standing
	// Vault makes authorities.
	Vault ca.Vault
	// Secrets are what a server that joins is given.
	Secrets func() *apiv1.ServerSecrets
	// Peers is what is known of the servers beyond the replicated state.
	Peers func() []Peer
	// Streams holds the streams of agents.
	Streams Streams
	// Backup says how this server fares with its scheduled snapshots, nil when it
	// makes none.
	Backup  func() *apiv1.BackupStatus
	Version string
	// Self is the name of this server.
	Self   string
	Logger *slog.Logger
	// Metrics may be nil, for none.
	Metrics prometheus.Registerer
	// Kin are the servers that may call as such.
	Kin Kin
	// Problem says why this server takes no part any more, empty while it does.
	Problem func() string
	// Keys are those of gossip.
	Keys GossipKeys
	// Health is what autopilot makes of the servers; ok is false on a server that
	// does not lead.
	Health func() (h store.ClusterHealth, ok bool)
}

// Streams serves Control.Connect.
type Streams interface {
	Connect(apiv1.Control_ConnectServer) error
	// Agents tells what the agents with a stream here run.
	Agents() []*apiv1.AgentStatus
}

// A Peer is one server as the answering one sees it.
type Peer struct {
	ID      string
	Leader  bool
	Voter   bool
	Alive   bool
	Left    bool
	Version string
}

// Services are the gRPC services of one server.
type Services struct {
	cfg     Config
	replica *Replica
	log     *slog.Logger
	metrics *metrics
	joins   *joinLimiter
	orders  *orderLimiter
	// failures are attempts to authenticate, by their sources; changes are those
	// that bearers of access tokens make.
	failures, changes *limiter
	// refusals is a log that strangers cannot flood.
	refusals *slog.Logger
}

// New makes the services.
func New(cfg Config) *Services {
	return &Services{
		cfg: cfg, replica: cfg.Replica, log: cfg.Logger, metrics: newMetrics(cfg.Metrics), joins: newJoinLimiter(), orders: newOrderLimiter(),
		failures: newLimiter(failureRate, failureBurst), changes: newLimiter(changeRate, changeBurst),
		refusals: telemetry.Limit(cfg.Logger, 20, 10*time.Second),
	}
}

// TLS makes the gRPC server for those who show a certificate on the TLS port.
func (s *Services) TLS() *grpc.Server {
	g := grpcx.NewServer(s.options()...)
	apiv1.RegisterEnrollServer(g, &enroll{Services: s})
	apiv1.RegisterControlServer(g, &control{Services: s})
	apiv1.RegisterAdminServer(g, &admin{Services: s})
	apiv1.RegisterPeerServer(g, &peerService{replica: s.replica, streams: s.cfg.Streams, standing: s.cfg.Standing, keys: s.cfg.Keys, backup: s.cfg.Backup})
	return g
}

// Strangers makes the gRPC server for those who show none: they can join, or
// bear an access token.
func (s *Services) Strangers() *grpc.Server {
	g := grpcx.NewStrangerServer(MaxRequest, s.options()...)
	apiv1.RegisterEnrollServer(g, &enroll{Services: s})
	apiv1.RegisterAdminServer(g, &admin{Services: s})
	return g
}

// Socket makes the gRPC server for the unix socket.
func (s *Services) Socket() *grpc.Server {
	g := grpcx.NewServer(append(s.options(), grpc.MaxRecvMsgSize(MaxRequest))...)
	apiv1.RegisterAdminServer(g, &admin{Services: s})
	return g
}

func (s *Services) options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.InTapHandle(s.tap), grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream)}
}

// tap refuses calls before any of their messages is read, let alone kept, as far
// as that takes no wait.
func (s *Services) tap(ctx context.Context, call *tap.Info) (context.Context, error) {
	if _, local := grpcx.PeerUID(ctx); local && mayCall(call.FullMethodName)&administrator == 0 {
		return ctx, nil // a unix socket has no such method
	}
	return ctx, s.precheck(ctx, call.Header, call.FullMethodName)
}

func (s *Services) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, err := s.admit(ctx, info.FullMethod)
	if err != nil {
		s.metrics.called(info.FullMethod, err)
		return nil, err
	}
	return s.answer(ctx, request, info, handle)
}

// answer makes a call of a caller that may.
func (s *Services) answer(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	start := time.Now()
	reply, err := handle(ctx, request)
	s.metrics.called(info.FullMethod, err)
	s.metrics.took(info.FullMethod, time.Since(start))
	return reply, err
}

func (s *Services) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, err := s.admit(stream.Context(), info.FullMethod)
	if err == nil {
		err = handle(service, admitted{stream, ctx})
	}
	s.metrics.called(info.FullMethod, err)
	return err
}

// admitted is a stream whose context knows the caller.
type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

func (a admitted) Context() context.Context { return a.ctx }
