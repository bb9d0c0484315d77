package grpcx

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/meshd/meshd/internal/netx"
	"github.com/meshd/meshd/internal/pki"
)

const (
	// MaxMessage is the largest message in bytes, either way.
	MaxMessage = 16 << 20

	// A silent peer is probed after keepaliveTime and given up keepaliveTimeout
	// later.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 3 * time.Second

	maxStreams = 128 // of one connection
	// maxIdle is how long a connection without a call stays open.
	maxIdle    = 10 * time.Minute
	maxHeaders = 16 << 10
)

// NewServer makes a gRPC server for the listeners of a Mux and for unix
// sockets. Its Stop waits for handlers to return.
func NewServer(opts ...grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(serverCredentials{}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, MaxConnectionIdle: maxIdle}),
		// Half of what our clients do, so that a hurried clock is no offence.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.WaitForHandlers(true),
		grpc.ForceServerCodecV2(newCodec()),
	}, opts...)...)
}

// Dial makes a client of the server at an address (host:port), which must prove
// to be one of t's trust domain. It connects with the first call, and again
// after every loss.
func Dial(network netx.Network, address string, t TLS, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return dial(network, "tcp", address, clientCredentials{credentials.NewTLS(t.client(GRPC)), t.Links}, opts)
}

// Eager has a client try every 100 ms to connect while a call waits for it. It is
// for servers among themselves, who are few and wait for each other with every
// write. (ResetConnectBackoff would do, but grpc 1.85 has a data race in it.)
func Eager() grpc.DialOption {
	return grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1, Jitter: 0.2, MaxDelay: 100 * time.Millisecond},
		MinConnectTimeout: 5 * time.Second,
	})
}

// DialPinned makes a client for a host that is about to join: it shows no
// certificate, and the server must be one of the trust domain under a root whose
// key has the pin.
func DialPinned(network netx.Network, address, trustDomain string, pin [sha256.Size]byte, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	config := clientConfig([]string{GRPC}, func(state tls.ConnectionState) error {
		_, err := pki.VerifyPinned(state, pin, trustDomain)
		return err
	})
	return dial(network, "tcp", address, credentials.NewTLS(config), opts)
}

// DialUnix makes a client of a server or agent on this host, who learns from
// the kernel which user calls.
func DialUnix(network netx.Network, path string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return dial(network, "unix", path, insecure.NewCredentials(), opts)
}

func dial(network netx.Network, kind, address string, creds credentials.TransportCredentials, opts []grpc.DialOption) (*grpc.ClientConn, error) {
	target := "passthrough:///" + address
	if kind == "unix" {
		target = "passthrough:///localhost" // also the :authority, where a path is not allowed
	}
	c, err := grpc.NewClient(target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return network.DialContext(ctx, kind, address)
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", address, err)
	}
	return c, nil
}
