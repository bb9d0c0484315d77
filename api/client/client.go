// Package client talks to the meshd server or agent of this host over its unix
// socket, or to a server elsewhere with an access token.
package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	apiv1 "github.com/meshd/meshd/api/v1"
)

// Where servers and agents listen unless they are told otherwise, and the
// environment variable that names another socket, or a folder with sockets of
// the same names.
const (
	ServerSocket = "/run/meshd/server.sock"
	AgentSocket  = "/run/meshd/agent.sock"
	SocketEnv    = "MESHD_SOCKET"
)

// maxReply bounds an answer; that of a large mesh is some megabytes long.
const maxReply = 256 << 20

// AdminSocket is the socket for questions about the mesh: the server's or, on a
// host without a server, the agent's, which passes reads on.
func AdminSocket() string { return socket(ServerSocket, AgentSocket) }

// LocalSocket is the socket for questions about this host: the agent's.
func LocalSocket() string { return socket(AgentSocket) }

// socket gives the first of the paths, moved to the folder that SocketEnv names,
// at which there is something, or the first of all; or the one socket that
// SocketEnv names.
func socket(paths ...string) string {
	other := os.Getenv(SocketEnv)
	if info, err := os.Stat(other); other != "" && (err != nil || !info.IsDir()) {
		return other
	}
	for i, path := range paths {
		if other != "" {
			paths[i] = filepath.Join(other, filepath.Base(path))
		}
		if _, err := os.Stat(paths[i]); err == nil {
			return paths[i]
		}
	}
	return paths[0]
}

// A Client is a connection to one socket, or to a server elsewhere. Its calls
// fail with errors that say what to do; see Error.
type Client struct {
	conn   *grpc.ClientConn
	socket string
}

// An Option changes how Dial connects.
type Option func(*options)

type options struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// WithDialer connects over another network than the machine's.
func WithDialer(dial func(ctx context.Context, network, address string) (net.Conn, error)) Option {
	return func(o *options) { o.dial = dial }
}

// Dial connects to the server or agent that listens on a socket. It fails at
// once, with an *UnavailableError, when nobody does.
func Dial(ctx context.Context, socket string, opts ...Option) (*Client, error) {
	o := options{dial: new(net.Dialer).DialContext}
	for _, opt := range opts {
		opt(&o)
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return o.dial(ctx, "unix", socket) }
	probe, err := dial(ctx, "")
	if err != nil {
		return nil, &UnavailableError{socket, err}
	}
	probe.Close()
	// The server's name only fills a header: a socket has none.
	conn, err := grpc.NewClient("passthrough:///localhost",
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply)),
		grpc.WithUnaryInterceptor(explainer{}.explain),
		grpc.WithStreamInterceptor(explainer{}.explainStream),
	)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", socket, err)
	}
	return &Client{conn, socket}, nil
}

// Admin asks about the mesh, and changes it.
func (c *Client) Admin() apiv1.AdminClient { return apiv1.NewAdminClient(c.conn) }

// Local asks an agent about its host, and changes what the host declares.
func (c *Client) Local() apiv1.LocalClient { return apiv1.NewLocalClient(c.conn) }

// Socket is the one that the client is connected to, "" for a server elsewhere.
func (c *Client) Socket() string { return c.socket }

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// An UnavailableError says that nobody answers on a socket.
type UnavailableError struct {
	Socket string
	Err    error
}

func (e *UnavailableError) Error() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return fmt.Sprintf("%s may not be opened by this user: %s", e.Socket, e.Fix())
	}
	return fmt.Sprintf("no meshd %s runs on this host (%s: %s): %s", role(e.Socket), e.Socket, reason(e.Err), e.Fix())
}

// Unwrap gives the network's error.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Fix is what to do about it.
func (e *UnavailableError) Fix() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return "run it as root"
	}
	return "start it with: systemctl start meshd-" + role(e.Socket)
}

// role says what listens on a socket, as far as its name tells.
func role(socket string) string {
	if filepath.Base(socket) == filepath.Base(AgentSocket) {
		return "agent"
	}
	return "server"
}

func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such socket"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there"
	}
	return err.Error()
}
